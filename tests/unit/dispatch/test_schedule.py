"""The schedule as tables: who may start, who has room, what a bad time means."""

from __future__ import annotations

import pytest

from staffetta.delivery.schedule import LOW_WATER, PROBING_CONNECTIONS, Lane, Schedule
from staffetta.delivery.settings import DeliverySettings
from staffetta.policy.retry import RetrySettings
from staffetta.spool.contract import Claim, DestinationState
from staffetta.testing.spooled import Letter, new_message

KEY = "mx:example.net"


def schedule(**settings: int) -> Schedule:
    return Schedule(DeliverySettings(RetrySettings(), **settings))  # type: ignore[arg-type]


def claim(number: int = 1) -> Claim:
    new = new_message(Letter(f"m{number}"))
    return Claim(new.message, new.recipients)


def filled(plan: Schedule, count: int, key: str = KEY, connections: int = 0, rate: float = 0.0) -> Lane:
    lane = plan.lane(key, connections, rate)
    for number in range(count):
        plan.add(lane, claim(number))
    return lane


def down(not_before: float, failures: int = 1) -> DestinationState:
    return DestinationState(KEY, not_before, failures, "450 no")


@pytest.mark.parametrize(
    ("ready", "workers", "proven", "connections", "expected"),
    [
        (0, 0, False, 20, False),
        (1, 0, False, 20, True),
        (5, PROBING_CONNECTIONS - 1, False, 20, True),
        (5, PROBING_CONNECTIONS, False, 20, False),
        (5, PROBING_CONNECTIONS, True, 20, True),
        (5, 19, True, 20, True),
        (5, 20, True, 20, False),
        (5, 0, True, 1, True),
        (5, 1, True, 1, False),
        (5, 1, False, 1, False),
        (0, 3, True, 20, False),
    ],
)
def test_another_connection(ready: int, workers: int, proven: bool, connections: int, expected: bool) -> None:
    plan = schedule()
    lane = filled(plan, ready, connections=connections)
    lane.proven = proven
    for _ in range(workers):
        plan.started(lane)
    assert plan.may_start(lane) is expected
    assert not plan.starving


def test_all_connections_together_have_a_limit_and_who_meets_it_is_remembered() -> None:
    plan = schedule(total_connections=2)
    big = filled(plan, 5, "mx:big.example")
    for _ in range(2):
        assert plan.may_start(big)
        plan.started(big)
    first, second = filled(plan, 1, "mx:a.example"), filled(plan, 1, "mx:b.example")
    assert [plan.may_start(lane) for lane in (first, second, big)] == [False, False, False]
    assert plan.starving
    assert plan.starved() == [first, second]  # big has workers, who see to it
    assert not plan.starving
    plan.stopped(big)
    assert plan.may_start(first)


@pytest.mark.parametrize(
    ("ready", "elsewhere", "not_before", "expected", "more"),
    [
        (0, 0, 0.0, True, False),
        (9, 0, 0.0, True, False),
        (10, 0, 0.0, False, True),
        (0, 20, 0.0, False, True),
        (3, 17, 0.0, False, True),
        (3, 16, 0.0, True, False),
        (0, 0, 100.0, True, False),
        (0, 0, 100.5, False, False),
    ],
)
def test_room_for_a_new_message(ready: int, elsewhere: int, not_before: float, expected: bool, more: bool) -> None:
    """At moment 100. What finds no room is looked for in the spool as soon as there is some."""
    plan = schedule(ready_limit=20, ready_per_destination=10)
    lane = filled(plan, ready)
    filled(plan, elsewhere, "mx:elsewhere.example")
    lane.not_before = not_before
    assert plan.has_room(KEY, 100.0) is expected
    assert lane.more is more


def test_room_for_a_destination_that_nobody_knows() -> None:
    plan = schedule(ready_limit=1)
    assert plan.has_room(KEY, 0.0)
    filled(plan, 1, "mx:elsewhere.example")
    assert not plan.has_room(KEY, 0.0)
    assert [lane.key for lane in plan.lanes()] == ["mx:elsewhere.example"]


@pytest.mark.parametrize(
    ("ready", "not_before", "full", "crowded"),
    [
        (0, 0.0, False, False),
        (LOW_WATER, 0.0, False, False),
        (LOW_WATER + 1, 0.0, True, True),
        (0, 200.0, True, False),
        (0, 100.0, False, False),
    ],
)
def test_of_which_nothing_more_is_claimed(ready: int, not_before: float, full: bool, crowded: bool) -> None:
    plan = schedule()
    filled(plan, ready).not_before = not_before
    assert (KEY in plan.full(100.0), KEY in plan.crowded()) == (full, crowded)


@pytest.mark.parametrize(
    ("ready", "more", "expected"),
    [(0, True, True), (LOW_WATER, True, True), (LOW_WATER + 1, True, False), (0, False, False)],
)
def test_when_a_lane_wants_more(ready: int, more: bool, expected: bool) -> None:
    plan = schedule()
    lane = filled(plan, ready)
    lane.more = more
    assert plan.wants_refill(lane) is expected


def test_claims_go_out_in_order_and_are_counted() -> None:
    plan = schedule(ready_limit=5)
    lane = filled(plan, 3)
    assert (plan.active, plan.room()) == (3, 2)
    assert [plan.take(lane).message.id for _ in range(3)] == ["m0", "m1", "m2"]  # type: ignore[union-attr]
    assert plan.take(lane) is None
    assert (plan.active, plan.room()) == (0, 5)


def test_a_bad_time_empties_the_lane_and_a_good_one_ends_it() -> None:
    plan = schedule()
    lane = filled(plan, 3)
    lane.proven = lane.more = True
    plan.started(lane)
    given_back = plan.failed(lane, down(160.0))
    assert [one.message.id for one in given_back] == ["m0", "m1", "m2"]
    assert (plan.active, lane.failures, lane.proven, lane.more, plan.failures(KEY)) == (0, 1, False, False, 1)
    plan.stopped(lane)
    assert plan.lane(KEY) is lane  # its bad time is remembered
    assert plan.succeeded(lane)
    assert not plan.succeeded(lane)
    assert (lane.failures, lane.not_before, lane.proven) == (0, 0.0, True)


def test_an_operator_ends_all_bad_times_but_not_what_is_known_of_them() -> None:
    plan = schedule()
    lane = plan.lane(KEY)
    plan.failed(lane, down(1e9, 3))
    plan.reconsider()
    assert KEY not in plan.full(0.0)
    assert plan.failures(KEY) == 3


@pytest.mark.parametrize(
    ("workers", "ready", "more", "failures", "kept"),
    [
        (1, 0, False, 0, False),
        (2, 0, False, 0, True),
        (1, 1, False, 0, True),
        (1, 0, True, 0, True),
        (1, 0, False, 2, True),
    ],
)
def test_lanes_that_say_nothing_are_forgotten(workers: int, ready: int, more: bool, failures: int, kept: bool) -> None:
    plan = schedule()
    lane = filled(plan, ready)
    lane.more, lane.failures = more, failures
    for _ in range(workers):
        plan.started(lane)
    plan.stopped(lane)
    assert (lane in plan.lanes()) is kept


@pytest.mark.parametrize(
    ("now", "workers", "ready", "more", "kept"),
    [
        (3700.0, 0, 0, False, False),
        (3699.0, 0, 0, False, True),
        (9999.0, 1, 0, False, True),
        (9999.0, 0, 1, False, True),
        (9999.0, 0, 0, True, True),
    ],
)
def test_old_bad_times_are_forgotten(now: float, workers: int, ready: int, more: bool, kept: bool) -> None:
    plan = schedule()
    lane = plan.lane(KEY)
    plan.failed(lane, down(100.0))
    filled(plan, ready)
    lane.more = more
    for _ in range(workers):
        plan.started(lane)
    plan.forget_idle(now)
    assert (lane in plan.lanes()) is kept


@pytest.mark.parametrize(
    ("rate", "asked_at", "waits"),
    [
        (0.0, [0, 0, 0], [0, 0, 0]),
        (2.0, [0, 0, 0, 0], [0, 0.5, 1.0, 1.5]),
        (2.0, [0, 0.5, 1.0], [0, 0, 0]),
        (2.0, [0, 10, 10], [0, 0, 0.5]),
        (0.1, [0, 5, 5], [0, 5, 15]),
    ],
)
def test_a_rate_hands_out_slots(rate: float, asked_at: list[float], waits: list[float]) -> None:
    plan = schedule()
    lane = plan.lane(KEY, 0, rate)
    assert [plan.slot(lane, 1000.0 + moment) for moment in asked_at] == pytest.approx(waits)
