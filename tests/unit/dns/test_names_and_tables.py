"""Reverse names, the table resolver, resolv.conf, and the cache's bounds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from staffetta.dns.cache import Cache, CacheSettings
from staffetta.dns.resolver import Answer, Lookup, NoSuchName, RecordKind, Unavailable
from staffetta.dns.reverse import NAMES, Reverse, find_name, reverse_name
from staffetta.dns.system import MOST_SERVERS, parse_resolv_conf, system_servers
from staffetta.dns.table import TableResolver, Texts, parse_record

POINTER = "1.2.0.192.in-addr.arpa"
DOWN = Unavailable("SERVFAIL")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, Reverse()),
        ({POINTER: DOWN}, Reverse(temporary=True)),
        ({POINTER: {"TXT": ["x"]}}, Reverse()),
        ({POINTER: {"PTR": ["a.example"]}}, Reverse("a.example")),
        ({POINTER: {"PTR": ["a.example"]}, "a.example": {"A": ["192.0.2.1"]}}, Reverse("a.example", confirmed=True)),
        ({POINTER: {"PTR": ["a.example"]}, "a.example": {"A": ["192.0.2.2"]}}, Reverse("a.example")),
        ({POINTER: {"PTR": ["a.example"]}, "a.example": DOWN}, Reverse("a.example", temporary=True)),
        (
            {POINTER: {"PTR": ["a.example", "b.example"]}, "b.example": {"A": ["192.0.2.9", "192.0.2.1"]}},
            Reverse("b.example", confirmed=True),
        ),
    ],
)
def test_reverse(table: dict[str, Texts | Lookup], expected: Reverse) -> None:
    for address in ("192.0.2.1", "::ffff:192.0.2.1"):
        assert asyncio.run(find_name(TableResolver(table), address)) == expected


def test_reverse_of_ipv6() -> None:
    name = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
    assert reverse_name("2001:db8::1") == name
    table = {name: {"PTR": ["a.example"]}, "a.example": {"AAAA": ["2001:DB8:0:0::1"]}}
    assert asyncio.run(find_name(TableResolver(table), "2001:db8::1")) == Reverse("a.example", confirmed=True)


def test_reverse_names_are_bounded() -> None:
    table = {POINTER: {"PTR": [f"a{number}.example" for number in range(300)]}}
    resolver = TableResolver(table)
    asyncio.run(find_name(resolver, "192.0.2.1"))
    assert sum(resolver.asked.values()) == 1 + NAMES


def test_what_is_no_address_has_no_reverse_name() -> None:
    with pytest.raises(ValueError, match="not an address"):
        reverse_name("example.com")


TABLE: dict[str, Texts | Lookup] = {
    "example.com": {"A": ["192.0.2.1"]},
    "alias.example.com": {"CNAME": ["Example.com"]},
    "circle.example.com": {"CNAME": ["circle.example.com"]},
    "*.wild.example.com": {"TXT": ["w"]},
    "known.wild.example.com": {"TXT": ["k"]},
    "deep.below.example.org": {},
    "down.example.com": DOWN,
}


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("EXAMPLE.com.", RecordKind.A, Answer(("192.0.2.1",), 60, canonical_name="example.com")),
        ("example.com", RecordKind.MX, Answer((), 60, canonical_name="example.com")),
        ("alias.example.com", RecordKind.A, Answer(("192.0.2.1",), 60, canonical_name="example.com")),
        ("alias.example.com", RecordKind.CNAME, Answer(("example.com",), 60, canonical_name="alias.example.com")),
        ("circle.example.com", RecordKind.A, Unavailable("CNAME chain is a circle or too long")),
        ("a.b.wild.example.com", RecordKind.TXT, Answer((b"w",), 60, canonical_name="a.b.wild.example.com")),
        ("known.wild.example.com", RecordKind.TXT, Answer((b"k",), 60, canonical_name="known.wild.example.com")),
        ("below.known.wild.example.com", RecordKind.TXT, NoSuchName(60)),
        ("below.example.org", RecordKind.A, Answer((), 60, canonical_name="below.example.org")),
        ("other.example.org", RecordKind.A, NoSuchName(60)),
        ("down.example.com", RecordKind.A, DOWN),
        ("down.example.com", RecordKind.MX, DOWN),
    ],
)
def test_the_table_resolver(name: str, kind: RecordKind, expected: Lookup) -> None:
    resolver = TableResolver(TABLE)
    assert asyncio.run(resolver.query(name, kind)) == expected
    assert sum(resolver.asked.values()) == 1


def test_tables_refuse_what_is_no_record() -> None:
    for kind, text in (("A", "192.0.2"), ("MX", "mx.example"), ("SRV", "1 2 mx.example"), ("TLSA", "3 1 1 zz")):
        with pytest.raises(ValueError, match=r".+"):
            parse_record(RecordKind[kind], text)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (b"", []),
        (b"nameserver 192.0.2.1\n", ["192.0.2.1"]),
        (b"# nameserver 192.0.2.9\n;x\n\tnameserver\t2001:db8::1 # mine\r\n", ["2001:db8::1"]),
        (b"nameserver fe80::1%eth0", ["fe80::1%eth0"]),
        (b"nameserver 192.0.2.1\nnameserver 192.0.2.1\nnameserver 192.0.2.2", ["192.0.2.1", "192.0.2.2"]),
        (b"nameserver localhost\nnameserver 127.1\nnameserver\nnameserver \xd9\xa1.1.1.1\n", []),
        (b"search example.com\noptions edns0\nnameservers 192.0.2.1", []),
        (b"\0\xff\xfe nameserver", []),
    ],
)
def test_resolv_conf(text: bytes, addresses: list[str]) -> None:
    assert parse_resolv_conf(text) == tuple((address, 53) for address in addresses)


def test_resolv_conf_is_bounded_and_has_a_default(tmp_path: Path) -> None:
    many = b"".join(b"nameserver 192.0.2.%d\n" % number for number in range(100))
    assert len(parse_resolv_conf(many)) == MOST_SERVERS
    assert system_servers(tmp_path / "none") == (("127.0.0.1", 53),)
    (tmp_path / "resolv.conf").write_bytes(b"nameserver 192.0.2.7\n")
    assert system_servers(tmp_path / "resolv.conf") == (("192.0.2.7", 53),)


@pytest.mark.parametrize(
    ("lookup", "seconds"),
    [
        (Answer(("192.0.2.1",), 0), 5),
        (Answer(("192.0.2.1",), 77), 77),
        (Answer(("192.0.2.1",), 10**9), 86_400),
        (Answer((), 10**9, unusable=1), 86_400),
        (Answer((), 77), 77),
        (Answer((), 10**9), 300),
        (NoSuchName(0), 5),
        (NoSuchName(10**9), 300),
        (DOWN, 5),
    ],
)
def test_how_long_answers_are_kept(lookup: Lookup, seconds: int) -> None:
    now = [0.0]
    cache = Cache(CacheSettings(), lambda: now[0])
    cache.put(("a", RecordKind.A), lookup, 50)
    now[0] = seconds - 0.01
    assert cache.get(("a", RecordKind.A)) is lookup
    now[0] = seconds
    assert cache.get(("a", RecordKind.A)) is None
    assert (len(cache), cache.octets) == (0, 0)


def test_the_least_recently_used_goes_first_and_weights_add_up() -> None:
    cache = Cache(CacheSettings(octets=4000), lambda: 0.0)
    for name in "abcd":
        cache.put((name, RecordKind.A), NoSuchName(60), 25)
    cache.get(("a", RecordKind.A))
    cache.put(("e", RecordKind.A), NoSuchName(60), 200)
    assert cache.get(("a", RecordKind.A)) is not None
    assert cache.get(("b", RecordKind.A)) is None
    assert cache.octets <= 4000
    cache.put(("e", RecordKind.A), NoSuchName(60), 25)
    weight = cache.octets // len(cache)
    assert cache.octets == weight * len(cache)
    cache.put(("big", RecordKind.TXT), NoSuchName(60), 65535)
    assert len(cache) == 0
    assert cache.octets == 0
