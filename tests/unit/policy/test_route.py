"""Which way mail goes: routes as an operator writes them, and what their keys say."""

from __future__ import annotations

import pytest

from staffetta.mail.domain import Host, parse_domain, parse_host
from staffetta.policy.route import (
    EVERYTHING,
    IMPLIED_ROUTE,
    REMEMBERED_CHOICES,
    Hop,
    Pattern,
    Route,
    RouteTable,
    held_key,
    is_held,
    local_key,
)
from staffetta.tlspolicy.levels import TlsLevel

SMARTHOST = (Hop("smart.example", 587, TlsLevel.VERIFY),)


def pattern(text: str) -> Pattern:
    if text == "*":
        return EVERYTHING
    return Pattern(parse_domain(text.removeprefix(".")), text.startswith("."))


def route(name: str, to: str = "*", senders: str = "", via: tuple[Hop, ...] = (), **rest: object) -> Route:
    return Route(
        name,
        tuple(pattern(one) for one in to.split()),
        tuple(pattern(one) for one in senders.split()),
        via,
        **rest,  # type: ignore[arg-type]
    )


TABLE = RouteTable(
    [
        route("partners", "partner.example .partner.example", tls=TlsLevel.REQUIRE),
        route("shop", "*", "shop.example", via=SMARTHOST),
        route("big", "big.example", via=SMARTHOST),
    ]
)

ROWS = [
    ("partner.example", "anyone.example", "partners", "mx:partners/partner.example"),
    ("a.b.partner.example", None, "partners", "mx:partners/a.b.partner.example"),
    ("evilpartner.example", None, "default", "mx:evilpartner.example"),
    ("partner.example", "shop.example", "partners", "mx:partners/partner.example"),
    ("else.example", "shop.example", "shop", "route:shop"),
    ("else.example", "sub.shop.example", "default", "mx:else.example"),
    ("else.example", None, "default", "mx:else.example"),
    ("big.example", None, "big", "route:big"),
    ("big.example", "shop.example", "shop", "route:shop"),
    ("sub.big.example", None, "default", "mx:sub.big.example"),
    ("[192.0.2.1]", None, "default", "mx:[192.0.2.1]"),
    ("[IPv6:2001:db8::1]", "shop.example", "shop", "route:shop"),
]


def host(text: str | None) -> Host | None:
    return None if text is None else parse_host(text)


@pytest.mark.parametrize(("recipient", "sender", "name", "key"), ROWS)
def test_first_match_wins(recipient: str, sender: str | None, name: str, key: str) -> None:
    for _ in range(2):  # once found, once remembered
        choice = TABLE.choose(parse_host(recipient), host(sender))
        assert (choice.route.name, choice.destination) == (name, key)


@pytest.mark.parametrize(("recipient", "sender"), [row[:2] for row in ROWS])
def test_a_key_leads_back_to_its_route(recipient: str, sender: str | None) -> None:
    choice = TABLE.choose(parse_host(recipient), host(sender))
    way = TABLE.way(choice.destination)
    assert way is not None
    assert way.route == choice.route
    assert way.domain == (None if choice.route.via else parse_host(recipient))
    assert not way.local


def test_routes_that_differ_do_not_share_a_destination() -> None:
    default = TABLE.choose(parse_domain("partner.test")).destination
    partners = TABLE.choose(parse_domain("partner.example")).destination
    assert default.partition(":")[2] == "partner.test"
    assert "/" in partners


@pytest.mark.parametrize(
    "key",
    ["route:gone", "mx:gone/partner.example", "mx:big/big.example", "route:partners", "mx:", "mx:a..b", "", "x:y"],
)
def test_a_key_whose_route_is_gone_must_be_chosen_anew(key: str) -> None:
    assert TABLE.way(key) is None


def test_local_keys() -> None:
    domain = parse_domain("example.com")
    local, held = TABLE.way(local_key(domain)), TABLE.way(held_key(domain))
    assert local is not None
    assert held is not None
    assert (local.local, local.domain, local.held) == (True, domain, False)
    assert (held.local, held.domain, held.held) == (True, domain, True)
    assert is_held(held_key(domain))
    assert not is_held(local_key(domain))


def test_a_written_default_may_be_narrow_and_keeps_its_own_key() -> None:
    table = RouteTable([route("default", "a.example", tls=TlsLevel.REQUIRE)])
    assert table.choose(parse_domain("a.example")).destination == "mx:default/a.example"
    other = table.choose(parse_domain("b.example"))
    assert (other.route, other.destination) == (IMPLIED_ROUTE, "mx:b.example")
    way = table.way("mx:b.example")
    assert way is not None
    assert way.route == IMPLIED_ROUTE


def test_a_written_default_to_a_smarthost() -> None:
    table = RouteTable([route("default", via=SMARTHOST)])
    assert table.choose(parse_domain("a.example")).destination == "route:default"
    assert table.way("route:default") is not None


def test_memory_of_choices_is_bounded() -> None:
    table = RouteTable([route("shop", "*", "shop.example", via=SMARTHOST)])
    for number in range(REMEMBERED_CHOICES + 10):
        table.choose(parse_domain(f"d{number}.example"))
    assert len(table._chosen) <= REMEMBERED_CHOICES
    assert table.choose(parse_domain("d0.example")).destination == "mx:d0.example"


def test_two_routes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        RouteTable([route("a"), route("a")])


def test_a_password_is_not_shown() -> None:
    text = repr(route("r", via=SMARTHOST, login="user", password="hunter2"))
    assert "hunter2" not in text
    assert "user" in text
