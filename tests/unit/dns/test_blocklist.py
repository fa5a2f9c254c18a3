"""What a list's answer means: listed, not listed, or nothing at all. RFC 5782, and how real lists misbehave."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.dns.blocklist import (
    Listing,
    address_query,
    domain_query,
    look_up_address,
    look_up_domain,
    read_answer,
)
from staffetta.dns.list_meanings import KNOWN_LISTS, counting_codes, meaning
from staffetta.dns.resolver import Answer, Lookup, NoSuchName, RecordKind, Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mail.network import NetworkSet, parse_network

ZONE = "list.example"
CODES = NetworkSet([parse_network("127.0.0.2-127.0.0.4"), parse_network("127.0.0.10")])

NAMES = {
    "192.0.2.99": "99.2.0.192.list.example",
    "::ffff:192.0.2.99": "99.2.0.192.list.example",
    "2001:db8:1:2:3:4:567:89ab": "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.list.example",
    "::1": "1" + ".0" * 31 + ".list.example",
}


@pytest.mark.parametrize(("address", "name"), NAMES.items())
def test_names_of_addresses(address: str, name: str) -> None:
    assert address_query(ZONE, address) == name


@pytest.mark.parametrize("text", ["", "192.0.2", "example.com", "192.0.2.1/24", "fe80::1%eth0", "0192.0.2.1"])
def test_what_is_no_address_is_not_asked(text: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        address_query(ZONE, text)


DOMAINS = {
    "example.com": "example.com.list.example",
    "Mail.Example.COM.": "mail.example.com.list.example",
    "xn--bcher-kva.example": "xn--bcher-kva.example.list.example",
    "192.0.2.1": "",
    "192.0.2.1.": "",
    "1.2.3.256": "",
    "0x7f000001": "",
    "2001:db8::1": "",
    "[192.0.2.1]": "",
    "": "",
    ".": "",
    "a..b": "",
    "bücher.example": "",
    "x" * 64 + ".example": "",
}


@pytest.mark.parametrize(("domain", "name"), DOMAINS.items())
def test_names_of_domains_and_never_addresses(domain: str, name: str) -> None:
    assert domain_query(ZONE, domain) == name


def answer(*addresses: str) -> Lookup:
    return Answer(addresses, 60)


# What the DNS says; listed, fault of the list, and a word of the error.
ANSWERS: dict[str, tuple[Lookup, bool, bool, str]] = {
    "no such name": (NoSuchName(), False, False, ""),
    "no address": (answer(), False, False, ""),
    "a documented code": (answer("127.0.0.2"), True, False, ""),
    "the end of a range": (answer("127.0.0.4"), True, False, ""),
    "one of several": (answer("127.0.0.77", "127.0.0.10"), True, False, ""),
    "a code that does not count": (answer("127.0.0.5"), False, False, "127.0.0.5"),
    "127.0.0.1": (answer("127.0.0.1"), False, False, "127.0.0.1"),
    "a typing error in the zone": (answer("127.255.255.252"), False, True, "typing error"),
    "a public resolver": (answer("127.255.255.254"), False, True, "public resolver"),
    "too many queries": (answer("127.255.255.255"), False, True, "more often"),
    "another error": (answer("127.255.255.1"), False, True, "reports an error"),
    "an error beside a code": (answer("127.0.0.2", "127.255.255.254"), False, True, "public resolver"),
    "a parked domain": (answer("203.0.113.80"), False, True, "given up"),
    "a parked domain beside a code": (answer("127.0.0.2", "203.0.113.80"), False, True, "given up"),
    "no answer": (Unavailable("SERVFAIL"), False, False, "SERVFAIL"),
}


@pytest.mark.parametrize(("lookup", "listed", "fault", "word"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers(lookup: Lookup, listed: bool, fault: bool, word: str) -> None:
    listing = read_answer(ZONE, "192.0.2.1", lookup, CODES)
    assert (listing.listed, listing.fault) == (listed, fault)
    assert word in listing.error
    assert bool(listing.error) is bool(word)


@given(st.lists(st.ip_addresses(v=4).map(str), max_size=5))
def test_listed_only_for_codes(addresses: list[str]) -> None:
    listing = read_answer(ZONE, "192.0.2.1", answer(*addresses), CODES)
    if listing.listed:
        assert any(CODES.contains(address) for address in addresses)
    assert not (listing.listed and listing.error)


def test_without_codes_nothing_is_listed() -> None:
    assert not read_answer(ZONE, "192.0.2.1", answer("127.0.0.2"), NetworkSet()).listed


def test_asking() -> None:
    table = TableResolver(
        {
            "99.2.0.192.list.example": {"A": ["127.0.0.3"], "TXT": ["see\x1b[31m https://list.example/"]},
            "bad.example.list.example": {"A": ["127.0.0.2"]},
        }
    )

    async def scenario() -> None:
        assert await look_up_address(table, ZONE, "192.0.2.99", CODES) == Listing(
            ZONE, "192.0.2.99", listed=True, codes=("127.0.0.3",)
        )
        assert table.asked == {("99.2.0.192.list.example", RecordKind.A): 1}
        told = await look_up_address(table, ZONE, "192.0.2.99", CODES, with_text=True)
        assert told.text.endswith("https://list.example/")
        assert not (await look_up_address(table, ZONE, "192.0.2.98", CODES, with_text=True)).listed
        assert (await look_up_domain(table, ZONE, "bad.example", CODES)).listed
        asked = sum(table.asked.values())
        refused = await look_up_domain(table, ZONE, "192.0.2.99", CODES)
        assert not refused.listed
        assert refused.error
        assert sum(table.asked.values()) == asked

    asyncio.run(scenario())


def test_meanings() -> None:
    assert meaning("zen.spamhaus.org", "127.0.0.2").startswith("SBL")
    assert meaning("zen.spamhaus.org", "127.0.0.11").startswith("PBL")
    assert "public resolver" in meaning("anything.example", "127.255.255.254")
    assert meaning("zen.spamhaus.org", "127.0.0.99") == ""
    assert meaning("anything.example", "127.0.0.2") == ""
    assert meaning("zen.spamhaus.org", "no address") == ""
    codes = counting_codes("dbl.spamhaus.org")
    assert codes is not None
    assert codes.contains("127.0.1.2")
    assert not codes.contains("127.0.1.255")
    assert counting_codes("anything.example") is None
    assert read_answer("dbl.spamhaus.org", "x", answer("127.0.1.255"), codes).fault
    for known in KNOWN_LISTS.values():
        for one in known.meanings:
            assert one.codes.first >> 24 == 127
