"""From an outcome and its history to the next attempt, or the end.

RFC 5321 section 4.5.4.1: keep trying for days with growing waits; section 6.1: then say so.
Clocks are set wrong and put right: an age is never negative, and age alone ends nothing. Whatever the clock says, a
recipient is tried `minimum_attempts` times before it expires, so a jump forward costs waits, not mail.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from staffetta.mail.outcome import Outcome, Result

JITTER_SHARE: Final = 0.1
"""Waits vary by this share both ways, so that what failed together does not return together."""

MINIMUM_ATTEMPTS: Final = 3
"""Attempts before a recipient may expire, whatever the clock says."""


class RetrySettings(msgspec.Struct, frozen=True):
    """`[queue]`. `retry_seconds` are the waits between attempts; the last repeats. `lifetime_seconds` is for mail with
    a sender, `bounce_lifetime_seconds` for the null path. `delay_notice_seconds` None: the sender is not told."""

    retry_seconds: tuple[float, ...] = (60, 300, 900, 1800, 3600, 7200, 14400)
    lifetime_seconds: float = 432_000
    bounce_lifetime_seconds: float = 86_400
    delay_notice_seconds: float | None = 14_400
    minimum_attempts: int = MINIMUM_ATTEMPTS

    def __post_init__(self) -> None:
        if not self.retry_seconds or min(self.retry_seconds) <= 0:
            raise ValueError("waits between attempts are positive, and there is at least one")

    def lifetime_of(self, null_sender: bool) -> float:
        """Seconds after which a message of this kind is given up."""
        return self.bounce_lifetime_seconds if null_sender else self.lifetime_seconds


class RetryAt(msgspec.Struct, frozen=True, gc=False):
    """Try again at `when`, seconds since the epoch."""

    when: float


class GiveUp(msgspec.Struct, frozen=True, gc=False):
    """No further attempt: `failed` because the peer or the world said so for good, `expired` because time is up."""

    reason: Literal["failed", "expired"]


FAILED: Final = GiveUp("failed")
EXPIRED: Final = GiveUp("expired")


def after(  # noqa: PLR0917 - the history of one recipient, told as the queue holds it
    outcome: Outcome,
    attempts: int,
    received_at: float,
    now: float,
    null_sender: bool,
    jitter: float,
    settings: RetrySettings,
) -> RetryAt | GiveUp:
    """What follows an attempt that did not deliver. `attempts` counts this one too; `jitter` is in [0, 1).

    An attempt in doubt is tried again like any other: a second copy is better than none (RFC 5321 section 4.5.3.2).
    """
    if outcome.result is Result.DELIVERED:
        raise ValueError("what was delivered has no next attempt")
    if outcome.result is Result.FAILED and not outcome.in_doubt:
        return FAILED
    if is_expired(attempts, received_at, now, null_sender, settings):
        return EXPIRED
    return RetryAt(now + wait_seconds(attempts, jitter, settings))


def wait_seconds(attempts: int, jitter: float, settings: RetrySettings) -> float:
    """How long to wait after so many attempts in vain, of a recipient or at a destination; `jitter` is in [0, 1)."""
    waits = settings.retry_seconds
    wait = waits[min(max(attempts, 1), len(waits)) - 1]
    return wait * (1.0 - JITTER_SHARE + 2.0 * JITTER_SHARE * jitter)


def is_expired(attempts: int, received_at: float, now: float, null_sender: bool, settings: RetrySettings) -> bool:
    """True when the message is older than its lifetime and was tried often enough to say so."""
    return now - received_at > settings.lifetime_of(null_sender) and attempts >= settings.minimum_attempts
