"""The relay says what receivers will conclude before they do, and warns when mail will be refused for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from staffetta.mailauth.dkim.keystore import KeyStore
from staffetta.mailauth.dkim.record import write_record
from staffetta.observe.events import Accept, Forecast
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

DOORS = """\
[listen.submission]
bind = ["192.0.2.25:465"]
role = "submission"
tls = "implicit"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
trust = ["198.51.100.0/24"]
[listen.fixed]
bind = ["192.0.2.25:1026"]
role = "relay"
trust = ["198.51.100.0/24"]
from_fixed = "printer@example.org"
[domain."example.org"]
dkim = "auto"
[route.shop]
from = ["shop.example"]
source = ["203.0.113.5"]
[checks]
"""
STRICT = {"_dmarc.example.org": {"TXT": ["v=DMARC1; p=reject"]}}
HERE = {"mx.example.org": {"A": ["203.0.113.5"]}}
Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, zones: dict[str, Any]) -> None:
    clock = virtual.VirtualClock()
    mail = {"far.example": {"MX": ["10 mx.far.example"]}, "mx.far.example": {"A": ["203.0.113.25"]}}

    async def main() -> None:
        accounts = {"anna@example.org": "secret"}
        async with House(folder, DOORS, clock=clock, accounts=accounts, zones=mail | zones) as house:
            house.resolver.everywhere = False
            await play(house)

    virtual.run(main, clock)


async def send(house: House, author: str = "anna@example.org", to: str = "ben@far.example") -> None:
    wire = HouseWire(house, "submission", tls=True)
    await wire.begin()
    await wire.login("anna@example.org", "secret")
    before = len(house.told(Accept))
    await wire.mail(f"<{author}>", [f"<{to}>"], f"From: {author}\r\n\r\nhello\r\n".encode())
    for _ in range(3000):
        if len(house.told(Accept)) > before:
            break
        await asyncio.sleep(0.01)
    await house.settled()


def test_mail_that_will_be_refused_is_an_alarm_at_once(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        await send(house)
        (told,) = house.told(Forecast)
        first = house.told(Accept)[0]
        assert (told.verdict, told.policy, told.spf, told.dkim) == ("fail", "reject", "none", "permerror")
        assert told.id == first.id
        assert "forecast" not in first.checks
        alarms = [alarm for alarm in house.parts.alarms.active() if alarm.name == "forecast example.org"]
        assert len(alarms) == 1
        asked = len(house.resolver.asked)
        await send(house)
        assert (
            house.told(Accept)[1].checks["forecast"].startswith("fail: spf none, dkim permerror, dmarc fail (reject)")
        )
        assert len(house.told(Forecast)) == 1
        assert [name for name, _ in house.resolver.asked[asked:] if name.startswith("_dmarc")] == []

    run(tmp_path, play, HERE | STRICT)


def test_published_keys_and_addresses_pass(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        store = KeyStore(house.folder / "data")
        store.make("example.org", datetime.now(UTC))
        for key in store.signing_keys("example.org"):
            text = write_record(key.private.public_key())
            house.resolver._table[f"{key.selector}._domainkey.example.org"] = {"TXT": [text]}
        await send(house)
        (told,) = house.told(Forecast)
        assert (told.verdict, told.spf, told.dkim, told.dmarc) == ("pass", "pass", "pass", "pass")
        assert house.parts.alarms.active() == ()

    run(tmp_path, play, HERE | STRICT | {"example.org": {"TXT": ["v=spf1 a:mx.example.org -all"]}})


@pytest.mark.parametrize("to", ["anna@example.org"])
def test_mail_that_stays_here_is_nobodys_to_judge(to: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        await send(house, to=to)
        assert house.told(Forecast) == []

    run(tmp_path, play, HERE | STRICT)


def test_the_way_decides_from_which_address_it_leaves(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "relay", client="198.51.100.9")
        await wire.begin()
        for sender in ("x@shop.example", "x@other.example"):
            await wire.mail(f"<{sender}>", ["<ben@far.example>"], b"Subject: s\r\n\r\nhello\r\n")
            await house.settled()
        assert [(told.envelope_domain, told.spf) for told in house.told(Forecast)] == [
            ("shop.example", "pass"),
            ("other.example", "fail"),
        ]

    records = {name: {"TXT": ["v=spf1 ip4:203.0.113.5 -all"]} for name in ("shop.example", "other.example")}
    run(tmp_path, play, {"mx.example.org": {"A": ["203.0.113.99"]}} | records)


def test_what_is_signed_at_a_door_with_a_fixed_sender_counts_as_signed(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "fixed", client="198.51.100.9")
        await wire.begin()
        await wire.mail("<any@elsewhere.example>", ["<ben@far.example>"], b"Subject: s\r\n\r\nscan\r\n")
        for _ in range(3000):
            if house.told(Forecast):
                break
            await asyncio.sleep(0.01)
        (told,) = house.told(Forecast)
        assert (told.author_domain, told.signed_as) == ("example.org", "example.org")

    run(tmp_path, play, HERE | STRICT)
