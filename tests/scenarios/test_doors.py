"""What each door lets through: whom, as whom, to whom, how much and how fast. Over the whole relay in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from staffetta.observe.events import Disconnect, LoginRefused, Refuse
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[listen.submission]
bind = ["192.0.2.25:465"]
role = "submission"
tls = "implicit"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
trust = ["198.51.100.0/28", "198.51.100.100-198.51.100.110", "2001:db8:1::/48"]
[listen.listed]
bind = ["192.0.2.25:1026"]
role = "relay"
trust = ["198.51.100.0/24"]
from = ["shop.example", "boss@example.org"]
[listen.fixed]
bind = ["192.0.2.25:1027"]
role = "relay"
trust = ["198.51.100.0/24"]
from_fixed = "printer@example.org"
[domain."example.org"]
catch_all = "rest"
[domain."example.org".aliases]
info = ["anna", "bob@example.org", "Team@ext.example"]
sales = ["anna"]
nowhere = ["far@ext.example"]
[domain."strict.example"]
separator = ""
[domain."strict.example".aliases]
me = ["carla@strict.example"]
"""

ACCOUNTS = {
    "anna@example.org": ("secret", ("partner@ext.example", "@guest.example")),
    "bob@example.org": "secret",
    "rest@example.org": "secret",
    "carla@strict.example": "secret",
}
TRUSTED = "198.51.100.9"
BODY = b"Subject: s\r\n\r\nhello\r\n"

Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, extra: str = "", **more: Any) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(folder, DOORS + extra, clock=clock, accounts=ACCOUNTS, **more) as house:
            await play(house)

    virtual.run(main, clock)


def author(address: str) -> bytes:
    return b"From: " + address.encode() + b"\r\n" + BODY


async def logged_in(house: House, login: str = "anna@example.org") -> HouseWire:
    wire = HouseWire(house, "submission", tls=True)
    await wire.begin()
    assert (await wire.login(login, "secret"))[0][:3] == "235"
    return wire


async def at(house: House, door: str, client: str = TRUSTED) -> HouseWire:
    wire = HouseWire(house, door, client=client)
    await wire.begin()
    return wire


# Trust.


@pytest.mark.parametrize(
    ("client", "trusted"),
    [
        ("198.51.100.0", True), ("198.51.100.15", True), ("198.51.100.16", False), ("198.51.100.100", True),
        ("198.51.100.110", True), ("198.51.100.111", False), ("198.51.100.99", False), ("::ffff:198.51.100.1", True),
        ("::ffff:198.51.100.16", False), ("2001:db8:1:ffff::1", True), ("2001:db8:2::1", False), ("127.0.0.1", False),
    ],
)  # fmt: skip
def test_trust_is_a_matter_of_the_network(client: str, trusted: bool, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "relay", client)
        code = (await wire.say("MAIL FROM:<x@ext.example>"))[0][:3]
        assert code == ("250" if trusted else "530")

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("sender", "header", "code"),
    [
        ("x@shop.example", "x@shop.example", "250"), ("boss@example.org", "boss@example.org", "250"),
        ("BOSS@EXAMPLE.ORG", "Boss@Example.org", "250"), ("", "x@shop.example", "250"),
        ("anna@example.org", "", "553"), ("x@sub.shop.example", "", "553"), ("x@ext.example", "", "553"),
        ("x@shop.example.ext.example", "", "553"), ("x@shop.example", "anna@example.org", "550"),
        ("x@shop.example", "x@shop.example, y@ext.example", "550"), ("x@shop.example", "", "550"),
    ],
)  # fmt: skip
def test_senders_of_a_door(sender: str, header: str, code: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "listed")
        codes = await wire.mail(f"<{sender}>", ["<u@ext.example>"], author(header) if header else BODY)
        assert (codes[0] if code == "553" else codes[-1]) == code
        assert len(house.spool.accepted) == (code == "250")

    run(tmp_path, play)


@pytest.mark.parametrize("sender", ["", "x@ext.example", "anna@example.org", "root@localhost"])
@pytest.mark.parametrize(
    "fields",
    [
        b"", b"From: root@localhost\r\n", b"From: a@x.example, b@y.example\r\n",
        b"From: a@x.example\r\nFrom: b@y.example\r\n", b"From : spaced@x.example\r\n",
        b"from:\r\n folded@x.example\r\n", b'From: "Scanner, 2nd floor" <scan@x.example>\r\n',
    ],
)  # fmt: skip
def test_a_fixed_sender_replaces_every_other(sender: str, fields: bytes, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "fixed")
        assert (await wire.mail(f"<{sender}>", ["<u@ext.example>"], fields + BODY))[-1] == "250"
        await house.settled()
        (message,) = house.network.sink.messages
        assert message.mail.startswith(b"FROM:<printer@example.org>")
        head = message.content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
        authors = [line for line in head.split(b"\r\n") if line[:4].lower() == b"from"]
        assert len(authors) == 1
        assert b"printer@example.org" in authors[0]
        for name in (b"x.example", b"localhost", b"y.example"):
            assert not any(name in line for line in authors if b"<" in line and name in line.partition(b"<")[2])

    run(tmp_path, play)


# Logins.

OWN = [
    "anna@example.org", "ANNA@Example.Org", "info@example.org", "sales@example.org", "partner@ext.example",
    "anyone@guest.example", "anna+list@example.org", '"anna"@example.org',
]  # fmt: skip
NOT_OWN = [
    "bob@example.org", "rest@example.org", "annab@example.org", "ann@example.org", "anna-list@example.org",
    "x+anna@example.org", "anna@sub.example.org", "anna@ext.example", "x@sub.guest.example", "postmaster@example.org",
    "partner+x@ext.example", "nowhere@example.org", "anna@strict.example", "Anna%bob@example.org",
    "anna@xn--example-.org", "anna@[192.0.2.25]", '"anna "@example.org', '"anna@example.org"@ext.example',
]  # fmt: skip


@pytest.mark.parametrize("sender", [*OWN, *NOT_OWN])
def test_a_login_sends_as_itself_only(sender: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await logged_in(house)
        codes = await wire.mail(f"<{sender}>", ["<u@ext.example>"], author("anna@example.org"))
        assert (codes[-1] == "250") is (sender in OWN)
        header = await wire.mail("<anna@example.org>", ["<u@ext.example>"], author(sender))
        assert (header[-1] == "250") is (sender in OWN)
        null = await wire.mail("<>", ["<u@ext.example>"], author(sender))
        assert (null[-1] == "250") is (sender in OWN)
        assert len(house.spool.accepted) == (3 if sender in OWN else 0)

    run(tmp_path, play)


def test_without_a_separator_there_are_no_sub_addresses(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await logged_in(house, "carla@strict.example")
        assert (await wire.mail("<me@strict.example>", ["<u@ext.example>"], author("carla@strict.example")))[
            -1
        ] == "250"
        assert (await wire.mail("<carla+x@strict.example>", ["<u@ext.example>"], author("carla@strict.example")))[
            0
        ] == "553"
        assert (await (await at(house, "mx")).mail("<x@ext.example>", ["<carla+x@strict.example>"], BODY))[1] == "550"

    run(tmp_path, play)


ANNA, BOB = b"anna@example.org", b"bob@example.org"
DISGUISES = [
    b"From: " + BOB + b"\r\n",
    b"From: " + ANNA + b"\r\nFrom: " + BOB + b"\r\n",
    b"From: " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b"From : " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b"From\t: " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b" From: " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b"X: y\r\nFrom\r\n : " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b"From: " + ANNA + b"\r\nFrom\xc2\xa0: " + BOB + b"\r\nFrom: " + BOB + b"\r\n",
    b"fROM: " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b"From: " + ANNA + b"\r\nSender: " + BOB + b"\r\n",
    b"From: " + ANNA + b"\r\nResent-From: " + BOB + b"\r\n",
    b"From: " + ANNA + b"\r\nResent-Sender: " + BOB + b"\r\n",
    b"Sender: " + ANNA + b"\r\n",
    b"Resent-From: " + ANNA + b"\r\n",
    b"From: " + ANNA + b", " + BOB + b"\r\n",
    b"From: " + BOB + b", " + ANNA + b"\r\n",
    b"From: group: " + ANNA + b", " + BOB + b";\r\n",
    b"From: group:;\r\n",
    b"From: undisclosed: " + BOB + b";\r\n",
    b"From: =?utf-8?b?Ym9iQGV4YW1wbGUub3Jn?= <>\r\n",
    b"From: =?utf-8?q?bob=40example=2Eorg?=\r\n",
    b"From: <@" + b"ext.example:" + BOB + b">\r\n",
    b'From: "bob\\@x" <' + BOB + b">\r\n",
    b"From: " + BOB + b" <" + ANNA + b"\r\n",
    b"From: <" + ANNA + b"> <" + BOB + b">\r\n",
    b"From: <" + ANNA + b">" + BOB + b"\r\n",
    b"From: " + BOB + b" (" + ANNA + b")\r\n",
    b"From: " + ANNA + b"\0, " + BOB + b"\r\n",
    b"From: " + ANNA + b"\r\n\t," + BOB + b"\r\n",
    b"From: \"" + ANNA + b"\" <" + BOB + b">\r\n",
    b"From: " + ANNA + b") <" + BOB + b">\r\n",
    b"From: (" + ANNA + b"\\) <" + BOB + b">\r\n",
    b"From: <" + BOB + b">, <" + ANNA + b">\r\n",
    b"From:\r\n " + BOB + b"\r\n",
    b"From: anna@example.org@ext.example\r\n",
    b"From: anna\r\n",
    b"From: \r\n",
    b"From:" + b" " * 2000 + BOB + b"\r\n",
    b"",
    b"\r\nFrom: " + ANNA + b"\r\n",
    b"From: " + ANNA + b"\rFrom: " + BOB + b"\r\n",
    b"From: " + ANNA + b"\nFrom: " + BOB + b"\r\n",
    b"From: " + BOB + b"\nFrom: " + ANNA + b"\r\n",
    b"X: y\rFrom: " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b"\0From: " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b"Fr\0om: " + BOB + b"\r\nFrom: " + ANNA + b"\r\n",
    b"From: " + ANNA + b"\r\nFrom;: " + BOB + b"\r\nFROM:" + BOB + b"\r\n",
]  # fmt: skip


@pytest.mark.parametrize("fields", DISGUISES, ids=lambda fields: fields[:60].decode("latin-1"))
def test_no_disguise_of_another_author_passes(fields: bytes, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await logged_in(house)
        codes = await wire.mail("<anna@example.org>", ["<u@ext.example>"], fields + BODY)
        assert codes[-1] in {"550", "554"}
        assert not house.spool.accepted

    run(tmp_path, play)


# Names of ours, from outside.


@pytest.mark.parametrize("sender", ["anna@example.org", "nobody@example.org", "x@strict.example", "ANNA@EXAMPLE.ORG"])
def test_our_domains_are_not_claimed_from_outside(sender: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for client in ("192.0.2.1", TRUSTED, "127.0.0.1"):
            wire = await at(house, "mx", client)
            assert (await wire.say(f"MAIL FROM:<{sender}>"))[0][:9] == "550 5.7.1"
        assert set(house.rules()) == {"local_sender_from_outside"}
        assert (await wire.say("MAIL FROM:<x@sub.example.org>"))[0][:3] == "250"

    run(tmp_path, play)


# Recipients.


@pytest.mark.parametrize(
    ("given", "reached"),
    [
        ("anna@example.org", ["anna@example.org"]),
        ("Anna@EXAMPLE.org", ["Anna@example.org"]),
        ("anna+x+y@example.org", ["anna+x+y@example.org"]),
        ("info@example.org", ["Team@ext.example", "anna@example.org", "bob@example.org"]),
        ("INFO+sub@example.org", ["Team@ext.example", "anna@example.org", "bob@example.org"]),
        ("nowhere@example.org", ["far@ext.example"]),
        ("whoever@example.org", ["rest@example.org"]),
        ("postmaster@example.org", ["postmaster@example.org"]),
        ("abuse@strict.example", ["postmaster@strict.example"]),
        ("Postmaster", ["postmaster@example.org"]),
        ("nobody@strict.example", None),
        ("u@ext.example", None),
        ("u@[192.0.2.25]", None),
    ],
)  # fmt: skip
def test_who_is_reached(given: str, reached: list[str] | None, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        codes = await wire.mail("<x@ext.example>", [f"<{given}>"], BODY)
        if reached is None:
            assert codes[1] == "550"
            assert not house.spool.accepted
        else:
            assert sorted(house.recipients()) == reached
            await house.settled()
            assert sorted(one.recipient for one in house.events if type(one).__name__ == "Deliver") == reached

    run(tmp_path, play)


def test_one_message_reaches_each_of_several_aliases_once(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        given = ["<info@example.org>", "<sales@example.org>", "<anna@example.org>", "<ANNA@example.org>"]
        await wire.mail("<x@ext.example>", given, BODY)
        await house.settled()
        folder = tmp_path / "data/mail/example.org/anna/new"
        assert len(list(folder.iterdir())) == 1
        assert len(house.network.sink.messages) == 1

    run(tmp_path, play)


# Limits.


def test_recipients_beyond_the_limit_are_put_off(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "relay")
        recipients = [f"<u{number}@ext.example>" for number in range(120)]
        codes = await wire.mail("<x@ext.example>", recipients, BODY)
        assert codes == ["250"] * 101 + ["452"] * 20 + ["354", "250"]
        assert len(house.recipients()) == 100

    run(tmp_path, play)


def test_connections_of_one_client(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wires = [HouseWire(house, "mx", client="203.0.113.7") for _ in range(4)]
        await house.quiet()
        assert [wire.heard[:3] for wire in wires] == [b"220", b"220", b"220", b"421"]
        assert wires[3].ended
        other = HouseWire(house, "relay", client="203.0.113.8")
        assert (await other.receive_until_quiet())[:3] == b"220"
        wires[0].leave()
        await house.quiet()
        again = HouseWire(house, "mx", client="203.0.113.7")
        assert (await again.receive_until_quiet())[:3] == b"220"
        ipv6 = [HouseWire(house, "mx", client=f"2001:db8::{number}") for number in range(4)]
        await house.quiet()
        assert ipv6[3].heard[:3] == b"421"
        assert house.parts.house.connections.open == 7
        for wire in [*wires, again, other, *ipv6]:
            wire.cut()
        await house.quiet()
        assert house.parts.house.connections.open == 0

    run(tmp_path, play, "[limits]\nconnections_per_client = 3\n")


def test_commands_of_one_session(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        replies = await wire.raw(b"NOOP\r\n" * 30)
        assert [reply[:3] for reply in replies] == ["250"] * 19 + ["421"]
        assert wire.ended

    run(tmp_path, play, "[limits]\ncommands_per_session = 20\n")


def test_mistakes_of_one_session(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        replies = await wire.raw(b"WRONG\r\n" * 3000)
        assert replies[-1][:3] == "421"
        assert len(replies) < 100
        assert wire.ended

    run(tmp_path, play)


@pytest.mark.parametrize(("octets", "taken"), [(65_536, True), (65_537, False), (200_000, False)])
def test_size(octets: int, taken: bool, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        assert (await wire.say(f"MAIL FROM:<x@ext.example> SIZE={octets}"))[0][:3] == ("250" if taken else "552")
        await wire.say("RSET")
        content = BODY + b"x" * 70 + b"\r\n"
        line = b"y" * 78 + b"\r\n"
        content += line * ((octets - len(content)) // 80)
        content += b"z" * (octets - len(content) - 2) + b"\r\n" if octets - len(content) >= 2 else b""
        if len(content) != octets:
            content = content[: octets - 2] + b"\r\n"
        assert (await wire.mail("<x@ext.example>", ["<anna@example.org>"], content))[-1] == ("250" if taken else "552")
        assert len(house.spool.accepted) == taken
        assert (await wire.say("NOOP"))[0][:3] == "250"

    run(tmp_path, play, '[limits]\nmessage_size = "64KiB"\n')


def test_hops(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        for count, code in ((5, "250"), (6, "554")):
            trace = b"Received: from x by y; Mon, 21 Sep 2026 14:13:20 +0000\r\n" * count
            assert (await wire.mail("<x@ext.example>", ["<anna@example.org>"], trace + BODY))[-1] == code

    run(tmp_path, play, "[limits]\nhops = 5\n")


# Time.

STAGES: dict[str, list[bytes]] = {
    "greeting": [],
    "half a command": [b"EHLO"],
    "hello": [b"EHLO x\r\n"],
    "mail": [b"EHLO x\r\n", b"MAIL FROM:<x@ext.example>\r\n"],
    "data": [b"EHLO x\r\nMAIL FROM:<x@ext.example>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\n"],
    "content": [
        b"EHLO x\r\nMAIL FROM:<x@ext.example>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\n",
        b"Subject: x\r\n\r\nhalf",
    ],
    "chunk": [b"EHLO x\r\nMAIL FROM:<x@ext.example>\r\nRCPT TO:<anna@example.org>\r\nBDAT 100 LAST\r\nhalf"],
    "starttls": [b"EHLO x\r\n", b"STARTTLS\r\n"],
    "half a hello": [b"EHLO x\r\n", b"STARTTLS\r\n", b"\x16\x03\x01\x02\x00\x01\x00"],
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_silence_ends_the_session(stage: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "mx")
        for octets in STAGES[stage]:
            await wire.raw(octets)
        await wire.receive_until_quiet()
        clear = ("starttls" not in stage and "hello" not in stage) or stage == "hello"
        await house.settled(20)
        assert wire.ended is False
        await house.settled(45)
        assert wire.ended
        assert wire.heard[:9] == (b"421 4.4.2" if clear else b"")
        assert not house.parts.house.sessions
        assert not house.spool.accepted

    run(tmp_path, play, '[limits]\nidle = "60s"\n')


def test_silence_before_implicit_tls_and_inside_login(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        before = HouseWire(house, "submission")
        inside = HouseWire(house, "submission", tls=True)
        await inside.begin()
        await inside.say("AUTH LOGIN")
        await house.settled(65)
        assert before.ended
        assert before.heard == b""
        assert inside.ended
        assert inside.heard[:3] == b"421"

    run(tmp_path, play, '[limits]\nidle = "60s"\n')


async def drip(house: House, wire: HouseWire, octets: bytes, seconds: float) -> float:
    """Send the same few octets again and again; how long the relay listened to that."""
    begun = house.clock.monotonic()
    while not wire.ended and house.clock.monotonic() - begun < 4000:
        await wire.send(octets)
        await house.settled(seconds)
    return house.clock.monotonic() - begun


@pytest.mark.parametrize(
    ("octets", "seconds", "most"),
    [
        (b"x", 10.0, 130),
        (b"x\r\n", 20.0, 130),
        (b"line of thirty octets........\r\n", 1.0, 130),
        (b"x" * 200 + b"\r\n", 1.0, 0),
    ],
)
@pytest.mark.parametrize("verb", ["DATA", "BDAT 1000000 LAST"])
def test_content_that_trickles(octets: bytes, seconds: float, most: int, verb: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        await wire.say("MAIL FROM:<x@ext.example>", "RCPT TO:<anna@example.org>", verb)
        lasted = await drip(house, wire, octets, seconds)
        assert (lasted < most) if most else (lasted > 3999)
        assert not house.spool.accepted

    run(tmp_path, play)


@pytest.mark.parametrize("stage", ["greeting", "hello", "data"])
def test_a_command_that_trickles(stage: str, tmp_path: Path) -> None:
    """One octet now and then must not hold a connection for ever."""

    async def play(house: House) -> None:
        wire = HouseWire(house, "mx")
        for octets in STAGES[stage][:1] if stage != "data" else [b"EHLO x\r\nMAIL FROM:<x@ext.example>\r\n"]:
            await wire.raw(octets)
        assert await drip(house, wire, b"N", 10.0) < 620

    run(tmp_path, play)


def test_a_client_that_does_not_read_gets_no_more_than_it_can_hold(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        wire.stream.pause_reading()
        for _ in range(2000):
            await wire.send(b"HELP\r\n" * 200)
        await house.settled(1)
        (session,) = house.parts.house.sessions
        assert session.stream.unsent < 200_000  # type: ignore[attr-defined]
        await house.settled(400)
        assert not house.parts.house.sessions, "a client that never reads holds its connection for ever"

    run(tmp_path, play, core={"commands": 10**7})


# Logins and guessing.


def test_guessing_is_stopped_for_the_network_not_for_the_owner(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        owner = await logged_in(house)
        assert owner
        codes = []
        for _ in range(13):
            wire = HouseWire(house, "submission", tls=True, client="203.0.113.66")
            await wire.begin()
            codes.append((await wire.login("anna@example.org", "wrong"))[0][:3])
        assert codes == ["535"] * 10 + ["454"] * 3
        right = HouseWire(house, "submission", tls=True, client="203.0.113.66")
        await right.begin()
        assert (await right.login("bob@example.org", "secret"))[0][:3] == "454"
        await logged_in(house)
        fresh = HouseWire(house, "submission", tls=True, client="203.0.113.67")
        await fresh.begin()
        assert (await fresh.login("anna@example.org", "secret"))[0][:3] == "235"
        await house.settled(601)
        later = HouseWire(house, "submission", tls=True, client="203.0.113.66")
        await later.begin()
        assert (await later.login("anna@example.org", "secret"))[0][:3] == "235"
        assert len(house.told(LoginRefused)) == 14

    run(tmp_path, play)


def test_guessing_from_many_networks_gets_one_guess_each(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for number in range(30):
            wire = HouseWire(house, "submission", tls=True, client=f"203.0.{number}.66")
            await wire.begin()
            first = (await wire.login("anna@example.org", "wrong"))[0][:3]
            second = (await wire.login("anna@example.org", "secret"))[0][:3]
            assert first == "535"
            assert second == ("235" if number < 9 else "454")
            wire.cut()

    run(tmp_path, play)


def test_unknown_user_and_wrong_password_sound_the_same(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "submission", tls=True)
        await wire.begin()
        said = {(await wire.login(name, "wrong"))[0] for name in ("anna@example.org", "nobody@example.org", "x", "")}
        assert len(said) == 1
        assert "secret" not in str(house.events)
        assert "wrong" not in str([event for event in house.events if not isinstance(event, LoginRefused)])

    run(tmp_path, play)


def test_vrfy_tells_nothing(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await at(house, "mx")
        said = [await wire.say(f"VRFY {name}") for name in ("anna", "anna@example.org", "nobody@x.example")]
        assert said[0] == said[1] == said[2]
        assert said[0][0][:3] == "252"
        assert (await wire.say("EXPN info"))[0][:3] == "502"

    run(tmp_path, play)


def test_http_is_cut_off(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for first in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /evil HTTP/1.1\r\n\r\nEHLO x\r\n",
            b"CONNECT x:25 HTTP/1.1\r\n",
        ):
            wire = HouseWire(house, "mx")
            await wire.raw(first + b"MAIL FROM:<x@ext.example>\r\nRCPT TO:<anna@example.org>\r\n")
            assert wire.ended
            assert b"evil" not in wire.heard
            inside = HouseWire(house, "submission", tls=True)
            heard = await inside.raw(first)
            assert inside.ended
            assert heard == ["220 mx.example.org ESMTP"]
        assert {event.rule for event in house.told(Refuse)} == {"http"}
        assert all(event.reason for event in house.told(Disconnect))

    run(tmp_path, play)
