"""A list that is out of order refuses nobody and delays nobody, and everybody can see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from staffetta.dns.blocklist import LOOKUP_SECONDS, Listing
from staffetta.dns.list_health import HealthSettings, ListHealth, ListSettings, ListState
from staffetta.dns.resolver import Lookup, RecordKind, Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mail.network import NetworkSet, parse_network
from staffetta.testing.clock import VirtualClock, run

CODES = NetworkSet([parse_network("127.0.0.2-127.0.0.11")])
ADDRESSES = ListSettings("bl.example", CODES, "reject")
DOMAINS = ListSettings("dbl.example", CODES, "junk", of_domains=True)
PRESENT, ABSENT = "2.0.0.127.bl.example", "1.0.0.127.bl.example"
BAD, GOOD = "1.2.0.192.bl.example", "2.2.0.192.bl.example"
LISTED = {"A": ["127.0.0.2"]}

Scenario = Callable[["World"], Awaitable[None]]


class World:
    """A table behind a wire that may be silent, a clock, and a health that tells what changes."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.table = TableResolver({PRESENT: LISTED, BAD: LISTED, "test.dbl.example": LISTED})
        self.silent: set[str] = set()
        self.told: list[ListState] = []
        self.health = ListHealth(self, self.clock.wall, HealthSettings(), self.told.append)

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        if any(name.endswith(zone) for zone in self.silent):
            await asyncio.sleep(LOOKUP_SECONDS * 10)
        await asyncio.sleep(0.01)
        return await self.table.query(name, kind)

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        return None

    async def ask(self, address: str = "192.0.2.1") -> Listing:
        return await self.health.ask_address(self, ADDRESSES, address)

    @property
    def asked(self) -> int:
        return sum(self.table.asked.values())


def play(scenario: Scenario) -> None:
    world = World()

    async def main() -> None:
        await scenario(world)

    run(main, world.clock)


def test_a_list_in_order() -> None:
    async def scenario(world: World) -> None:
        assert await world.ask() == Listing("bl.example", "192.0.2.1", True, ("127.0.0.2",), "reject")
        assert not (await world.ask("192.0.2.2")).listed
        state = world.health.state(ADDRESSES)
        assert state.on
        assert state.tested_at > 0
        assert world.told == []
        assert world.asked == 4  # one trial of two, and two questions

    play(scenario)


OUT_OF_ORDER: dict[str, tuple[dict[str, list[str]], str]] = {
    "it lists everything": ({PRESENT: ["127.0.0.2"], ABSENT: ["127.0.0.2"]}, "everything"),
    "it lists nothing": ({}, "nothing"),
    "it does not like our resolver": ({PRESENT: ["127.255.255.254"], ABSENT: ["127.255.255.254"]}, "public resolver"),
    "its domain was sold": ({PRESENT: ["203.0.113.7"], ABSENT: ["203.0.113.7"]}, "given up"),
}


@pytest.mark.parametrize(("points", "word"), OUT_OF_ORDER.values(), ids=OUT_OF_ORDER.keys())
def test_a_list_out_of_order_lists_nobody_from_the_first_message_on(points: dict[str, list[str]], word: str) -> None:
    async def scenario(world: World) -> None:
        world.table.put(PRESENT, {"A": points.get(PRESENT, [])})
        world.table.put(ABSENT, {"A": points.get(ABSENT, [])})
        # Several at once: none is judged before the first trial is over.
        listings = await asyncio.gather(*[world.ask() for _ in range(5)])
        for listing in listings:
            assert not listing.listed
            assert listing.error.startswith("switched off: ")
            assert word in listing.error
            assert listing.action == "reject"
        (state,) = world.health.states()
        assert not state.on
        assert word in state.reason
        assert state.since == pytest.approx(world.clock.wall(), abs=1)
        assert [told.on for told in world.told] == [False]
        before = world.asked
        assert not (await world.ask()).listed
        assert world.asked == before
        # It is tried again, and comes back by itself.
        world.table.put(PRESENT, LISTED)
        world.table.put(ABSENT, {})
        await asyncio.sleep(HealthSettings().retest_seconds + 1)
        assert (await world.ask()).listed
        assert [told.on for told in world.told] == [False, True]

    play(scenario)


def test_a_list_that_turns_bad_between_trials_is_tried_before_it_is_believed() -> None:
    async def scenario(world: World) -> None:
        assert not (await world.ask("192.0.2.2")).listed
        for name in (ABSENT, GOOD):
            world.table.put(name, LISTED)
        await asyncio.sleep(HealthSettings().confirm_seconds + 1)
        listing = await world.ask("192.0.2.2")
        assert not listing.listed
        assert "everything" in listing.error

    play(scenario)


def test_an_error_in_an_answer_switches_off_at_once() -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        world.table.put(GOOD, {"A": ["127.255.255.255"]})
        assert "more often" in (await world.ask("192.0.2.2")).error
        assert not (await world.ask()).listed

    play(scenario)


def test_a_silent_list_delays_few_and_nobody_long() -> None:
    async def scenario(world: World) -> None:
        world.silent.add("bl.example")
        waits = []
        for _ in range(10):
            start = world.clock.monotonic()
            listing = await world.ask()
            assert not listing.listed
            assert listing.error
            waits.append(world.clock.monotonic() - start)
        assert max(waits) <= LOOKUP_SECONDS + 0.1
        assert [wait > 0.1 for wait in waits] == [True] * 3 + [False] * 7
        assert "no answer 3 times" in world.health.state(ADDRESSES).reason
        world.silent.clear()
        await asyncio.sleep(HealthSettings().retest_seconds + 1)
        assert (await world.ask()).listed
        assert world.health.state(ADDRESSES).failures == 0

    play(scenario)


def test_failures_that_come_at_once_do_not_put_a_list_aside() -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        world.table.put(GOOD, Unavailable("SERVFAIL"))
        for _ in range(10):
            assert (await world.ask("192.0.2.2")).error == "SERVFAIL"
        assert world.health.state(ADDRESSES).on

    play(scenario)


def test_one_answer_forgives_the_failures_before() -> None:
    async def scenario(world: World) -> None:
        for _ in range(4):
            world.silent.add("bl.example")
            await world.ask()
            await world.ask()
            world.silent.clear()
            await world.ask()
        assert world.health.state(ADDRESSES).on

    play(scenario)


def test_lists_of_domains_are_tried_by_their_own_points() -> None:
    async def scenario(world: World) -> None:
        world.table.put("bad.example.dbl.example", LISTED)
        listing = await world.health.ask_domain(world, DOMAINS, "bad.example")
        assert (listing.listed, listing.action) == (True, "junk")
        assert not (await world.health.ask_domain(world, DOMAINS, "192.0.2.1")).listed
        world.table.put("invalid.dbl.example", LISTED)
        state = await world.health.test(DOMAINS)
        assert not state.on
        assert "INVALID" in state.reason

    play(scenario)


def test_whoever_gives_up_does_not_end_the_trial() -> None:
    async def scenario(world: World) -> None:
        world.table.put(ABSENT, LISTED)
        asking = asyncio.ensure_future(world.ask())
        await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.sleep(1)
        assert not world.health.state(ADDRESSES).on

    play(scenario)
