"""Where mail for a domain goes: one row for every way the DNS can answer."""

from __future__ import annotations

import asyncio
import random

import pytest

from staffetta.dns.mx import (
    ADDRESSES,
    HOSTS,
    LOOP,
    NO_HOST,
    NO_SUCH_DOMAIN,
    TAKES_NO_MAIL,
    UNUSABLE_HOSTS,
    Destination,
    Hosts,
    MxHost,
    Nowhere,
    OwnIdentity,
    describe,
    find_addresses,
    find_hosts,
)
from staffetta.dns.resolver import Answer, Lookup, MailExchanger, RecordKind, Resolver, Unavailable
from staffetta.dns.table import TableResolver, Texts
from staffetta.mail.domain import parse_host

OWN = OwnIdentity(frozenset({"relay.example.net"}), frozenset({"198.51.100.9", "2001:db8::9"}))
DOWN = Unavailable("SERVFAIL")


class Partly(TableResolver):
    """A table in which single types of a name can fail."""

    def __init__(self, table: dict[str, Texts | Lookup], down: set[tuple[str, RecordKind]]) -> None:
        super().__init__(table)
        self.down = down

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        lookup = await super().query(name, kind)
        return DOWN if (name, kind) in self.down else lookup


def find(resolver: Resolver, text: str = "example.com", seed: int = 1) -> Destination:
    return asyncio.run(find_hosts(resolver, parse_host(text), OWN, random.Random(seed).shuffle))


def listed(*texts: str, **more: Texts) -> Destination:
    return find(TableResolver({"example.com": {"MX": list(texts), "A": ["192.0.2.1"]}, **more}))


def hosts(*pairs: tuple[int, str]) -> Hosts:
    return Hosts("example.com", False, tuple(MxHost(*pair) for pair in pairs))


ROWS: list[tuple[str, dict[str, Texts | Lookup], Destination]] = [
    ("no such name", {}, Nowhere("example.com", NO_SUCH_DOMAIN)),
    ("nobody knows", {"example.com": DOWN}, DOWN),
    ("one MX", {"example.com": {"MX": ["10 a.example"]}}, hosts((10, "a.example"))),
    (
        "by preference",
        {"example.com": {"MX": ["20 b.example", "5 a.example"]}},
        hosts((5, "a.example"), (20, "b.example")),
    ),
    ("through an alias", {"example.com": {"CNAME": ["x.org"]}, "x.org": {"MX": ["1 a.x.org"]}}, hosts((1, "a.x.org"))),
    ("null MX", {"example.com": {"MX": ["0 ."], "A": ["192.0.2.1"]}}, Nowhere("example.com", TAKES_NO_MAIL)),
    ("null MX twice", {"example.com": {"MX": ["0 .", "9 ."]}}, Nowhere("example.com", TAKES_NO_MAIL)),
    ("null MX beside another", {"example.com": {"MX": ["0 .", "10 a.example"]}}, hosts((10, "a.example"))),
    ("implicit", {"example.com": {"A": ["192.0.2.1"]}}, Hosts("example.com", True, (MxHost(0, "example.com"),))),
    (
        "implicit IPv6",
        {"example.com": {"AAAA": ["2001:db8::1"]}},
        Hosts("example.com", True, (MxHost(0, "example.com"),)),
    ),
    ("name without mail", {"example.com": {"TXT": ["hello"]}}, Nowhere("example.com", NO_HOST)),
    (
        "address as MX",
        {"example.com": {"MX": ["10 192.0.2.1"], "A": ["192.0.2.1"]}},
        Nowhere("example.com", UNUSABLE_HOSTS),
    ),
    ("address beside a name", {"example.com": {"MX": ["1 192.0.2.1", "10 a.example"]}}, hosts((10, "a.example"))),
    ("a host twice", {"example.com": {"MX": ["20 a.example", "10 a.example"]}}, hosts((10, "a.example"))),
    (
        "we are the best",
        {"example.com": {"MX": ["10 relay.example.net", "20 b.example"]}},
        Nowhere("example.com", LOOP),
    ),
    ("we are the only one", {"example.com": {"MX": ["10 Relay.Example.net."]}}, Nowhere("example.com", LOOP)),
    (
        "we are second",
        {"example.com": {"MX": ["10 a.example", "20 relay.example.net", "20 c.example", "30 d.example"]}},
        hosts((10, "a.example")),
    ),
    (
        "we are one of the best",
        {"example.com": {"MX": ["10 a.example", "10 relay.example.net"]}},
        Nowhere("example.com", LOOP),
    ),
    ("we are the address", {"example.com": {"A": ["192.0.2.1", "198.51.100.9"]}}, Nowhere("example.com", LOOP)),
    ("nothing usable", {"example.com": Answer((), 60, unusable=2)}, Nowhere("example.com", UNUSABLE_HOSTS)),
    (
        "null MX beside rubbish",
        {"example.com": Answer((MailExchanger(0, ""),), 60, unusable=1)},
        Nowhere("example.com", UNUSABLE_HOSTS),
    ),
    (
        "authenticated",
        {"example.com": Answer((MailExchanger(0, "a.example"),), 60, True)},
        Hosts("example.com", False, (MxHost(0, "a.example"),), True),
    ),
]


@pytest.mark.parametrize(("table", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_where_mail_goes(table: dict[str, Texts | Lookup], expected: Destination) -> None:
    assert find(TableResolver(table)) == expected


def test_no_answer_about_mx_never_leads_to_addresses() -> None:
    resolver = Partly({"example.com": {"A": ["192.0.2.1"]}}, {("example.com", RecordKind.MX)})
    assert find(resolver) == DOWN
    assert set(resolver.asked) == {("example.com", RecordKind.MX)}


@pytest.mark.parametrize("kind", [RecordKind.A, RecordKind.AAAA])
def test_an_implicit_host_is_unavailable_when_its_addresses_are(kind: RecordKind) -> None:
    assert find(Partly({"example.com": {"TXT": ["x"]}}, {("example.com", kind)})) == DOWN


def test_our_own_name_without_mx_is_a_loop() -> None:
    table: dict[str, Texts | Lookup] = {"relay.example.net": {"A": ["192.0.2.1"]}}
    assert find(TableResolver(table), "relay.example.net") == Nowhere("relay.example.net", LOOP)


def test_one_family_is_enough() -> None:
    found = find(Partly({"example.com": {"A": ["192.0.2.1"]}}, {("example.com", RecordKind.AAAA)}))
    assert isinstance(found, Hosts)


def test_equals_are_shuffled_within_their_preference() -> None:
    texts = [f"10 a{number}.example" for number in range(5)] + [f"5 b{number}.example" for number in range(5)]
    resolver = TableResolver({"example.com": {"MX": texts}})
    orders = set()
    for seed in range(20):
        found = find(resolver, seed=seed)
        assert isinstance(found, Hosts)
        assert [host.preference for host in found.hosts] == [5] * 5 + [10] * 5
        assert len({host.host for host in found.hosts}) == 10
        orders.add(found.hosts)
    assert len(orders) > 15


def test_hosts_are_bounded_and_the_preferred_ones_stay() -> None:
    found = listed(*[f"{number} a{number}.example" for number in range(300, 0, -1)])
    assert isinstance(found, Hosts)
    assert [host.preference for host in found.hosts] == list(range(1, HOSTS + 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[192.0.2.5]", Hosts("[192.0.2.5]", True, (MxHost(0, "192.0.2.5"),))),
        ("[IPv6:2001:db8::5]", Hosts("[IPv6:2001:db8::5]", True, (MxHost(0, "2001:db8::5"),))),
        ("[198.51.100.9]", Nowhere("[198.51.100.9]", LOOP)),
        ("[IPv6:2001:DB8::9]", Nowhere("[IPv6:2001:db8::9]", LOOP)),
        ("[IPv6:::ffff:198.51.100.9]", Nowhere("[IPv6:::ffff:c633:6409]", LOOP)),
    ],
)
def test_address_literals_are_not_looked_up(text: str, expected: Destination) -> None:
    resolver = TableResolver({})
    assert find(resolver, text) == expected
    assert not resolver.asked


def addresses(table: dict[str, Texts | Lookup], down: set[tuple[str, RecordKind]], host: str = "mx.example") -> object:
    return asyncio.run(find_addresses(Partly(table, down), host))


def test_addresses_come_in_turn_and_are_bounded() -> None:
    fours = [f"192.0.2.{number}" for number in range(1, 4)]
    sixes = ["2001:db8::1", "2001:db8::2"]
    expected = ("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3")
    assert addresses({"mx.example": {"A": fours, "AAAA": sixes}}, set()) == expected
    assert addresses({"mx.example": {"A": fours}}, set()) == tuple(fours)
    assert addresses({"mx.example": {"AAAA": sixes}}, set()) == tuple(sixes)
    assert addresses({}, set()) == ()
    assert addresses({}, set(), "192.0.2.77") == ("192.0.2.77",)
    assert addresses({}, set(), "localhost") == ("127.0.0.1", "::1")
    assert addresses({}, set(), "notlocalhost") == ()
    many = {"A": [f"192.0.2.{number}" for number in range(200)], "AAAA": [f"2001:db8::{n:x}" for n in range(200)]}
    found = addresses({"mx.example": many}, set())
    assert isinstance(found, tuple)
    assert len(found) == ADDRESSES
    assert sum(":" in address for address in found) == ADDRESSES // 2
    assert addresses({"mx.example": {"A": many["A"]}}, set()) == tuple(many["A"][:ADDRESSES])


def test_addresses_are_unavailable_only_when_nothing_is_known() -> None:
    table: dict[str, Texts | Lookup] = {"mx.example": {"A": ["192.0.2.1"]}}
    assert addresses(table, {("mx.example", RecordKind.AAAA)}) == ("192.0.2.1",)
    assert addresses(table, {("mx.example", RecordKind.A)}) == DOWN
    assert addresses(table, {("mx.example", RecordKind.A), ("mx.example", RecordKind.AAAA)}) == DOWN


def test_own_addresses_are_recognised() -> None:
    assert OWN.is_any_of(("192.0.2.1", "198.51.100.9"))
    assert not OWN.is_any_of(("192.0.2.1",))
    assert not OwnIdentity().is_any_of(("192.0.2.1",))


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        (
            {"example.com": {"MX": ["20 b.example", "10 a.example"]}, "a.example": {"A": ["192.0.2.1"]}},
            {
                "domain": "example.com",
                "null_mx": False,
                "implicit": False,
                "hosts": [
                    {"preference": 10, "host": "a.example", "addresses": ["192.0.2.1"]},
                    {"preference": 20, "host": "b.example", "addresses": []},
                ],
                "error": None,
            },
        ),
        (
            {"example.com": {"A": ["192.0.2.1"]}},
            {
                "domain": "example.com",
                "null_mx": False,
                "implicit": True,
                "hosts": [{"preference": 0, "host": "example.com", "addresses": ["192.0.2.1"]}],
                "error": None,
            },
        ),
        (
            {"example.com": {"MX": ["0 ."]}},
            {"domain": "example.com", "null_mx": True, "implicit": False, "hosts": [], "error": str(TAKES_NO_MAIL)},
        ),
        (
            {},
            {"domain": "example.com", "null_mx": False, "implicit": False, "hosts": [], "error": str(NO_SUCH_DOMAIN)},
        ),
    ],
)
def test_what_lookup_mx_says(table: dict[str, Texts | Lookup], fields: dict[str, object]) -> None:
    description = asyncio.run(describe(TableResolver(table), parse_host("example.com")))
    assert description.fields() == fields
    assert not description.temporary


def test_lookup_mx_tells_not_knowing_from_not_being() -> None:
    assert asyncio.run(describe(TableResolver({"example.com": DOWN}), parse_host("example.com"))).temporary
    host_down = TableResolver({"example.com": {"MX": ["1 a.example"]}, "a.example": DOWN})
    description = asyncio.run(describe(host_down, parse_host("example.com")))
    assert (description.error, description.temporary) == ("SERVFAIL", True)
    no_address = TableResolver({"example.com": {"MX": ["1 a.example"]}, "a.example": {}})
    description = asyncio.run(describe(no_address, parse_host("example.com")))
    assert (description.error, description.temporary) == (str(NO_HOST), False)
