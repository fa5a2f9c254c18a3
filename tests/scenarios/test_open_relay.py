"""Nobody relays through us who may not (threats S5): judged by what is on disk and what leaves, not by replies.

Forms of recipients are generated over two local domains: one whose recipients are accounts, one where every local part
exists, so that whatever a form smuggles into a local part is accepted and has to stay a local part. The whole world
outside is one sink; a single connection to it, for relaying or for a bounce to a forged sender, is a failure.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec import structs

from staffetta.control.relay_shapes import (
    FORGED_HEADER,
    PROXY_HEADERS,
    PROXY_V1,
    PROXY_V2,
    PROXY_V2_LOCAL,
    Names,
    claiming_senders,
    claims,
    forms,
    senders,
    tricks,
)
from staffetta.observe.events import Bounce, Defer, Disconnect
from staffetta.testing import clock as virtual
from staffetta.testing.house import CLIENT, House
from staffetta.testing.house_wire import HouseWire

EXT = "ext.example"
OUR = "mx.example.org"
OUR_IP = "192.0.2.25"
ACCOUNTS, ANY = "example.org", "any.example"
CONTENT = b"From: anna@example.org\r\nSubject: relayed\r\n\r\nrelayed\r\n"

DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[listen.mx-login]
bind = ["192.0.2.25:2465"]
role = "mx"
auth = true
tls = "implicit"
[listen.submission]
bind = ["192.0.2.25:587"]
role = "submission"
[listen.submission-tls]
bind = ["192.0.2.25:465"]
role = "submission"
tls = "implicit"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
trust = ["127.0.0.0/8", "::1/128", "198.51.100.0/24"]
[listen.relay-tls]
bind = ["192.0.2.25:1465"]
role = "relay"
trust = ["127.0.0.0/8", "::1/128", "198.51.100.0/24"]
tls = "implicit"
[listen.relay-mute]
bind = ["192.0.2.25:1026"]
role = "relay"
auth = false
[listen.relay-proxy]
bind = ["192.0.2.25:1027"]
role = "relay"
trust = ["127.0.0.0/8", "198.51.100.0/24"]
proxy_protocol = ["198.51.100.7"]
[domain."example.org"]
[domain."any.example"]
recipients = "any"
"""

NAMES = Names(EXT, OUR, OUR_IP, ACCOUNTS, f"anna@{ACCOUNTS}")
SENDERS = senders(NAMES)


def names_of(local: str) -> Names:
    """The same with another local domain."""
    return structs.replace(NAMES, local=local)


def test_there_are_enough_forms() -> None:
    assert len(set(forms(NAMES))) > 140


Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, **more: object) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        accounts = {"anna@example.org": "secret"}
        core = {"errors": 10**6, "commands": 10**6}
        async with House(folder, DOORS, clock=clock, accounts=accounts, core=core, **more) as house:  # type: ignore[arg-type]
            await play(house)

    virtual.run(main, clock)


def judge(house: House) -> None:
    """Nothing was taken for anybody outside, and nobody outside hears of it."""
    outside = [who for who in house.recipients() if who.rpartition("@")[2] not in {ACCOUNTS, ANY}]
    assert not outside
    assert not house.network.attempts
    assert not house.resolver.asked
    assert not house.told(Bounce)
    assert not house.told(Defer)


async def stranger_at(house: House, door: str, state: str) -> HouseWire:
    """A client that may not relay, in one of the states in which it may try."""
    wire = HouseWire(house, door, tls=house.settings[door].implicit_tls, client=CLIENT)
    if state == "helo":
        await wire.say("HELO localhost")
        return wire
    await wire.begin("localhost")
    if state == "login":
        assert (await wire.login("anna@example.org", "secret"))[0][:3] == "235"
    elif state == "failed":
        assert (await wire.login("anna@example.org", "wrong"))[0][:3] == "535"
    elif state == "cancelled":
        assert [line[:3] for line in await wire.say("AUTH LOGIN", "*")] == ["334", "501"]
    elif state == "half":
        answer = base64.b64encode(b"anna@example.org").decode()
        assert [line[:3] for line in await wire.say("AUTH LOGIN", answer, "")] == ["334", "334", "535"]
    return wire


STRANGERS = [
    ("mx", "ehlo"), ("mx", "helo"), ("mx-login", "login"), ("mx-login", "failed"), ("submission", "ehlo"),
    ("submission-tls", "failed"), ("submission-tls", "cancelled"), ("relay", "ehlo"), ("relay-tls", "failed"),
    ("relay-tls", "half"), ("relay-mute", "helo"),
]  # fmt: skip


@pytest.mark.parametrize("local", [ACCOUNTS, ANY])
@pytest.mark.parametrize(("door", "state"), STRANGERS, ids=" ".join)
def test_every_form_from_every_sender(door: str, state: str, local: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await stranger_at(house, door, state)
        taken = 0
        for sender in SENDERS.values():
            for form in forms(names_of(local)):
                utf8 = "" if form.isascii() or state == "helo" else " SMTPUTF8"
                codes = [line[:3] for line in await wire.say(f"MAIL FROM:{sender}{utf8}", f"RCPT {form}", "DATA")]
                if codes[-1] == "354":
                    taken += (await wire.raw(CONTENT + b".\r\n"))[0][:3] == "250"
                await wire.say("RSET")
        assert (await wire.say("NOOP")) == ["250 2.0.0 ok"]
        await house.settled(600)
        judge(house)
        assert taken == len(house.spool.accepted)
        assert bool(taken) == (door in {"mx", "mx-login"}), "the forms were never put before a judge"

    run(tmp_path, play)


def test_the_judge_sees_what_is_relayed(tmp_path: Path) -> None:
    """The same trials by somebody who may: the sink hears of it, so its silence above means something."""

    async def play(house: House) -> None:
        wire = await stranger_at(house, "submission-tls", "login")
        assert await wire.mail("<anna@example.org>", [f"<u@{EXT}>"], CONTENT) == ["250", "250", "354", "250"]
        trusted = HouseWire(house, "relay", client="198.51.100.9")
        await trusted.begin()
        assert await trusted.mail(f"<x@{EXT}>", [f"<v@{EXT}>"], CONTENT) == ["250", "250", "354", "250"]
        await house.settled()
        assert [message.rcpts for message in house.network.sink.messages] == [
            [b"TO:<u@ext.example>"],
            [b"TO:<v@ext.example>"],
        ]
        with pytest.raises(AssertionError):
            judge(house)

    run(tmp_path, play)


@pytest.mark.parametrize("door", ["mx", "submission", "relay", "relay-mute"])
def test_tricks_with_the_state(door: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for lines in tricks(NAMES):
            wire = HouseWire(house, door)
            await wire.begin()
            await wire.say(*lines)
            await wire.raw(CONTENT + b".\r\n")
            assert "354" not in [line[:3] for line in await wire.say("RCPT TO:<u@ext.example>", "DATA")]
            wire.leave()
        await house.settled(600)
        judge(house)

    run(tmp_path, play)


CLAIMS = claims(NAMES)


@pytest.mark.parametrize("door", ["mx", "submission", "relay", "relay-mute"])
@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_about_oneself(claim: str, door: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, door)
        await wire.begin()
        await wire.say(*CLAIMS[claim])
        for sender in claiming_senders(NAMES):
            await wire.say(f"MAIL FROM:{sender}", f"RCPT TO:<u@{EXT}>", "RCPT TO:<anna@example.org>", "DATA")
            await wire.raw(FORGED_HEADER + CONTENT + b".\r\n")
            await wire.say("RSET")
        await house.settled(600)
        judge(house)

    run(tmp_path, play)


TALK = b"EHLO x\r\nMAIL FROM:<x@ext.example>\r\nRCPT TO:<u@ext.example>\r\nDATA\r\n" + CONTENT + b".\r\n"


@pytest.mark.parametrize("door", ["mx", "submission", "relay", "relay-mute", "relay-proxy"])
@pytest.mark.parametrize("header", list(PROXY_HEADERS.values()), ids=list(PROXY_HEADERS))
@pytest.mark.parametrize("client", [CLIENT, "2001:db8::1", "198.51.100.8"])
def test_proxy_headers_from_peers_that_are_not_listed(door: str, header: bytes, client: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, door, client=client)
        await wire.raw(header + TALK)
        await house.settled(60)
        judge(house)
        assert wire.ended
        assert all(event.client == client for event in house.told(Disconnect))

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("header", "relays"),
    [
        (b"PROXY TCP4 203.0.113.99 192.0.2.25 1 1025\r\n", False),
        (b"PROXY TCP6 2001:db8::9 2001:db8::25 1 1025\r\n", False),
        (b"PROXY TCP6 ::ffff:203.0.113.99 ::ffff:192.0.2.25 1 1025\r\n", False),
        (b"PROXY TCP4 203.0.113.99 192.0.2.25 1 1025\r\n" + PROXY_V1, False),
        (b"PROXY TCP4 203.0.113.99 192.0.2.25 1 1025\r\n" + PROXY_V2, False),
        (b"PROXY TCP4 127.0.0.1\t192.0.2.25 1 1025\r\n", False),
        (b"PROXY TCP4 0127.0.0.1 192.0.2.25 1 1025\r\n", False),
        (b"PROXY UNKNOWN 127.0.0.1 192.0.2.25 1 1025\r\n", False),
        (PROXY_V2_LOCAL, False),
        (b"", False),
        (b"PROXY TCP4 198.51.100.9 192.0.2.25 1 1025\r\n", True),
        (b"PROXY TCP6 ::ffff:198.51.100.9 ::ffff:192.0.2.25 1 1025\r\n", True),
    ],
)
def test_who_stands_behind_a_listed_proxy_decides(header: bytes, relays: bool, tmp_path: Path) -> None:
    """The proxy itself stands in a trusted network; that must not rub off on those it brings, nor on nobody."""

    async def play(house: House) -> None:
        wire = HouseWire(house, "relay-proxy", client="198.51.100.7")
        if header:
            await wire.raw(header)
        for at in range(0, len(TALK), 40):
            await wire.raw(TALK[at : at + 40])
        await house.settled(60)
        if relays:
            assert house.recipients() == [f"u@{EXT}"]
        else:
            judge(house)

    run(tmp_path, play)


@pytest.mark.parametrize(
    "client",
    [
        "203.0.113.99",
        "::ffff:203.0.113.99",
        "2001:db8::1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "0.0.0.0",
    ],
)
def test_addresses_that_look_trusted(client: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for door in ("relay", "relay-mute"):
            wire = HouseWire(house, door, client=client)
            await wire.raw(TALK)
        await house.settled(60)
        judge(house)

    run(tmp_path, play)
