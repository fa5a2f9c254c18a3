"""From outcomes to the one write that ends an attempt, as tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from staffetta.delivery.courier import Report, Try
from staffetta.delivery.settle import INTERNAL, LAST_REPLY_CHARACTERS, Moment, Settlement, held_back, put_off, settle
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.observe.events import Junk
from staffetta.policy.retry import RetrySettings
from staffetta.spool.contract import Claim, Quarantine, State, Step
from staffetta.spool.contract import Final as End
from staffetta.testing.office import outcome, report
from staffetta.testing.spooled import START, Letter, new_message

RETRY = RetrySettings()
NOW = START + 100.0
MIDDLE = Moment(NOW, lambda: 0.5)
OK, LATER, NO = outcome(Result.DELIVERED), outcome(Result.DEFERRED), outcome(Result.FAILED)
DOWN = outcome(Result.DEFERRED, Scope.DESTINATION)
DOUBT = outcome(Result.DEFERRED, in_doubt=True)


def claim(count: int = 1, *, sender: str = "anna@example.org", **waiting: Any) -> Claim:
    new = new_message(Letter("one", [f"r{number}@example.net" for number in range(count)], sender))
    return Claim(new.message, tuple(msgspec.structs.replace(one, **waiting) for one in new.recipients))


def settled(one: Claim, *outcomes: Outcome, at: Moment = MIDDLE, failures: int = 0) -> Settlement:
    return settle(one, report(one, *outcomes), at, RETRY, failures)


def names(settlement: Settlement) -> list[str]:
    return [type(event).__name__ for event in settlement.events]


@pytest.mark.parametrize(
    ("result", "events", "final"),
    [
        (OK, ["Attempt", "Deliver"], End.DELIVERED),
        (LATER, ["Attempt", "Defer"], None),
        (NO, ["Attempt", "Bounce"], End.BOUNCED),
        (DOWN, ["Attempt", "Defer"], None),
        (DOUBT, ["Attempt", "Defer"], None),
        (outcome(Result.FAILED, Scope.MESSAGE, in_doubt=True), ["Attempt", "Defer"], None),
    ],
)
def test_one_recipient(result: Outcome, events: list[str], final: End | None) -> None:
    done = settled(claim(), result)
    assert names(done) == events
    assert [step.final for step in done.steps] == [final]
    assert done.journal.lines.count(b"\n") == len(events) - 1
    assert (done.journal.id, done.journal.time) == ("one", NOW)


def test_each_recipient_has_its_own_end_in_one_write() -> None:
    done = settled(claim(4), OK, NO, LATER, OK)
    assert [step.final for step in done.steps] == [End.DELIVERED, End.BOUNCED, None, End.DELIVERED]
    assert [one.index for one, _ in done.delivered] == [0, 3]
    assert [one.index for one, _ in done.failed] == [1]
    assert [step.index for step in done.steps] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("attempts", "wait"), [(0, 60), (1, 300), (2, 900), (3, 1800), (4, 3600), (5, 7200), (6, 14400), (50, 14400)]
)
@pytest.mark.parametrize(("jitter", "share"), [(0.0, 0.9), (0.5, 1.0), (0.999999, 1.1)])
def test_waits_grow_and_the_last_repeats(attempts: int, wait: float, jitter: float, share: float) -> None:
    [step] = settled(claim(attempts=attempts), LATER, at=Moment(NOW, lambda: jitter)).steps
    assert step.next_attempt_at == pytest.approx(NOW + wait * share, rel=1e-6)
    assert (step.attempts, step.state) == (attempts + 1, State.DEFERRED)


@pytest.mark.parametrize(
    ("sender", "age", "attempts", "over"),
    [
        ("anna@example.org", 432_001, 2, True),
        ("anna@example.org", 432_000, 2, False),
        ("anna@example.org", 432_001, 1, False),
        ("", 86_401, 2, True),
        ("", 86_400, 2, False),
        ("anna@example.org", 86_401, 10, False),
        ("anna@example.org", -1e9, 10, False),
    ],
)
def test_a_lifetime_ends_with_an_attempt(sender: str, age: float, attempts: int, over: bool) -> None:
    done = settled(claim(sender=sender, attempts=attempts), LATER, at=Moment(START + age, lambda: 0.5))
    assert names(done) == ["Attempt", "Expire" if over else "Defer"]
    assert done.expired == (frozenset({0}) if over else frozenset())
    assert len(done.failed) == over


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [
        (False, LATER, False),
        (False, DOUBT, True),
        (True, LATER, True),
        (True, DOUBT, True),
        (True, NO, True),
        (False, NO, False),
    ],
)
def test_doubt_stays(before: bool, now: Outcome, after: bool) -> None:
    done = settled(claim(in_doubt=before), now)
    event: Any = done.events[-1]
    assert event.in_doubt is after
    if done.failed:
        assert done.failed[0][1].in_doubt is after
    else:
        assert done.steps[0].in_doubt is after


def test_a_failure_is_for_good_although_an_earlier_attempt_was_in_doubt() -> None:
    assert settled(claim(in_doubt=True), NO).steps[0].final is End.BOUNCED


@pytest.mark.parametrize(
    ("first", "failures", "wait"),
    [
        (OK, 0, None),
        (LATER, 0, None),
        (NO, 0, None),
        (outcome(Result.FAILED, Scope.DESTINATION), 0, None),
        (outcome(Result.DEFERRED, Scope.HOST), 0, None),
        (DOWN, 0, 60),
        (DOWN, 1, 300),
        (DOWN, 6, 14_400),
        (DOWN, 99, 14_400),
    ],
)
def test_when_a_destination_is_down(first: Outcome, failures: int, wait: float | None) -> None:
    state = settled(claim(2), first, first, failures=failures).destination
    if wait is None:
        assert state is None
        return
    assert state is not None
    assert (state.destination, state.failures, state.last_reply) == ("mx:example.net", failures + 1, str(first.reply))
    assert state.not_before == pytest.approx(NOW + wait)


def test_every_host_that_was_tried_is_told_and_the_last_counts() -> None:
    one = claim(2)
    tries = (Try((DOWN, DOWN), "a.example"), Try((LATER, OK), "b.example", tls="TLSv1.3"))
    done = settle(one, Report(tries, "default"), MIDDLE, RETRY, 0)
    attempts: list[Any] = [event for event in done.events if type(event).__name__ == "Attempt"]
    assert [(event.recipient[:2], event.host, event.outcome) for event in attempts] == [
        ("r0", "a.example", "deferred"),
        ("r0", "b.example", "deferred"),
        ("r1", "a.example", "deferred"),
        ("r1", "b.example", "delivered"),
    ]
    assert {event.route for event in attempts} == {"default"}
    assert [step.final for step in done.steps] == [None, End.DELIVERED]


def test_the_queue_keeps_a_bounded_reply_and_the_rest_of_a_recipient() -> None:
    one = claim(destination="mx:other.example", delay_noticed=True)
    [step] = settled(one, outcome(Result.DEFERRED, text="x" * 5000)).steps
    assert len(step.last_reply) == LAST_REPLY_CHARACTERS
    assert (step.destination, step.delay_noticed) == ("mx:other.example", True)


def test_an_attempt_that_broke_off_by_our_fault_is_an_attempt() -> None:
    one = claim(3)
    done = settle(one, put_off(one), MIDDLE, RETRY, 0)
    assert [(step.final, step.attempts, step.last_reply) for step in done.steps] == [(None, 1, str(INTERNAL))] * 3
    assert done.destination is None


def test_what_nobody_knows_the_end_of_is_held_in_doubt() -> None:
    done = held_back(claim(2, attempts=1), NOW)
    assert names(done) == ["Hold", "Hold"]
    assert [(step.state, step.in_doubt, step.final, step.attempts) for step in done.steps] == [
        (State.HELD, True, None, 2)
    ] * 2
    assert isinstance(done.steps[0], Step)


@pytest.mark.parametrize(
    ("destination", "remote", "expected"),
    [
        ("local:example.net", False, ["it lies"]),
        ("local:example.net", True, ["it lies; marked so for the server behind us"]),
        ("mx:example.net", True, []),
    ],
)
def test_junk_is_told_where_it_ends(destination: str, remote: bool, expected: list[str]) -> None:
    one = claim(destination=destination)
    marked = Claim(
        msgspec.structs.replace(one.message, quarantine=Quarantine("dmarc_quarantine", "it lies")), one.recipients
    )
    found = settled(marked, outcome(Result.DELIVERED, remote=remote))
    assert [event.reason for event in found.events if isinstance(event, Junk)] == expected
    assert not [event for event in settled(one, OK).events if isinstance(event, Junk)]
