"""What our own users send leaves signed, after all changes, and nothing else does. Over the whole relay in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from staffetta.app.key_care import care_for_keys
from staffetta.dns.table import TableResolver
from staffetta.mailauth.dkim.keystore import KeyStore
from staffetta.mailauth.dkim.record import write_record
from staffetta.mailauth.dkim.verify import Verification
from staffetta.mailauth.results import DkimResult, Word
from staffetta.message.header import Header
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
trust = ["198.51.100.0/24"]
[listen.listed]
bind = ["192.0.2.25:1026"]
role = "relay"
trust = ["198.51.100.0/24"]
from = ["example.org"]
[domain."example.org"]
dkim = "auto"
[domain."example.org".aliases]
out = ["far@ext.example"]
[domain."plain.example"]
dkim = "off"
"""
ACCOUNTS = {"anna@example.org": ("secret", ("@plain.example",))}
LETTER = (
    b"Bcc: hidden@ext.example\r\nFrom: Anna <anna@example.org>\r\nTo: far@ext.example\r\nSubject: a  long\r\n\tone\r\n"
    b"\r\n..dots\r\nwhite  space \t\r\n\r\n\r\n"
)
Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, **more: Any) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(folder, DOORS, clock=clock, accounts=ACCOUNTS, **more) as house:
            await play(house)

    virtual.run(main, clock)


async def logged_in(house: House) -> HouseWire:
    wire = HouseWire(house, "submission", tls=True)
    await wire.begin()
    assert (await wire.login("anna@example.org", "secret"))[0][:3] == "235"
    return wire


async def judged(house: House, content: bytes) -> tuple[DkimResult, ...]:
    """What a receiver finds that knows the records of our keys."""
    store = KeyStore(house.folder / "data")
    names = {
        f"{key.selector}._domainkey.example.org": {"TXT": [write_record(key.private.public_key())]}
        for key in store.signing_keys("example.org")
    }
    head, _, body = content.partition(b"\r\n\r\n")
    verification = Verification(Header(head + b"\r\n"))
    verification.body(body)
    return await verification.finish(TableResolver(names), house.clock.wall())


async def signed(house: House, count: int) -> None:
    """Wait until the thread has signed."""
    for _ in range(2000):
        if len(house.network.sink.messages) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(house.network.sink.messages)} of {count} messages arrived")


def test_a_login_signs_for_its_domain(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await logged_in(house)
        await wire.mail("<anna@example.org>", ["<far@ext.example>"], LETTER)
        await signed(house, 1)
        content = house.network.sink.messages[0].content
        assert b"Bcc" not in content
        results = await judged(house, content)
        assert [(one.word, one.domain, one.algorithm) for one in results] == [
            (Word.PASS, "example.org", "rsa-sha256"),
            (Word.PASS, "example.org", "ed25519-sha256"),
        ]
        assert b" l=" not in content
        altered = content.replace(b"\r\nSubject:", b"\r\nFrom: boss@example.org\r\nSubject:", 1)
        verdicts = await judged(house, altered)
        assert {one.word for one in verdicts} <= {Word.FAIL, Word.POLICY}, verdicts

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("door", "sender", "expected"),
    [
        ("submission", "anna@plain.example", 0),
        ("relay", "anna@example.org", 0),
        ("listed", "anna@example.org", 2),
    ],
)
def test_nobody_signs_because_of_an_address_alone(door: str, sender: str, expected: int, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        if door == "submission":
            wire = await logged_in(house)
        else:
            wire = HouseWire(house, door, client="198.51.100.9")
            await wire.begin()
        letter = b"From: " + sender.encode() + b"\r\n\r\nhello\r\n"
        await wire.mail(f"<{sender}>", ["<far@ext.example>"], letter)
        await signed(house, 1)
        assert len(await judged(house, house.network.sink.messages[0].content) if expected else ()) == expected
        assert house.network.sink.messages[0].content.count(b"DKIM-Signature") == expected

    run(tmp_path, play)


def test_keys_that_cannot_be_read_put_mail_off(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await logged_in(house)
        store = KeyStore(house.folder / "data")
        keys = store.make("example.org", datetime.now(UTC))
        for entry in keys.entries:
            store.path("example.org", entry.selector).write_text("no key")
        await wire.mail("<anna@example.org>", ["<far@ext.example>"], LETTER)
        for _ in range(500):
            if house.rules():
                break
            await asyncio.sleep(0.01)
        assert house.rules() == ["signing"]
        assert house.spool.accepted == []

    run(tmp_path, play)


def test_a_key_without_its_record_is_an_alarm(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        relay: Any = SimpleNamespace(parts=house.parts, config=house.config(), staff=None)
        table = house.resolver._table
        care = asyncio.create_task(care_for_keys(relay))
        for _ in range(600):
            await asyncio.sleep(1.0)
            if house.parts.alarms.active():
                break
        (alarm,) = house.parts.alarms.active()
        assert (alarm.name, "dkim publish example.org" in alarm.text) == ("dkim example.org", True)
        for key in KeyStore(house.folder / "data").signing_keys("example.org"):
            table[f"{key.selector}._domainkey.example.org"] = {"TXT": [write_record(key.private.public_key())]}
        for _ in range(2000):
            await asyncio.sleep(1.0)
            if not house.parts.alarms.active():
                break
        assert house.parts.alarms.active() == ()
        care.cancel()

    run(tmp_path, play)
