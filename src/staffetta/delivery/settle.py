"""From a report to the one write that ends an attempt: next states, events, notices, and the destination's health.

Pure: the moment, the jitter and the new ids are arguments. RFC 5321 section 4.5.4 (retrying), 6.1 (bounces).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from staffetta.delivery.courier import Report, Try
from staffetta.mail.address import NullPath
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import reply as make_reply
from staffetta.observe.events import Attempt, Bounce, Defer, Deliver, Event, Expire, Hold, Junk, encode_all, moment
from staffetta.policy.retry import GiveUp, RetrySettings, after, wait_seconds
from staffetta.policy.route import is_local_key
from staffetta.spool.contract import Claim, DestinationState, JournalEntry, Quarantine, State, Step, WaitingRecipient
from staffetta.spool.contract import Final as End

LAST_REPLY_CHARACTERS: Final = 1000
"""How much of a reply the queue keeps; the journal's event keeps it all."""


INTERNAL: Final = make_reply(451, "4.3.0", "internal error, it will be tried again")


class Settlement(msgspec.Struct, frozen=True):
    """What to record. `failed` and `delivered`: recipients whose sender may have to be told, with the outcome."""

    steps: tuple[Step, ...]
    journal: JournalEntry
    events: tuple[Event, ...]
    failed: tuple[tuple[WaitingRecipient, Outcome], ...] = ()
    delivered: tuple[tuple[WaitingRecipient, Outcome], ...] = ()
    destination: DestinationState | None = None
    expired: frozenset[int] = frozenset()


class Moment(msgspec.Struct, frozen=True):
    """When, and with what luck: `jitter` in [0, 1)."""

    now: float
    jitter: Callable[[], float]


def settle(claim: Claim, report: Report, at: Moment, retry: RetrySettings, failures: int) -> Settlement:
    """Judge every recipient of the claim. `failures` is how often in a row the destination was down before."""
    time = moment(at.now)
    message = claim.message
    outcomes = report.outcomes
    events: list[Event] = []
    steps: list[Step] = []
    failed: list[tuple[WaitingRecipient, Outcome]] = []
    delivered: list[tuple[WaitingRecipient, Outcome]] = []
    expired: list[int] = []
    null_sender = isinstance(message.sender.reverse_path, NullPath)
    for position, recipient in enumerate(claim.recipients):
        outcome = outcomes[position]
        attempt = _attempt_events(events, claim, report, position, time)
        text, reply = attempt.recipient, attempt.reply
        if outcome.result is Result.DELIVERED:
            events.append(Deliver(time=time, id=message.id, recipient=text, reply=reply))
            if message.quarantine is not None:
                events += _junk(message.quarantine, claim, recipient, outcome, at.now)
            steps.append(Step(recipient.index, End.DELIVERED))
            delivered.append((recipient, outcome))
            continue
        attempts = recipient.attempts + 1
        next_step = after(outcome, attempts, message.received_at, at.now, null_sender, at.jitter(), retry)
        if recipient.in_doubt and not outcome.in_doubt:
            # It may have arrived another time, and an attempt that clearly failed does not take that back.
            outcome = replace(outcome, in_doubt=True)
        if isinstance(next_step, GiveUp):
            events.append(_end_event(next_step, outcome, message.id, text, at.now))
            steps.append(Step(recipient.index, End.BOUNCED))
            failed.append((recipient, outcome))
            if next_step.reason == "expired":
                expired.append(recipient.index)
            continue
        events.append(
            Defer(
                time=time,
                id=message.id,
                recipient=text,
                reply=reply,
                next_attempt_at=moment(next_step.when),
                reason=outcome.stage,
                in_doubt=outcome.in_doubt,
            )
        )
        steps.append(
            Step(
                recipient.index,
                state=State.DEFERRED,
                next_attempt_at=next_step.when,
                attempts=attempts,
                last_reply=reply[:LAST_REPLY_CHARACTERS],
                destination=recipient.destination,
                in_doubt=outcome.in_doubt,
                delay_noticed=recipient.delay_noticed,
            )
        )
    journal = JournalEntry(encode_all(events), at.now, message.id)
    down = _destination_state(claim, report, at, retry, failures)
    return Settlement(tuple(steps), journal, tuple(events), tuple(failed), tuple(delivered), down, frozenset(expired))


def _junk(
    why: Quarantine, claim: Claim, recipient: WaitingRecipient, outcome: Outcome, now: float
) -> tuple[Event, ...]:
    """Delivered to the folder, or handed with the mark in its header to the server that keeps this domain's mailboxes;
    what went further is not among anybody's junk yet."""
    reason = why.reason
    if outcome.remote:
        if not is_local_key(recipient.destination):
            return ()
        reason = f"{reason}; marked so for the server behind us"
    text = str(recipient.address)
    return (Junk(time=moment(now), id=claim.message.id, recipient=text, rule=why.rule, reason=reason),)


def _attempt_events(events: list[Event], claim: Claim, report: Report, position: int, time: datetime) -> Attempt:
    """One event for each try; the last one is returned too, for its words."""
    recipient = claim.recipients[position]
    text = str(recipient.address)
    for one in report.tries:
        outcome = one.outcomes[position]
        attempt = Attempt(
            time=time,
            id=claim.message.id,
            recipient=text,
            route=report.route,
            destination=recipient.destination,
            host=one.host,
            address=one.address,
            tls=one.tls,
            stage=outcome.stage,
            reply=str(outcome.reply),
            outcome=outcome.result.value,
            seconds=round(one.seconds, 6),
        )
        events.append(attempt)
    return attempt


def _end_event(end: GiveUp, outcome: Outcome, message_id: str, recipient: str, now: float) -> Event:
    kind = Expire if end.reason == "expired" else Bounce
    return kind(
        time=moment(now),
        id=message_id,
        recipient=recipient,
        reply=str(outcome.reply),
        reason=f"{end.reason}: {outcome.stage}",
        in_doubt=outcome.in_doubt,
    )


def _destination_state(
    claim: Claim, report: Report, at: Moment, retry: RetrySettings, failures: int
) -> DestinationState | None:
    outcome = report.outcomes[0]
    if outcome.result is not Result.DEFERRED or outcome.scope is not Scope.DESTINATION:
        return None
    return DestinationState(
        destination=claim.recipients[0].destination,
        not_before=at.now + wait_seconds(failures + 1, at.jitter(), retry),
        failures=failures + 1,
        last_reply=str(outcome.reply)[:LAST_REPLY_CHARACTERS],
    )


def put_off(claim: Claim) -> Report:
    """What is reported when an attempt broke off by our own fault: every recipient waits for another."""
    outcome = Outcome(Result.DEFERRED, Scope.MESSAGE, INTERNAL, "local", remote=False)
    return Report((Try((outcome,) * len(claim.recipients)),))


def held_back(claim: Claim, now: float) -> Settlement:
    """Every recipient is held, because nobody knows what became of it: our own fault, and an operator's to decide."""
    events: list[Event] = []
    steps: list[Step] = []
    for one in claim.recipients:
        reason = "internal error at the end of an attempt; it may have been delivered"
        events.append(
            Hold(time=moment(now), id=claim.message.id, recipient=str(one.address), by="staffetta", reason=reason)
        )
        steps.append(
            Step(
                one.index,
                state=State.HELD,
                next_attempt_at=now,
                attempts=one.attempts + 1,
                last_reply=str(INTERNAL),
                destination=one.destination,
                in_doubt=True,
                delay_noticed=one.delay_noticed,
            )
        )
    journal = JournalEntry(encode_all(events), now, claim.message.id)
    return Settlement(tuple(steps), journal, tuple(events))
