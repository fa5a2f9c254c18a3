"""`check ip`: names, lists and what they mean, as tables."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from staffetta.control.check_ip import Outcome, report, special_words, why_generic
from staffetta.control.lists import AskedList, asked_lists
from staffetta.dns.resolver import Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mail.domain import Domain
from staffetta.mail.network import NetworkSet, parse_network

SILENT = Unavailable("SERVFAIL")
HERE = "44.33.22.11"
NAMED = {f"{HERE}.in-addr.arpa": {"PTR": ["mx.good.example"]}, "mx.good.example": {"A": ["11.22.33.44"]}}
BL = (AskedList("bl.example", NetworkSet([parse_network("127.0.0.2")])),)
ZEN = asked_lists(None, [Domain("zen.spamhaus.org")])

ROWS: list[tuple[str, dict[str, Any], tuple[AskedList, ...], Outcome, tuple[bool, str, str]]] = [
    # what is so, the DNS, the lists -> outcome; of the list: listed, code, words of its meaning or error
    ("clean, no list", NAMED, (), Outcome.CLEAN, (False, "", "")),
    ("clean", NAMED, BL, Outcome.CLEAN, (False, "", "")),
    ("listed", NAMED | {f"{HERE}.bl.example": {"A": ["127.0.0.2"]}}, BL, Outcome.PROBLEM,
     (True, "127.0.0.2", "not known here")),
    ("a code that does not count", NAMED | {f"{HERE}.bl.example": {"A": ["127.0.0.9"]}}, BL, Outcome.UNKNOWN,
     (False, "127.0.0.9", "not among the codes")),
    ("known list", NAMED | {f"{HERE}.zen.spamhaus.org": {"A": ["127.0.0.10"]}}, ZEN, Outcome.PROBLEM,
     (True, "127.0.0.10", "PBL")),
    ("public resolver", NAMED | {f"{HERE}.zen.spamhaus.org": {"A": ["127.255.255.254"]}}, ZEN, Outcome.UNKNOWN,
     (False, "127.255.255.254", "public resolver")),
    ("too many questions", NAMED | {f"{HERE}.bl.example": {"A": ["127.255.255.255"]}}, BL, Outcome.UNKNOWN,
     (False, "127.255.255.255", "more often than the list allows")),
    ("a captured zone", NAMED | {"*.bl.example": {"A": ["11.9.9.9"]}, "bl.example": {}}, BL, Outcome.UNKNOWN,
     (False, "11.9.9.9", "may have been given up")),
    ("a list of everything", NAMED | {"*.bl.example": {"A": ["127.0.0.2"]}, "bl.example": {}}, BL, Outcome.UNKNOWN,
     (False, "127.0.0.2", "it lists 127.0.0.1, so everything")),
    ("a dead list", NAMED | {f"{HERE}.bl.example": SILENT}, BL, Outcome.UNKNOWN, (False, "", "SERVFAIL")),
    ("listed, other list dead",
     NAMED | {f"{HERE}.bl.example": {"A": ["127.0.0.2"]}, f"{HERE}.zen.spamhaus.org": SILENT},
     BL + ZEN, Outcome.PROBLEM, (True, "127.0.0.2", "")),
    ("no name", {}, (), Outcome.PROBLEM, (False, "", "")),
    ("a name that leads elsewhere", NAMED | {"mx.good.example": {"A": ["11.22.33.45"]}}, (), Outcome.PROBLEM,
     (False, "", "")),
    ("the name is not known", {f"{HERE}.in-addr.arpa": SILENT}, (), Outcome.UNKNOWN, (False, "", "")),
    ("forward is not known", NAMED | {"mx.good.example": SILENT}, (), Outcome.UNKNOWN, (False, "", "")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "lists", "outcome", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_address(
    table: dict[str, Any], lists: tuple[AskedList, ...], outcome: Outcome, expected: tuple[bool, str, str]
) -> None:
    found = asyncio.run(report(TableResolver(table), "11.22.33.44", lists))
    assert found.outcome is outcome, found
    if lists:
        listed, code, words = expected
        one = found.answer.lists[0]
        assert (one.listed, one.code) == (listed, code)
        assert words in f"{one.meaning} {one.error}"
        assert (one.error is None) == (listed or not (code or words))


def test_ipv6_and_mapped_addresses_are_asked_rightly() -> None:
    nibbles = ".".join(reversed("20010db8000000000000000000000001"))
    table = {f"{nibbles}.ip6.arpa": {"PTR": ["a.example"]}, "a.example": {"AAAA": ["2001:db8::1"]},
             f"{nibbles}.bl.example": {"A": ["127.0.0.2"]}}  # fmt: skip
    found = asyncio.run(report(TableResolver(table), "2001:DB8::1", BL)).answer
    assert (found.address, found.reverse, found.confirmed) == ("2001:db8::1", "a.example", True)
    assert found.lists[0].listed
    mapped = asyncio.run(report(TableResolver(NAMED), "::ffff:11.22.33.44", BL)).answer
    assert (mapped.address, mapped.confirmed) == ("11.22.33.44", True)


@pytest.mark.parametrize(
    ("name", "generic"),
    [
        ("mx.good.example", False),
        ("mail11.good.example", False),
        ("mx1.us-east-2.good.example", False),
        ("dsl.example", True),
        ("adsl-gw.good.example", True),
        ("pool.example.net", True),
        ("poolside.example.net", False),
        ("11-22-33-44.example.net", True),
        ("44.33.22.11.example.net", True),
        ("host-011-022-033-044.example.net", True),
        ("ip11022033044.example.net", True),
        ("0b16212c.example.net", True),
        ("c-33-44.cust.example.net", True),
        ("22-33-44.example.net", True),
        ("mx.dhcp12.example.net", True),
        ("mail.dyn.com", False),
        ("mail.cable.co.example", True),
        ("1.2.3.4.example.net", False),
    ],
)
def test_generic_names(name: str, generic: bool) -> None:
    assert bool(why_generic(name, "11.22.33.44")) is generic, why_generic(name, "11.22.33.44")


def test_generic_ipv6_names() -> None:
    address = "2001:db8:1:2:a:b:c:d"
    assert why_generic("2001-0db8-0001-0002-000a-000b-000c-000d.example.net", address)
    assert why_generic("d.0.0.0.c.0.0.0.b.0.0.0.a.0.0.0.x.example.net", address)
    assert not why_generic("mx.good.example", address)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("8.8.8.8", ""),
        ("10.1.2.3", "private"),
        ("fd00::1", "private"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("192.0.2.1", "documentation"),
        ("2001:db8::1", "documentation"),
        ("100.64.0.1", "CGNAT"),
        ("224.0.0.1", "multicast"),
        ("64:ff9b::a00:1", "wrapped in IPv6"),
    ],
)
def test_special_addresses_in_words(address: str, words: str) -> None:
    said = special_words(address)
    assert words in said
    assert bool(said) == bool(words)
