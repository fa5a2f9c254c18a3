"""What age does to waiting messages: the delay notice, and the end of their lifetime.

RFC 5321 section 4.5.4.1 (give up after days), RFC 3461 section 4.1 (delay). Also ends what an operator wants bounced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from msgspec.structs import replace

from staffetta.accounts.store import AccountsUnavailable
from staffetta.delivery.bounce import Notices, Notifier, last_reply
from staffetta.delivery.settle import Settlement
from staffetta.mail.address import NullPath
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.observe.events import Bounce, Event, Expire, encode_all, moment
from staffetta.policy.retry import RetrySettings, is_expired
from staffetta.spool.contract import (
    Claim,
    ClaimLost,
    JournalEntry,
    Spool,
    SpoolUnavailable,
    State,
    Step,
    WaitingRecipient,
)
from staffetta.spool.contract import Final as End

CLAIMS_PER_SWEEP: Final = 200
"""Recipients that one look may end or tell about; the next look goes on."""


class Lifetimes:
    """Looks at ages. `offer` takes claims that deserve another attempt first; `failures` counts a destination's bad
    times, which stand for attempts of everybody who waits for it."""

    def __init__(
        self,
        spool: Spool,
        notifier: Notifier,
        retry: RetrySettings,
        offer: Callable[[Claim], None],
        failures: Callable[[str], int],
    ) -> None:
        self._spool = spool
        self._notifier = notifier
        self._retry = retry
        self._offer = offer
        self._failures = failures
        self._left: list[Claim] = []

    def adopt(self, notifier: Notifier, retry: RetrySettings) -> None:
        """Other lifetimes hold from the next look on."""
        self._notifier = notifier
        self._retry = retry

    async def sweep(self, now: float) -> list[Event]:
        """One look; the events of what was recorded. Raises SpoolUnavailable. What cannot be ended or told about now is
        given back and found again by a later look."""
        retry = self._retry
        await self._give_back()
        events: list[Event] = []
        before, null_before = now - retry.lifetime_seconds, now - retry.bounce_lifetime_seconds
        for claim in await self._spool.overdue(before, null_before, CLAIMS_PER_SWEEP):
            events += await self._looked_at(claim, self._over(claim, now), self._end, now)
        if retry.delay_notice_seconds is not None:
            for claim in await self._spool.undelayed(now - retry.delay_notice_seconds, CLAIMS_PER_SWEEP):
                events += await self._looked_at(claim, claim.recipients, self._tell_delay, now)
        await self._give_back()
        return events

    async def _looked_at(
        self,
        claim: Claim,
        concerned: tuple[WaitingRecipient, ...],
        act: Callable[[Claim, float], Coroutine[Any, Any, list[Event]]],
        now: float,
    ) -> list[Event]:
        """Do something about the recipients concerned, and offer the others. A claim is never forgotten."""
        rest = tuple(recipient for recipient in claim.recipients if recipient not in concerned)
        if rest:
            self._offer(Claim(claim.message, rest, claim.content))
        if not concerned:
            return []
        part = Claim(claim.message, concerned, claim.content)
        try:
            return await act(part, now)
        except ClaimLost:
            return []  # somebody else has it, and looks after it
        except (SpoolUnavailable, AccountsUnavailable):
            self._left.append(part)  # a notice needs space that there may not be; giving it back needs less
        except Exception as error:
            self._left.append(part)
            context = {"message": f"the age of {claim.message.id} could not be seen to", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        return []

    async def _give_back(self) -> None:
        """Give back what could not be seen to. Raises SpoolUnavailable; the next look tries again."""
        while self._left:
            claim = self._left[-1]
            with suppress(ClaimLost):
                steps = [waiting_again(recipient) for recipient in claim.recipients]
                await self._spool.record(claim.message.id, steps, ())
            self._left.pop()

    def _over(self, claim: Claim, now: float) -> tuple[WaitingRecipient, ...]:
        return tuple(recipient for recipient in claim.recipients if self._is_over(claim, recipient, now))

    async def _end(self, claim: Claim, now: float) -> list[Event]:
        settlement = _settlement(claim, now)
        notices = await self._notifier.after(claim, settlement, None, now)
        await self._spool.record(claim.message.id, settlement.steps, (settlement.journal,), notices.messages)
        return [*settlement.events, *notices.events]

    def _is_over(self, claim: Claim, recipient: WaitingRecipient, now: float) -> bool:
        if recipient.bounce_by:
            return True
        attempts = recipient.attempts + self._failures(recipient.destination)
        null_sender = isinstance(claim.message.sender.reverse_path, NullPath)
        return is_expired(attempts, claim.message.received_at, now, null_sender, self._retry)

    async def _tell_delay(self, claim: Claim, now: float) -> list[Event]:
        notices: Notices = await self._notifier.delayed(claim, claim.recipients, now)
        steps = [waiting_again(replace(recipient, delay_noticed=True)) for recipient in claim.recipients]
        await self._spool.record(claim.message.id, steps, (), notices.messages)
        return list(notices.events)


def waiting_again(recipient: WaitingRecipient) -> Step:
    """The step that gives a recipient back as it was."""
    return Step(
        recipient.index,
        state=State.DEFERRED if recipient.attempts else State.QUEUED,
        next_attempt_at=recipient.next_attempt_at,
        attempts=recipient.attempts,
        last_reply=recipient.last_reply,
        destination=recipient.destination,
        in_doubt=recipient.in_doubt,
        delay_noticed=recipient.delay_noticed,
    )


def _settlement(claim: Claim, now: float) -> Settlement:
    events: list[Event] = []
    failed: list[tuple[WaitingRecipient, Outcome]] = []
    for recipient in claim.recipients:
        answer = last_reply(recipient)
        failed.append((recipient, Outcome(Result.FAILED, Scope.RECIPIENT, answer, "queue", False, recipient.in_doubt)))
        by = recipient.bounce_by
        kind = Bounce if by else Expire
        events.append(
            kind(
                time=moment(now),
                id=claim.message.id,
                recipient=str(recipient.address),
                reply=str(answer),
                reason=f"bounced by {by}" if by else "expired: it waited its whole lifetime",
                in_doubt=recipient.in_doubt,
            )
        )
    journal = JournalEntry(encode_all(events), now, claim.message.id)
    steps = tuple(Step(recipient.index, End.BOUNCED) for recipient in claim.recipients)
    expired = frozenset(recipient.index for recipient in claim.recipients if not recipient.bounce_by)
    return Settlement(steps, journal, tuple(events), tuple(failed), expired=expired)
