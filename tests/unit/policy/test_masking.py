"""Who hides behind a trusted address: the page of that policy, one row a sentence."""

from __future__ import annotations

import pytest

from staffetta.mail.network import parse_network
from staffetta.policy.masking import (
    ADDRESSES_REMEMBERED,
    NAMES_REMEMBERED,
    PEERS_REMEMBERED,
    WINDOW_SECONDS,
    Ask,
    Facts,
    Masking,
    Standing,
    Suspicion,
    judge,
    standing_of,
)

LOOPBACK, GATEWAY, NAMED, INSIDE = Standing
NONE, ALARM, WITHDRAW = Suspicion

# fmt: off
PAGE = [
    # Programs of this machine may send as whom they like, in as many names as they like.
    (Facts(LOOPBACK, names=60, senders=60, asked=200, foreign=200), NONE),
    # But when all the world comes from loopback, something in front hides it; without loopback nothing here works, so
    # that is for a person to decide.
    (Facts(LOOPBACK, strangers=10, alone=True), ALARM),
    (Facts(LOOPBACK, strangers=9, alone=True), NONE),
    (Facts(LOOPBACK, strangers=60, alone=False), NONE),
    # The gateway of the machine may bring mail of the host itself, and of its few programs.
    (Facts(GATEWAY, names=3, senders=1, asked=100, foreign=100), NONE),
    (Facts(GATEWAY, names=60, senders=4, asked=100, foreign=100), NONE),
    # One program of the host that sends for many domains is looked at, and goes on.
    (Facts(GATEWAY, names=1, senders=30, asked=100, foreign=100), ALARM),
    (Facts(GATEWAY, names=4, senders=30, asked=100, foreign=100), ALARM),
    # Many programs that send for many domains that are not ours: that is the world.
    (Facts(GATEWAY, names=5, senders=5, asked=5, foreign=5), WITHDRAW),
    (Facts(GATEWAY, names=5, senders=5, asked=10, foreign=5), WITHDRAW),
    # Where most mail is from us, or for us, the rest is what is forwarded.
    (Facts(GATEWAY, names=5, senders=5, asked=11, foreign=5), NONE),
    # A gateway that is the only client anybody ever saw at a door open to everybody hides everybody.
    (Facts(GATEWAY, strangers=10, alone=True), WITHDRAW),
    (Facts(GATEWAY, strangers=10, alone=False), NONE),
    # A server that the file names may send for many customers.
    (Facts(NAMED, names=1, senders=60, asked=200, foreign=200), NONE),
    (Facts(NAMED, names=19, senders=60, asked=200, foreign=200), NONE),
    # In many names it is worth a look; the operator named it, so the operator decides.
    (Facts(NAMED, names=20, senders=20, asked=200, foreign=200), ALARM),
    (Facts(NAMED, strangers=10, alone=True), ALARM),
    # One of many in a trusted network, likewise.
    (Facts(INSIDE, names=1, senders=60, asked=200, foreign=200), NONE),
    (Facts(INSIDE, names=60, senders=19, asked=200, foreign=200), NONE),
    (Facts(INSIDE, names=20, senders=20, asked=200, foreign=200), ALARM),
    # But nobody named it: when it hides everybody it is not trusted any more.
    (Facts(INSIDE, strangers=10, alone=True), WITHDRAW),
    (Facts(INSIDE, strangers=9, alone=True), NONE),
    # A mail filter in front of us brings everybody's mail, in its own name.
    (Facts(INSIDE, strangers=2, alone=True), NONE),
    # Nothing was asked.
    (Facts(GATEWAY), NONE),
]

STANDINGS = [
    ("127.0.0.1", ["127.0.0.0/8"], LOOPBACK),
    ("127.9.9.9", ["0.0.0.0/1"], LOOPBACK),
    ("::1", ["::1"], LOOPBACK),
    ("::ffff:127.0.0.1", ["127.0.0.0/8"], LOOPBACK),
    ("172.17.0.1", ["172.16.0.0/12"], GATEWAY),
    ("172.17.0.1", ["172.17.0.1"], GATEWAY),
    ("::ffff:172.17.0.1", ["172.16.0.0/12"], GATEWAY),
    ("fd00:0::1", ["fd00::/8"], GATEWAY),
    ("10.0.0.9", ["10.0.0.9"], NAMED),
    ("10.0.0.9", ["10.0.0.0/8", "10.0.0.9/32"], NAMED),
    ("2001:db8::9", ["2001:db8::9/128"], NAMED),
    ("10.0.0.9", ["10.0.0.0/31", "10.0.0.8/31"], INSIDE),
    ("10.0.0.9", ["10.0.0.1-10.0.0.20"], INSIDE),
    ("192.0.2.1", ["10.0.0.0/8"], None),
    ("172.17.0.1", ["10.0.0.0/8"], None),
    ("/run/socket", ["10.0.0.0/8"], None),
]
# fmt: on


@pytest.mark.parametrize(("facts", "suspicion"), PAGE)
def test_the_page(facts: Facts, suspicion: Suspicion) -> None:
    finding = judge(facts)
    assert finding.suspicion is suspicion
    assert bool(finding.reason) == (suspicion is not NONE)


@pytest.mark.parametrize(("address", "trust", "standing"), STANDINGS)
def test_how_an_address_is_trusted(address: str, trust: list[str], standing: Standing | None) -> None:
    gateways = frozenset({"172.17.0.1", "fd00::1"})
    assert standing_of(address, tuple(map(parse_network, trust)), gateways) is standing


def ask(name: str, sender: str = "far.example", *, outside: bool = True, standing: Standing = GATEWAY) -> Ask:
    return Ask("172.17.0.1", standing, name, sender, outside)


def last(masking: Masking, asks: list[Ask], now: float = 0.0) -> Facts | None:
    found = None
    for one in asks:
        found = masking.asked(one, now) or found
    return found


def test_what_is_counted_of_asking() -> None:
    masking = Masking()
    found = last(
        masking,
        [
            ask("one.example"),
            ask("ONE.example", "FAR.example"),
            ask("two.example", "other.example"),
            ask("ours.example", ""),
            ask("local.example", outside=False),
        ],
    )
    assert found == Facts(GATEWAY, names=2, senders=2, asked=3, foreign=3, alone=True)
    assert masking.asked(ask("three.example"), 0.0) == Facts(GATEWAY, 3, 2, 6, 4, 0, True)
    assert masking.asked(ask("three.example"), 0.0) is None, "nothing new was learnt"


def test_loopback_is_not_judged_by_what_it_asks() -> None:
    assert last(Masking(), [ask(f"n{n}", f"d{n}", standing=LOOPBACK) for n in range(100)]) is None


def test_what_was_a_day_ago_is_forgotten() -> None:
    masking = Masking()
    last(masking, [ask(f"n{n}.example", f"d{n}.example") for n in range(4)])
    later = masking.asked(ask("n9.example", "d9.example"), WINDOW_SECONDS - 1)
    assert later is not None
    assert (later.names, later.senders) == (5, 5)
    later = masking.asked(ask("n10.example", "d10.example"), WINDOW_SECONDS)
    assert later is not None
    assert (later.names, later.senders) == (2, 2)
    again = masking.asked(ask("n0.example", "d0.example"), WINDOW_SECONDS + 1)
    assert again is not None, "who comes again after a day is new"


def test_the_share_is_that_of_late() -> None:
    masking = Masking()
    last(masking, [ask("ours", "") for _ in range(10_000)])
    found = last(masking, [ask(f"n{n % 60}", f"d{n % 70}") for n in range(300)])
    assert found is not None
    assert found.foreign > found.asked * 0.5


def test_strangers_are_those_at_open_doors() -> None:
    masking = Masking()
    assert masking.greeted("172.17.0.1", GATEWAY, "", 0.0) is None
    assert masking.greeted("172.17.0.1", GATEWAY, "a.example", 0.0) == Facts(GATEWAY, strangers=1, alone=True)
    assert masking.greeted("172.17.0.1", GATEWAY, "A.example", 0.0) is None
    assert masking.greeted("203.0.113.9", None, "b.example", 0.0) is None, "who is not trusted needs no watching"
    assert masking.greeted("172.17.0.1", GATEWAY, "c.example", 0.0) == Facts(GATEWAY, strangers=2, alone=False)


def test_a_peer_counts_for_a_day_and_loopback_never() -> None:
    masking = Masking()
    masking.greeted("203.0.113.9", None, "", 0.0)
    masking.greeted("127.0.0.1", LOOPBACK, "localhost", WINDOW_SECONDS - 1)
    before = masking.greeted("172.17.0.1", GATEWAY, "a.example", WINDOW_SECONDS - 1)
    after = masking.greeted("172.17.0.1", GATEWAY, "b.example", WINDOW_SECONDS)
    assert (before, after) == (Facts(GATEWAY, strangers=1), Facts(GATEWAY, strangers=2, alone=True))
    loopback = masking.greeted("127.0.0.1", LOOPBACK, "c.example", WINDOW_SECONDS)
    assert loopback is not None
    assert not loopback.alone


def test_memory_is_bounded() -> None:
    masking = Masking()
    for number in range(3 * ADDRESSES_REMEMBERED):
        address = f"10.0.{number >> 8}.{number & 255}"
        masking.greeted(address, INSIDE, "n" * 10_000, float(number))
        masking.asked(Ask(address, INSIDE, "n" * 10_000, "d" * 10_000, True), float(number))
    for number in range(3 * NAMES_REMEMBERED):
        found = masking.asked(ask(f"n{number}", f"d{number}"), 1e6 + number)
    assert found is not None
    assert (found.names, found.senders) == (NAMES_REMEMBERED, NAMES_REMEMBERED)
    assert len(masking._watched) == ADDRESSES_REMEMBERED
    assert len(masking._peers) == PEERS_REMEMBERED
    assert all(len(name) < 256 for watched in masking._watched.values() for name in watched.names)
    masking.forget()
    assert not masking._watched
