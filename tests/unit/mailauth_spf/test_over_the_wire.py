"""SPF with the relay's own resolver and real packets: what a DNS server is asked, and what trouble comes to."""

from __future__ import annotations

import asyncio
import time

import pytest

from staffetta.dns.live import LiveResolver, ResolverSettings
from staffetta.mailauth.asking import QUERIES, Asker
from staffetta.mailauth.results import SpfResult, SpfWord
from staffetta.mailauth.spf.check import SpfQuestion, check_helo, check_spf
from staffetta.testing.zone import ZoneServer

ZONES = {
    "example.com": {
        "TXT": ["v=spf1 mx include:_spf.example.net exists:%{ir}.%{l}._ok.%{d} -all exp=why.%{d}"],
        "MX": ["1 mx.example.com"],
    },
    "mx.example.com": {"A": ["192.0.2.25"], "TXT": ["v=spf1 a -all"]},
    "_spf.example.net": {"TXT": ["v=spf1 ip4:198.51.100.0/24 " + "ip4:203.0.113.7 " * 40 + "?all"]},
    "3.2.0.192.bob._ok.example.com": {"A": ["127.0.0.2"]},
    "why.example.com": {"TXT": ["%{c} may not send for %{d}, says %{r}"]},
    "trouble.example": {"TXT": ["v=spf1 a:servfail.example.com -all"]},
    "loop.trouble.example": {"TXT": ["v=spf1 -all"]},
    "big.example": {"TXT": ["v=spf1 a:biganswer-400.example.com mx:manymx-100.example.com -all"]},
    "bomb.example": {"TXT": ["v=spf1" + "".join(f" mx:manymx-10.m{n}.example" for n in range(10)) + " -all"]},
    **{f"m{n}.example": {"A": ["192.0.2.1"]} for n in range(10)},
}


@pytest.mark.parametrize(
    ("client", "local_part", "domain", "expected", "most"),
    [
        ("192.0.2.25", "bob", "example.com", SpfResult(SpfWord.PASS, "example.com", "mx"), 3),
        ("203.0.113.7", "bob", "Example.COM", SpfResult(SpfWord.PASS, "example.com", "include:_spf.example.net"), 4),
        ("192.0.2.3", "bob", "example.com", SpfResult(SpfWord.PASS, "example.com", "exists:%{ir}.%{l}._ok.%{d}"), 5),
        (
            "192.0.2.3",
            "eve",
            "example.com",
            SpfResult(
                SpfWord.FAIL,
                "example.com",
                "-all",
                explanation="192.0.2.3 may not send for example.com, says mx.example.org",
            ),
            6,
        ),
        ("192.0.2.3", "", "", SpfResult(SpfWord.FAIL, "mx.example.com", "-all"), 2),
    ],
)
def test_checks(client: str, local_part: str, domain: str, expected: SpfResult, most: int) -> None:
    async def run() -> tuple[SpfResult, int]:
        async with ZoneServer(ZONES) as zone:
            resolver = LiveResolver(ResolverSettings(servers=((zone.address, zone.port),)))
            try:
                question = SpfQuestion(client, "mx.example.com", local_part, domain, "mx.example.org", 1e9)
                first = await check_spf(Asker(resolver, time.monotonic), question)
                count = sum(zone.asked.values())
                assert await check_spf(Asker(resolver, time.monotonic, queries=0), question) == first
                return first, count
            finally:
                await resolver.close()

    result, count = asyncio.run(run())
    assert result == expected
    assert count <= most


@pytest.mark.parametrize(
    ("domain", "word"),
    [
        ("trouble.example", SpfWord.TEMPERROR),
        ("loop.trouble.example", SpfWord.TEMPERROR),
        ("big.example", SpfWord.PERMERROR),
        ("bomb.example", SpfWord.TEMPERROR),
        ("nowhere.example", SpfWord.NONE),
    ],
)
def test_trouble(domain: str, word: SpfWord) -> None:
    async def run() -> tuple[list[SpfWord], int]:
        async with ZoneServer(ZONES) as zone:
            resolver = LiveResolver(ResolverSettings(servers=((zone.address, zone.port),), timeout_seconds=2))
            try:
                asker = Asker(resolver, time.monotonic)
                question = SpfQuestion("192.0.2.3", domain, "bob", domain, "mx.example.org", 1e9)
                words = [(await check_helo(asker, question)).word, (await check_spf(asker, question)).word]
                return words, sum(zone.asked.values())
            finally:
                await resolver.close()

    words, asked = asyncio.run(run())
    assert words == [word, word]
    assert asked <= QUERIES
