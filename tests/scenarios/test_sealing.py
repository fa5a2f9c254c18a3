"""What an alias sends outside leaves with a set of ours, where the operator asks for it. RFC 8617, a whole relay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from staffetta.dns.table import TableResolver
from staffetta.mailauth.arc.chain import ArcVerification
from staffetta.mailauth.dkim.keystore import KeyStore
from staffetta.mailauth.dkim.record import write_record
from staffetta.mailauth.results import Word
from staffetta.message.header import Header
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[domain."example.org"]
dkim = "auto"
[domain."example.org".aliases]
out = ["far@ext.example"]
[checks]
"""
LETTER = b"From: Cara <cara@near.example>\r\nSubject: a  long\r\n\tone\r\n\r\n..dots\r\nwhite  space \t\r\n\r\n\r\n"
BROKEN = b"ARC-Seal: i=1; cv=none; nonsense\r\n" + LETTER


@pytest.mark.parametrize(
    ("setting", "letter", "expected"),
    [("arc_seal = true", LETTER, Word.PASS), ("", LETTER, Word.NONE), ("arc_seal = true", BROKEN, Word.FAIL)],
)
def test_forwarded_mail_is_sealed(setting: str, letter: bytes, expected: Word, tmp_path: Path) -> None:
    async def main() -> None:
        async with House(tmp_path, DOORS + setting, clock=clock, accounts={}) as house:
            wire = HouseWire(house, "mx", client="203.0.113.99")
            await wire.begin("mail.near.example")
            await wire.mail("<cara@near.example>", ["<out@example.org>"], letter)
            for _ in range(2000):
                if house.network.sink.messages:
                    break
                await asyncio.sleep(0.01)
            (received,) = house.network.sink.messages
            names = {
                f"{key.selector}._domainkey.example.org": {"TXT": [write_record(key.private.public_key())]}
                for key in KeyStore(house.folder / "data").signing_keys("example.org")
            }
            head, _, body = received.content.partition(b"\r\n\r\n")
            verification = ArcVerification(Header(head + b"\r\n"))
            verification.body(body)
            result = await verification.finish(TableResolver(names), clock.wall())
            assert result.word is expected, result
            if expected is Word.PASS:
                assert result.sealers == ("example.org",)
                assert b"\r\nARC-Authentication-Results: i=1; " in received.content
                assert received.content.index(b"ARC-Seal") == 0

    clock = virtual.VirtualClock()
    virtual.run(main, clock)
