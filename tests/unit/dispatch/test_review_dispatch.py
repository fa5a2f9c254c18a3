"""What must never happen to a claim, whatever fails around it: see threats R6, R7, R13."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from staffetta.accounts.store import AccountsUnavailable
from staffetta.delivery.courier import Report
from staffetta.mail.outcome import Result, Scope
from staffetta.observe.events import Defer, Deliver
from staffetta.spool.contract import Claim, SpoolUnavailable
from staffetta.testing.office import Office, outcome, report


def test_a_courier_that_fails_by_our_fault_costs_an_attempt_and_no_message(office: Any) -> None:
    async def play(place: Office) -> None:
        async def broken(destination: str, claim: Claim) -> Report:
            place.couriers.deliver = place.couriers.at_once
            raise ZeroDivisionError

        place.couriers.deliver = broken
        await place.accept("one")
        await asyncio.sleep(120)
        assert [type(event).__name__ for event in place.events] == ["Attempt", "Defer", "Attempt", "Deliver"]

    office(play, complains=True)


def test_content_that_cannot_be_read_is_tried_again(office: Any) -> None:
    async def play(place: Office) -> None:
        async def unreadable(destination: str, claim: Claim) -> Report:
            place.couriers.deliver = place.couriers.at_once
            raise SpoolUnavailable("the disk fails")

        place.couriers.deliver = unreadable
        await place.accept("one")
        await asyncio.sleep(120)
        assert len(place.told("Deliver")) == 1

    office(play, complains=True)


def test_a_store_that_fails_after_delivery_does_not_repeat_it(office: Any) -> None:
    """RFC 1047: the peer has it. That the destination is up again matters less than that."""

    async def play(place: Office) -> None:
        async def down(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.DEFERRED, Scope.DESTINATION))

        place.couriers.deliver = down
        await place.accept("one")
        await asyncio.sleep(1)
        assert place.told("Defer")
        place.couriers.deliver = place.couriers.at_once
        place.spool.broken = {"destination_up"}
        await asyncio.sleep(100)
        place.spool.broken = {"record", "destination_up"}
        await asyncio.sleep(10)
        place.spool.broken = set()
        await asyncio.sleep(10)
        assert place.couriers.ids() == ["one", "one"]
        assert len(place.told("Deliver")) == 1
        assert await place.queued() == 0

    office(play)


def test_claims_of_a_destination_that_went_down_are_given_back_when_the_store_can(office: Any) -> None:
    async def play(place: Office) -> None:
        gate = asyncio.Event()

        async def down(destination: str, claim: Claim) -> Report:
            await gate.wait()
            return report(claim, outcome(Result.DEFERRED, Scope.DESTINATION))

        place.couriers.deliver = down
        for number in range(10):
            await place.accept(f"m{number}")
        await asyncio.sleep(1)
        place.spool.works_before = {"record": 4}
        gate.set()
        await asyncio.sleep(5)
        assert not place.spool.works_before
        place.couriers.deliver = place.couriers.at_once
        await asyncio.sleep(300)
        assert len(place.told("Deliver")) == 10

    office(play)


@pytest.mark.parametrize("error", [AccountsUnavailable("locked"), SpoolUnavailable("locked")])
def test_a_notice_waits_until_its_address_can_be_looked_up(office: Any, error: Exception) -> None:
    async def play(place: Office) -> None:
        async def fails(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.FAILED))

        place.couriers.deliver = fails
        usual = place.targets

        def once(to: Any) -> Any:
            place.targets = usual
            raise error

        place.targets = once
        await place.accept("one")
        await asyncio.sleep(5)
        assert len(place.told("Bounce")) == 2  # the message, and then its notice
        assert len(place.told("Notice")) == 1

    office(play)


def test_a_bug_after_the_attempt_holds_the_message_and_shows_it(office: Any) -> None:
    async def play(place: Office) -> None:
        place.targets = lambda to: 1 // 0

        async def fails(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.FAILED))

        place.couriers.deliver = fails
        await place.accept("one")
        await asyncio.sleep(10_000)
        assert place.couriers.ids() == ["one"]
        assert [event.by for event in place.told("Hold")] == ["staffetta"]
        assert await place.queued() == 1
        place.couriers.deliver = place.couriers.at_once
        await place.accept("two")
        await asyncio.sleep(1)
        assert place.couriers.ids() == ["one", "two"]

    office(play, complains=True)


def test_the_dispatcher_survives_a_bug(office: Any) -> None:
    async def play(place: Office) -> None:
        place.spool.errors["due"] = KeyError("a bug")
        await place.accept("one", claim=False)
        await asyncio.sleep(5)
        assert len(place.told("Deliver")) == 1

    office(play, complains=True)


def test_a_lane_that_found_every_connection_taken_is_served_later(office: Any) -> None:
    async def play(place: Office) -> None:
        gates = {"mx:a.example": asyncio.Event(), "mx:b.example": asyncio.Event(), "mx:c.example": asyncio.Event()}

        async def slow(destination: str, claim: Claim) -> Report:
            await gates[destination].wait()
            return report(claim, outcome(Result.DELIVERED))

        place.couriers.deliver = slow
        for domain in "abc":
            await place.accept(domain, f"ben@{domain}.example")
        await asyncio.sleep(1)
        assert sorted(place.couriers.ids()) == ["a", "b"]
        gates["mx:c.example"].set()
        gates["mx:a.example"].set()
        await asyncio.sleep(1)
        assert sorted(place.couriers.ids()) == ["a", "b", "c"]
        assert place.couriers.most == 2
        gates["mx:b.example"].set()

    office(play, total_connections=2)


def test_a_connection_that_only_rests_makes_place_at_once(office: Any) -> None:
    async def play(place: Office) -> None:
        place.couriers.warm = True
        await place.accept("a", "ben@a.example")
        await asyncio.sleep(0.1)
        await place.accept("b", "ben@b.example")
        await asyncio.sleep(0.1)
        assert place.couriers.ids() == ["a", "b"]

    office(play, total_connections=1, idle_seconds=1000.0)


def test_a_busy_destination_leaves_connections_to_others(office: Any) -> None:
    async def play(place: Office) -> None:
        async def slow(destination: str, claim: Claim) -> Report:
            await asyncio.sleep(1)
            return report(claim, outcome(Result.DELIVERED))

        place.couriers.deliver = slow
        for number in range(40):
            await place.accept(f"big{number}", "ben@big.example")
        await asyncio.sleep(1.5)
        await place.accept("small", "ben@small.example")
        await asyncio.sleep(2.5)
        assert "small" in place.couriers.ids()
        assert await place.queued() > 10

    office(play, total_connections=4)


def test_twenty_connections_that_break_together_are_one_bad_time(office: Any) -> None:
    async def play(place: Office) -> None:
        gate = asyncio.Event()

        async def breaks(destination: str, claim: Claim) -> Report:
            await gate.wait()
            return report(claim, outcome(Result.DEFERRED, Scope.DESTINATION))

        await place.accept("first")
        await asyncio.sleep(1)
        place.couriers.deliver = breaks
        place.couriers.warm = True
        await place.accept("second")
        await asyncio.sleep(0.1)
        # The lane is proven while one worker has an answer; then all are at it.
        lane = place.dispatcher._schedule.lane("mx:example.net")
        lane.proven = True
        for number in range(20):
            await place.accept(f"m{number}")
        await asyncio.sleep(0.1)
        assert place.couriers.open == 20
        gate.set()
        await asyncio.sleep(0.1)
        place.couriers.deliver = place.couriers.at_once
        assert lane.failures == 1
        await asyncio.sleep(70)
        assert await place.queued() == 0

    office(play)


def test_bad_times_that_follow_each_other_count_each(office: Any) -> None:
    async def play(place: Office) -> None:
        async def down(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.DEFERRED, Scope.DESTINATION))

        place.couriers.deliver = down
        await place.accept("one")
        await asyncio.sleep(20_000)
        times = [when for when, _, _ in place.couriers.claims]
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert len(waits) >= 5
        for wait, planned in zip(waits, (60, 300, 900, 1800, 3600), strict=False):
            assert planned * 0.85 <= wait <= planned * 1.15 + 31

    office(play)


@pytest.mark.parametrize("count", [60, 200])
def test_what_did_not_fit_into_a_lane_does_not_wait_for_the_next_sweep(office: Any, count: int) -> None:
    async def play(place: Office) -> None:
        gate = asyncio.Event()

        async def gated(destination: str, claim: Claim) -> Report:
            await gate.wait()
            return report(claim, outcome(Result.DELIVERED))

        place.couriers.deliver = gated
        for number in range(count):
            await place.accept(f"m{number:03}")
        await asyncio.sleep(3)  # everything that was woken has gone back to sleep
        gate.set()
        await asyncio.sleep(2)
        assert await place.queued() == 0

    office(play)


def test_rests_are_not_remembered(office: Any) -> None:
    async def play(place: Office) -> None:
        place.couriers.warm = True
        for number in range(50):
            await place.accept(f"m{number}", f"ben@d{number}.example")
        await asyncio.sleep(60)
        assert not place.dispatcher._idle
        assert not place.dispatcher._schedule.lanes()

    office(play)


def test_what_another_process_changed_while_we_were_busy_is_noticed(office: Any) -> None:
    async def play(place: Office) -> None:
        async def down(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.DEFERRED, Scope.DESTINATION))

        place.couriers.deliver = down
        await place.accept("one")
        await asyncio.sleep(2)
        place.couriers.deliver = place.couriers.at_once
        version = 0
        original = place.spool.due

        async def due(*arguments: Any) -> list[Claim]:
            nonlocal version
            claims = await original(*arguments)
            place.spool.due = original  # type: ignore[method-assign]
            # An operator's `retry` arrives just behind the question.
            place.spool._down.clear()
            for stored in place.spool._messages.values():
                stored.waiting = {
                    index: msgspec.structs.replace(one, next_attempt_at=0.0) for index, one in stored.waiting.items()
                }
            version = 1
            return claims

        place.spool.changes = lambda: version  # type: ignore[method-assign]
        place.spool.due = due  # type: ignore[method-assign]
        place.dispatcher.wake()
        await asyncio.sleep(3)
        assert len(place.told("Deliver")) == 1

    office(play)


def test_stopping_lets_deliveries_end_and_gives_up_those_that_do_not(office: Any) -> None:
    async def play(place: Office) -> None:
        async def slow(destination: str, claim: Claim) -> Report:
            await asyncio.sleep(10 if claim.message.id == "quick" else 1000)
            return report(claim, outcome(Result.DELIVERED))

        place.couriers.deliver = slow
        await place.accept("quick", "ben@a.example")
        await place.accept("slow", "ben@b.example")
        await asyncio.sleep(1)
        begun = place.clock.monotonic()
        await place.dispatcher.stop()
        assert place.clock.monotonic() - begun == pytest.approx(25, abs=1)
        assert [event.id for event in place.events if isinstance(event, Deliver)] == ["quick"]
        assert await place.queued() == 1
        await place.spool.close()
        assert [claim.message.id for claim in await place.spool.due(place.clock.wall(), frozenset(), 10, 10)] == [
            "slow"
        ]

    office(play)


def test_a_claim_offered_while_stopping_is_left_for_the_next_start(office: Any) -> None:
    async def play(place: Office) -> None:
        await place.dispatcher.stop()
        assert not place.dispatcher.has_room("mx:example.net")
        await place.accept("late", claim=True)
        await asyncio.sleep(1)
        assert not place.couriers.claims
        await place.spool.close()
        assert len(await place.spool.due(place.clock.wall(), frozenset(), 10, 10)) == 1

    office(play)


def test_doubt_is_not_forgotten(office: Any) -> None:
    async def play(place: Office) -> None:
        answers = iter([outcome(Result.DEFERRED, in_doubt=True), outcome(Result.DEFERRED), outcome(Result.FAILED)])

        async def in_turn(destination: str, claim: Claim) -> Report:
            return report(claim, next(answers))

        place.couriers.deliver = in_turn
        await place.accept("one", sender="")
        await asyncio.sleep(500)
        assert [event.in_doubt for event in place.events if isinstance(event, Defer)] == [True, True]
        assert [event.in_doubt for event in place.told("Bounce")] == [True]

    office(play)
