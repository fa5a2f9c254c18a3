"""One message stays one message (threats S1), and what leaves us cannot be read in two ways (S2).

Every form of a false end of data, at every place, through every kind of door, in every framing; then everything that
was accepted is looked at octet by octet where it arrives. Forms are generated, not listed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from staffetta.net.memory import Shape, single_octets, whole
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire
from staffetta.testing.sink_script import Received, Script, faults_of

BEFORE = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\n", b"\n\r", b"\r\n\0", b"\r\n "]
AFTER = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b" \r\n", b"\t\r\n"]
FORMS = [one + b"." + two for one, two in itertools.product(BEFORE, AFTER) if b"\r\n.\r\n" not in one + b"." + two]
SMUGGLED = b"MAIL FROM:<evil@ext.example>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled"
HEAD = b"From: anna@example.org\r\nSubject: honest\r\n"
FOLLOWERS = b"NOOP\r\nVRFY sync\r\nNOOP\r\n"
SYNC = ["250", "252", "250"]
TRUSTED = "198.51.100.9"
MESSAGE_SIZE = 100_000
LINE_OCTETS = 65_536

DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[listen.mx-tls]
bind = ["192.0.2.25:2465"]
role = "mx"
tls = "implicit"
[listen.submission-tls]
bind = ["192.0.2.25:465"]
role = "submission"
tls = "implicit"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
trust = ["198.51.100.0/24"]
[domain."example.org"]
"""

DOOR_NAMES = ["mx", "mx-tls", "submission-tls", "relay"]


def is_clean(form: bytes) -> bool:
    """Strange, but made of whole lines: a line of a dot and a space is just that."""
    return not set(form.replace(b"\r\n", b"")) & {0, 10, 13}


def places(form: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Where the form stands: a name, the content as it is sent without its end, and where in it the form begins."""
    for name, lead in (
        ("first line", b""),
        ("header", HEAD + b"X-Note: a"),
        ("end of header", HEAD),
        ("body", HEAD + b"\r\nhello"),
        ("behind a dot", HEAD + b"\r\n..\r\n..."),
    ):
        yield name, lead + form + SMUGGLED + b"\r\n", len(lead)


def big_places(form: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Places that need a lot of content."""
    line = b"x" * 998 + b"\r\n"
    for name, lead in (
        ("behind a line that is too long", HEAD + b"\r\n" + b"y" * (LINE_OCTETS + 10)),
        ("in a message that is too big", HEAD + b"\r\n" + line * (MESSAGE_SIZE // 1000 + 1)),
    ):
        yield name, lead + form + SMUGGLED + b"\r\n", len(lead)


def run(
    folder: Path, play: Callable[[House], Awaitable[None]], shape: Shape = whole, script: Script | None = None
) -> None:
    clock = virtual.VirtualClock()
    core = {"errors": 10**6, "commands": 10**6, "message_size": MESSAGE_SIZE}
    accounts = {"anna@example.org": "secret"}

    async def main() -> None:
        async with House(folder, DOORS, clock=clock, accounts=accounts, core=core, shape=shape, script=script) as house:
            await play(house)

    virtual.run(main, clock)


class Courier:
    """A client that sends honest envelopes; `recipient` is where what it sends ends."""

    def __init__(self, house: House, door: str) -> None:
        self.house = house
        self.wire = HouseWire(house, door, tls=house.settings[door].implicit_tls, client=TRUSTED)
        self.normalises = door in {"submission-tls", "relay"}
        outside = self.normalises
        self.recipient = "u@ext.example" if outside else "anna@example.org"
        self.sender = "anna@example.org" if outside else "x@ext.example"
        self.login = door == "submission-tls"
        self.count = 0

    async def begin(self) -> None:
        await self.wire.begin()
        if self.login:
            assert (await self.wire.login("anna@example.org", "secret"))[0][:3] == "235"

    async def envelope(self) -> None:
        codes = [reply[:3] for reply in await self.wire.say(*self.commands())]
        assert codes == ["250", "250"]

    def commands(self) -> list[str]:
        return [f"MAIL FROM:<{self.sender}>", f"RCPT TO:<{self.recipient}>"]

    async def data(self, pieces: list[bytes]) -> str:
        """Send content in these pieces, its end and commands behind it; the code that content was answered with."""
        await self.envelope()
        assert [reply[:3] for reply in await self.wire.say("DATA")] == ["354"]
        codes: list[str] = []
        for piece in (*pieces[:-1], pieces[-1] + b".\r\n" + FOLLOWERS):
            codes += [reply[:3] for reply in await self.wire.raw(piece)]
        assert codes[1:] == SYNC, f"out of step: {codes}"
        return codes[0]

    async def chunks(self, pieces: list[bytes]) -> str:
        """The same with BDAT, all chunks and commands in one piece."""
        await self.envelope()
        octets = b""
        for piece in pieces[:-1]:
            octets += b"BDAT %d\r\n%b" % (len(piece), piece)
        octets += b"BDAT %d LAST\r\n%b" % (len(pieces[-1]), pieces[-1]) + FOLLOWERS
        codes = [reply[:3] for reply in await self.wire.raw(octets)]
        assert codes[-3:] == SYNC, f"out of step: {codes}"
        ends = codes[:-3]
        assert len(ends) == len(pieces), f"out of step: {codes}"
        refused = [code for code in ends if code != "250"]
        return refused[0] if refused else ends[-1]

    def judge(self, code: str, what: str, form: bytes) -> None:
        """One message with the honest envelope, or one refusal; a mx door takes none with a bare CR, LF or NUL."""
        accepted = self.house.spool.accepted
        if code == "250":
            self.count += 1
            assert self.normalises or is_clean(form), f"{what}: a mx door took it"
            assert str(accepted[-1].message.sender.reverse_path) == self.sender, what
            assert [str(one.address) for one in accepted[-1].recipients] == [self.recipient], what
        else:
            assert code in {"550", "552", "554"}, what
        assert len(accepted) == self.count, f"{what}: {len(accepted) - self.count} more than sent"


def check_arrivals(house: House) -> list[Received]:
    messages = house.network.sink.messages
    for message in messages:
        assert faults_of(message) == [], message.raw
        assert b"evil" not in message.mail
    return messages


def test_forms() -> None:
    assert len(FORMS) == len(set(FORMS)) == 62
    assert len(list(filter(is_clean, FORMS))) == 5


@pytest.mark.parametrize("shape", [whole, single_octets], ids=["one segment", "octets"])
@pytest.mark.parametrize("door", DOOR_NAMES)
def test_data(door: str, shape: Shape, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        client = Courier(house, door)
        await client.begin()
        for form in FORMS:
            for name, content, _ in places(form):
                client.judge(await client.data([content]), f"{form!r} in {name}", form)
        await house.settled()
        assert len(check_arrivals(house)) == (client.count if client.normalises else 0)
        forms = FORMS if client.normalises else list(filter(is_clean, FORMS))
        # A login must be named in the header, which forms that stand in it may have ended.
        least = 3 if client.login else len(list(places(b"")))
        assert len(forms) * least <= client.count <= len(forms) * 5

    run(tmp_path, play, shape)


@pytest.mark.parametrize("door", ["mx", "submission-tls", "relay"])
def test_data_cut_at_every_octet_of_the_form(door: str, tmp_path: Path) -> None:
    """Each cut is a segment, and over TLS a record, of its own."""

    async def play(house: House) -> None:
        client = Courier(house, door)
        await client.begin()
        for form in FORMS:
            for name, content, at in list(places(form))[::3]:
                for cut in range(max(1, at - 1), at + len(form) + 2):
                    client.judge(
                        await client.data([content[:cut], content[cut:]]), f"{form!r} in {name}, cut at {cut}", form
                    )
        await house.settled()
        check_arrivals(house)

    run(tmp_path, play)


@pytest.mark.parametrize("door", ["mx", "submission-tls", "relay"])
def test_data_that_is_being_thrown_away(door: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        client = Courier(house, door)
        await client.begin()
        for form in FORMS:
            for name, content, at in big_places(form):
                for pieces in ([content], [content[: at + 2], content[at + 2 :]]):
                    code = await client.data(pieces)
                    assert code != "250", f"{form!r} {name}"
                    client.judge(code, f"{form!r} {name}", form)
        await house.settled()
        assert not house.network.attempts

    run(tmp_path, play)


@pytest.mark.parametrize("door", ["mx", "submission-tls", "relay"])
def test_forms_at_the_border_of_buffers(door: str, tmp_path: Path) -> None:
    borders = [4096, 16384, 65536]

    async def play(house: House) -> None:
        client = Courier(house, door)
        await client.begin()
        line = b"x" * 62 + b"\r\n"
        for form, border in itertools.product(FORMS[::5], borders):
            for offset in range(-4, 5):
                lead = HEAD + b"\r\n"
                lead += line * ((border + offset - len(lead)) // 64)
                lead += b"z" * (border + offset - len(lead))
                content = lead + form + SMUGGLED + b"\r\n"
                pieces = [content[at : at + border] for at in range(0, len(content), border)]
                client.judge(await client.data(pieces), f"{form!r} at {border + offset}", form)
        await house.settled()
        check_arrivals(house)

    run(tmp_path, play)


@pytest.mark.parametrize("shape", [whole, single_octets], ids=["one segment", "octets"])
@pytest.mark.parametrize("door", DOOR_NAMES)
def test_chunks(door: str, shape: Shape, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        client = Courier(house, door)
        await client.begin()
        for form in FORMS:
            content = HEAD + b"\r\nhello" + form + SMUGGLED + b"\r\n"
            at = content.index(b"hello") + 5
            client.judge(await client.chunks([content]), f"{form!r} in a chunk", form)
            for cut in range(at, at + len(form) + 1):
                client.judge(
                    await client.chunks([content[:cut], content[cut:]]), f"{form!r} across chunks at {cut}", form
                )
            client.judge(
                await client.chunks([content[:at], form, content[at + len(form) :]]), f"{form!r} as a chunk", form
            )
            client.judge(await client.chunks([content, b""]), f"{form!r} before an empty chunk", form)
        await house.settled()
        check_arrivals(house)

    run(tmp_path, play, shape)


@pytest.mark.parametrize("door", DOOR_NAMES)
def test_a_true_end_behind_a_doubled_cr_is_the_same_everywhere(door: str, tmp_path: Path) -> None:
    """CR CR LF . CR LF holds the true end: it ends the message at every door, and what follows are commands."""

    async def play(house: House) -> None:
        client = Courier(house, door)
        await client.begin()
        for cut in (0, 1, 2, 3, 4, 5):
            await client.envelope()
            await client.wire.say("DATA")
            octets = HEAD + b"\r\nhello" + b"\r\r\n.\r\n" + FOLLOWERS
            at = len(HEAD) + 7 + cut
            codes = [reply[:3] for part in (octets[:at], octets[at:]) for reply in await client.wire.raw(part)]
            assert codes == ["250" if client.normalises else "554", *SYNC]
        await house.settled()
        check_arrivals(house)

    run(tmp_path, play)


@pytest.mark.parametrize("door", ["mx", "submission-tls", "relay"])
def test_connection_that_ends_inside_content_leaves_nothing(door: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for content in (HEAD + b"\r\nhello\r\n", HEAD + b"\r\nhello\r\n.", HEAD + b"\r\nhello\r\n.\r", HEAD):
            for verb in ("DATA", f"BDAT {len(content) + 1} LAST"):
                for leave in (HouseWire.leave, HouseWire.cut):
                    client = Courier(house, door)
                    await client.begin()
                    await client.envelope()
                    await client.wire.say(verb)
                    await client.wire.raw(content)
                    leave(client.wire)
                    await house.quiet()
        await house.settled(60)
        assert not house.spool.accepted
        assert not house.parts.house.sessions

    run(tmp_path, play)


# What leaves.


def meant(content: bytes) -> bytes:
    """What DATA means at a door that normalises; written without a look at protocol/framing."""
    unstuffed = re.sub(rb"(\A|\r\n)\.", rb"\1", content)
    return re.sub(rb"\r\n|\r|\n", b"\r\n", unstuffed).replace(b"\0", b"")


BODIES = [
    *[b"hello" + form + b"MAIL FROM:<evil@ext.example>\r\n" for form in FORMS],
    b"..\r\n", b"...\r\n..\r\n", b"\r\n" * 5, b"no line end", b"\r", b"\n", b"\0", b"\n.\n", b"\r.\r", b"a\r\n..",
    b".hidden\n.hidden\r.hidden\r\n", b"x" * 5000 + b"\r\n", b"\xff\xfe\x80\r\n", b"\r\r\r\n\n\n\r\n\r",
    b"\r\n..\r\n..\r\n",
]  # fmt: skip


@pytest.mark.parametrize("door", ["submission-tls", "relay"])
@pytest.mark.parametrize("extensions", [("PIPELINING", "8BITMIME"), ("CHUNKING", "8BITMIME"), ()], ids=str)
@pytest.mark.parametrize("shape", [whole, single_octets], ids=["one segment", "octets"])
def test_what_is_accepted_leaves_whole(door: str, extensions: tuple[str, ...], shape: Shape, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        client = Courier(house, door)
        await client.begin()
        expected = []
        for body in BODIES:
            content = HEAD + b"\r\n" + body
            if re.sub(rb"(\A|\r\n)\.\r\n", b"", content) == content:
                end = b"" if content.endswith(b"\r\n") else b"\r\n"
                assert await client.data([content + end]) == "250", body
                expected.append(meant(body + end))
            assert await client.chunks([content]) == "250", body
            chunk = re.sub(rb"\r\n|\r|\n", b"\r\n", body).replace(b"\0", b"")
            expected.append(chunk if chunk.endswith(b"\r\n") or not chunk else chunk + b"\r\n")
        await house.settled(600)
        messages = check_arrivals(house)
        assert sorted(message.content.partition(b"\r\n\r\n")[2] for message in messages) == sorted(expected)

    run(tmp_path, play, shape, Script(extensions=extensions))


def test_reports_that_hold_what_was_sent(tmp_path: Path) -> None:
    """A refused recipient, a sender outside: the original comes back inside the report, as harmless as it left."""

    async def play(house: House) -> None:
        client = Courier(house, "relay")
        client.sender = "x@ext.example"
        client.recipient = "bad@ext.example"
        await client.begin()
        for full in ("", " RET=FULL", " RET=HDRS"):
            for body in BODIES:
                client.sender = "x@ext.example"
                lines = [f"MAIL FROM:<x@ext.example>{full}", "RCPT TO:<bad@ext.example>"]
                assert [reply[:3] for reply in await client.wire.say(*lines)] == ["250", "250"]
                content = HEAD + b"X-Odd: " + body.partition(b"\r\n")[0][:500] + b"\r\n\r\n" + body
                assert (await client.wire.raw(b"BDAT %d LAST\r\n%b" % (len(content), content)))[-1][:3] == "250"
        await house.settled(600)
        messages = check_arrivals(house)
        assert len(messages) == 3 * len(BODIES)
        for message in messages:
            assert message.mail.startswith(b"FROM:<>")
            assert message.rcpts[0].startswith(b"TO:<x@ext.example>")
            assert b"multipart/report" in message.content

    refusal = b"550 5.1.1 no such user; see\tyou\r\n"
    run(tmp_path, play, script=Script(rcpt={b"bad@ext.example": refusal}))


def test_a_message_for_a_mailbox_is_written_whole(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "submission-tls", tls=True)
        await wire.begin()
        await wire.login("anna@example.org", "secret")
        expected = []
        for body in BODIES:
            await wire.say("MAIL FROM:<anna@example.org>", "RCPT TO:<anna@example.org>")
            content = HEAD + b"\r\n" + body
            assert (await wire.raw(b"BDAT %d LAST\r\n%b" % (len(content), content)))[-1][:3] == "250"
            chunk = re.sub(rb"\r\n|\r|\n", b"\r\n", body).replace(b"\0", b"")
            expected.append(chunk if chunk.endswith(b"\r\n") or not chunk else chunk + b"\r\n")
        await house.settled()
        files = [path.read_bytes() for path in (tmp_path / "data/mail/example.org/anna/new").iterdir()]
        found = sorted(content.replace(b"\r\n", b"\n").partition(b"\n\n")[2] for content in files)
        assert found == sorted(body.replace(b"\r\n", b"\n") for body in expected)
        assert not any(b"\r" in content.replace(b"\r\n", b"") or b"\0" in content for content in files)

    run(tmp_path, play)
