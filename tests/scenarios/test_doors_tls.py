"""TLS, login and PROXY at the doors (threats S3, S4, S17), and a daemon that is told to stop while people talk."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from staffetta.net.memory import Shape, single_octets, whole
from staffetta.observe.events import Accept, Connect, Login, LoginRefused
from staffetta.testing import clock as virtual
from staffetta.testing.daemon import Daemon, DaemonWire
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[listen.submission]
bind = ["192.0.2.25:587"]
role = "submission"
[listen.submissions]
bind = ["192.0.2.25:465"]
role = "submission"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
[listen.proxied]
bind = ["192.0.2.25:2525"]
role = "mx"
proxy_protocol = ["198.51.100.7"]
[listen.proxied-tls]
bind = ["192.0.2.25:2465"]
role = "submission"
tls = "implicit"
proxy_protocol = ["198.51.100.7"]
[domain."example.org"]
"""
LETTER = b"MAIL FROM:<x@ext.example>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\nSubject: in\r\n\r\njected\r\n.\r\n"
PLAIN = base64.b64encode(b"\0anna@example.org\0secret").decode()

Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, **more: Any) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(folder, DOORS, clock=clock, accounts={"anna@example.org": "secret"}, **more) as house:
            await play(house)

    virtual.run(main, clock)


def hello_of(house: House) -> bytes:
    """A real ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(house.authority.ca))
    client = context.wrap_bio(incoming, outgoing, server_hostname="mx.example.org")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


# STARTTLS.


@pytest.mark.parametrize("shape", [whole, single_octets], ids=["one segment", "octets"])
@pytest.mark.parametrize("door", ["mx", "submission", "relay"])
@pytest.mark.parametrize(
    "behind", [LETTER, b"EHLO x\r\n" + LETTER, b"RSET\r\n", b"N", b"\r\n", b"\0", b"AUTH PLAIN x\r\n"],
    ids=lambda octets: repr(octets[:8]),
)  # fmt: skip
def test_nothing_said_behind_starttls_is_ever_done(behind: bytes, door: str, shape: Shape, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for gap in (False, True):
            wire = HouseWire(house, door)
            await wire.begin()
            await wire.send(b"STARTTLS\r\n" + (b"" if gap else behind))
            await house.quiet()
            if gap:
                await wire.send(behind)
            # Less than the head of a TLS record may be waited for, as long as a handshake may take.
            await house.settled(35 if len(behind) < 5 else 0.01)
            assert wire.ended
            assert wire.tls is None
        await house.settled(60)
        assert not house.spool.accepted
        assert not house.parts.house.sessions

    run(tmp_path, play, shape=shape)


def test_half_a_command_before_a_real_handshake_is_not_finished_after_it(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "mx")
        await wire.begin()
        await wire.send(b"STARTTLS\r\nMAIL FROM:<x@ext.exa")
        await wire.start_tls()
        assert wire.tls is None
        assert wire.ended

    run(tmp_path, play)


def test_what_was_said_before_tls_is_forgotten(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "mx")
        await wire.begin("before.example")
        await wire.say("STARTTLS")
        await wire.start_tls()
        assert wire.tls is not None
        assert (await wire.say("MAIL FROM:<x@ext.example>"))[0][:3] == "503"
        assert (await wire.say("STARTTLS"))[0][:3] == "503"
        assert not any("STARTTLS" in line for line in await wire.begin("after.example"))
        assert (await wire.mail("<x@ext.example>", ["<anna@example.org>"], b"Subject: x\r\n\r\nx\r\n"))[-1] == "250"
        (content,) = house.spool.contents
        assert b"before.example" not in content
        assert b"ESMTPS" in content
        assert house.told(Accept)[0].tls.startswith("TLSv1.3")

    run(tmp_path, play)


@pytest.mark.parametrize("verb", ["DATA", "BDAT 100 LAST"])
def test_tls_that_ends_inside_content_leaves_nothing(verb: str, tmp_path: Path) -> None:
    """close_notify, or FIN without it, and clear text behind it (the class of CVE-2026-45185)."""

    async def play(house: House) -> None:
        for behind in (b"", b"x", b"\r\n.\r\n", LETTER):
            wire = HouseWire(house, "mx")
            await wire.begin()
            await wire.say("STARTTLS")
            await wire.start_tls()
            await wire.begin()
            await wire.say("MAIL FROM:<x@ext.example>", "RCPT TO:<anna@example.org>", verb)
            await wire.raw(b"Subject: half\r\n\r\nhalf")
            transport = wire.stream._transport
            engine = wire.stream._engine
            assert engine is not None
            transport.write(engine.goodbye() + behind)
            await house.settled(30)
            assert not house.spool.accepted
            assert not house.parts.house.sessions
            wire.cut()

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("door", "octets"),
    [
        ("submissions", b"GET /evil HTTP/1.1\r\n\r\n"),
        ("submissions", b"EHLO evil\r\n" + LETTER),
        ("mx", b"\x16\x03\x01evil EHLO\r\n" + LETTER),
        ("mx", b"\x80\x2e\x01\x00\x02evil EHLO\r\n" + LETTER),
    ],
)
def test_a_handshake_that_fails_is_not_answered_in_clear(door: str, octets: bytes, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, door)
        if door == "mx":
            await wire.begin()
            await wire.say("STARTTLS")
        await wire.send(octets)
        await house.settled(35)
        assert wire.ended
        assert b"evil" not in wire.heard
        assert b"250" not in wire.heard
        assert not house.spool.accepted
        assert not house.parts.house.sessions

    run(tmp_path, play)


# AUTH.

ATTEMPTS = [f"AUTH PLAIN {PLAIN}", "AUTH PLAIN", "AUTH LOGIN", f"AUTH SCRAM-SHA-256 {PLAIN}", "auth plain " + PLAIN]


@pytest.mark.parametrize("door", ["mx", "submission", "relay"])
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt[:20])
def test_no_login_without_tls(door: str, attempt: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, door)
        assert not any("AUTH" in line for line in await wire.begin())
        code = (await wire.say(attempt))[0][:3]
        assert code == ("502" if door == "mx" else "538")
        await wire.say(PLAIN)
        assert (await wire.say("MAIL FROM:<anna@example.org>"))[0][:3] != "250"
        assert not house.told(Login)
        assert not house.told(LoginRefused)
        assert PLAIN not in str(house.events)

    run(tmp_path, play)


MALFORMED = [
    "AUTH PLAIN =", "AUTH PLAIN *", "AUTH PLAIN ====", "AUTH PLAIN AA", f"AUTH PLAIN {PLAIN}====",
    f"AUTH PLAIN {PLAIN}=", f"AUTH PLAIN {PLAIN[:-1]}",
    f"AUTH PLAIN  {PLAIN}", f"AUTH PLAIN {PLAIN} x", f"AUTH LOGIN {PLAIN}", "AUTH =", "AUTH  ", "AUTH PLAIN\tx",
    "AUTH PLAIN " + base64.b64encode(b"bob\0anna@example.org\0secret").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0anna@example.org\0secret\0").decode(),
    "AUTH PLAIN " + base64.b64encode(b"anna@example.org\0secret").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0anna@example.org\0").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0\0secret").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0anna@example.org\0\0secret").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0anna@example.org\0secret\n").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0anna@example.org \0secret").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0anna\0secret").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0\xff\xfe\0secret").decode(),
    "AUTH PLAIN " + base64.b64encode(b"\0" * 5000).decode(),
]  # fmt: skip


@pytest.mark.parametrize("attempt", MALFORMED, ids=lambda attempt: attempt[:40])
def test_malformed_logins(attempt: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "submissions", tls=True)
        await wire.begin()
        first = await wire.say(attempt)
        if first[0][:3] == "334":
            await wire.say("*")
        else:
            assert first[0][0] == "5"
        assert not house.told(Login)
        assert (await wire.say("MAIL FROM:<anna@example.org>"))[0][:3] == "530"
        assert (await wire.login("anna@example.org", "secret"))[0][:3] == "235"
        assert "secret" not in str(house.events)

    run(tmp_path, play)


# PROXY.

V1 = b"PROXY TCP4 203.0.113.99 192.0.2.25 4711 2525\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 99, 192, 0, 2, 25, 18, 103, 9, 221])
V2_TLV = V2[:15] + b"\x13" + V2[16:] + b"\x04\x00\x04abcd"


@pytest.mark.parametrize("header", [V1, V2, V2_TLV], ids=["v1", "v2", "v2 with TLV"])
@pytest.mark.parametrize("shape", [whole, single_octets], ids=["one segment", "octets"])
def test_tls_in_the_same_packet_as_the_header(header: bytes, shape: Shape, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "proxied-tls", client="198.51.100.7")
        wire.stream._transport.write(header + b"")
        wire.stream.start_tls(wire.context(), server_side=False, server_name="mx.example.org")
        assert (await wire.begin())[0] == "220 mx.example.org ESMTP"
        assert (await wire.login("anna@example.org", "secret"))[0][:3] == "235"
        assert [event.client for event in house.told(Connect)] == ["203.0.113.99"]
        assert [event.client for event in house.told(Login)] == ["203.0.113.99"]

    # Joined: what is written in one turn of the loop arrives as one segment.
    run(tmp_path, play, shape=shape)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_a_hello_glued_to_the_header(header: bytes, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        hello = hello_of(house)
        for cut in (0, 1, len(header) - 1, len(header), len(header) + 1, len(header) + len(hello) - 1):
            wire = HouseWire(house, "proxied-tls", client="198.51.100.7")
            octets = header + hello
            for part in filter(None, (octets[:cut], octets[cut:])):
                await wire.send(part)
                await house.quiet()
            assert wire.heard[:3] == b"\x16\x03\x03", "no ServerHello"
            wire.cut()

    run(tmp_path, play)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_who_talks_before_the_greeting_behind_a_proxy(header: bytes, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "proxied", client="198.51.100.7")
        assert (await wire.raw(header + b"EHLO x\r\n" + LETTER))[0][:3] == "554"
        assert wire.ended
        assert house.rules() == ["early_talker"]
        assert not house.spool.accepted

    run(tmp_path, play)


def test_a_listed_proxy_must_send_the_header(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for octets in (b"EHLO x\r\n" + LETTER, V1 + V1, b"PROXY " + b"x" * 200, V2[:12] + b"\x31" + V2[13:], b""):
            wire = HouseWire(house, "proxied", client="198.51.100.7")
            await wire.send(octets)
            await house.settled(15)
            assert wire.ended
            assert b"220" not in wire.heard
        assert not house.spool.accepted

    run(tmp_path, play)


# The daemon.

LIVE = """\
[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"
[listen.submission]
bind = ["127.0.0.1:0"]
role = "submission"
tls = "implicit"
"""


def test_told_to_stop_while_people_talk(tmp_path: Path) -> None:
    """421 at a command boundary, a message that has begun is taken, exit 0 and not a word on standard error."""

    async def main() -> None:
        accounts = {"anna@example.org": "secret", "bob@example.org": "secret"}
        async with Daemon(tmp_path, LIVE, accounts) as daemon:
            async with (
                daemon.wire("mx") as idle,
                daemon.wire("mx") as busy,
                daemon.wire("submission", tls=True) as login,
                daemon.wire("mx") as half,
                daemon.wire("mx") as silent,
            ):
                await stop_in_the_middle(daemon, idle, busy, login, half, silent)
            assert daemon.complaints() == ""
            words = [event["event"] for event in daemon.log()]
            assert words.count("stopping") == 1
            assert words.count("connect") == words.count("disconnect")
        # What was taken at the last moment waits on disk.
        async with Daemon(tmp_path, LIVE, accounts) as daemon:
            await daemon.sink.arrived(1)

    asyncio.run(main())


async def stop_in_the_middle(
    daemon: Daemon, idle: DaemonWire, busy: DaemonWire, login: DaemonWire, half: DaemonWire, silent: DaemonWire
) -> None:
    for wire in (idle, busy, login, half):
        await wire.replies()
        await wire.say("EHLO client.example")
    assert (await idle.say("MAIL FROM:<x@ext.example>"))[0][:3] == "250"
    envelope = ("MAIL FROM:<x@ext.example>", "RCPT TO:<bob@example.org>", "DATA")
    assert (await busy.say(*envelope))[-1][:3] == "354"
    await busy.send(b"Subject: last\r\n\r\n")
    await half.send(b"NOO")
    assert (await login.say("AUTH LOGIN"))[0][:3] == "334"
    assert (await silent.replies())[0][:3] == "220"
    stopped = asyncio.create_task(daemon.stop())
    for wire in (idle, login, half, silent):
        assert [line[:9] for line in await wire.replies()] == ["421 4.3.2"]
        assert (await wire.receive_until_quiet(), await wire.is_closed()) == (b"", True)
    assert not stopped.done()
    await busy.send(b"one\r\n.\r\n")
    assert [line[:3] for line in await busy.replies(2)] == ["250", "421"]
    assert await asyncio.wait_for(stopped, 10) == 0


def test_who_talks_first_is_refused_by_the_daemon(tmp_path: Path) -> None:
    """Octets that are there when the connection is taken: the greeting is not for those who do not wait for it."""

    async def main() -> None:
        async with Daemon(tmp_path, LIVE, {"anna@example.org": "secret"}) as daemon:
            refused = 0
            for _ in range(20):
                refused += await talk_at_once(daemon)
            assert refused == 20
            assert daemon.accepted() == 0
            async with daemon.wire("mx") as polite:
                assert (await polite.replies())[0][:3] == "220"
            await daemon.stop()
            assert {event["rule"] for event in daemon.log() if event["event"] == "refuse"} == {"early_talker"}

    asyncio.run(main())


def test_who_talks_first_is_found_in_a_crowd(tmp_path: Path) -> None:
    """Many come in one turn of the loop, some of them talking at once: those are refused, the others are greeted."""

    async def main() -> None:
        async with Daemon(tmp_path, LIVE, {"anna@example.org": "secret"}) as daemon:
            for _ in range(5):
                assert await crowd(daemon) == ["220", "554", "220", "220", "554"] * 6
            assert daemon.accepted() == 0
            await daemon.stop()

    asyncio.run(main())


async def crowd(daemon: Daemon) -> list[str]:
    """The first words to each of thirty clients that come while the relay is stopped."""
    family = daemon.family()
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    wires = [await asyncio.open_connection("127.0.0.1", daemon.doors["mx"].port) for _ in range(30)]
    for number, (_, writer) in enumerate(wires):
        if number % 5 in {1, 4}:
            writer.write(b"EHLO x\r\n")
            await writer.drain()
    for pid in family:
        os.kill(pid, signal.SIGCONT)
    heard = []
    for reader, writer in wires:
        heard.append((await asyncio.wait_for(reader.read(3), 10)).decode())
        writer.close()
    return heard


async def talk_at_once(daemon: Daemon) -> bool:
    """The relay is stopped while the client connects and speaks, so that speaking comes first for sure."""

    family = daemon.family()
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.doors["mx"].port)
    writer.write(b"EHLO x\r\n" + LETTER)
    await writer.drain()
    for pid in family:
        os.kill(pid, signal.SIGCONT)
    try:
        heard = await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        heard = b"554"
    writer.close()
    return heard[:3] == b"554"
