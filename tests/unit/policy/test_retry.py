"""When to try again and when to stop, as a table; and what wrong clocks may not do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import reply
from staffetta.policy.retry import GiveUp, RetryAt, RetrySettings, after

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
SETTINGS = RetrySettings()
DEFERRED = Outcome(Result.DEFERRED, Scope.RECIPIENT, reply(450, "4.2.0", "later"), "rcpt")
FAILED = Outcome(Result.FAILED, Scope.RECIPIENT, reply(550, "5.1.1", "no"), "rcpt")
DOUBT = Outcome(Result.DEFERRED, Scope.SESSION, reply(451, "4.4.2", "lost"), "dot", in_doubt=True)
NOW = 1_800_000_000.0

ROWS = [
    # outcome, attempts with this one, age, null path -> wait, or the reason to stop
    (DEFERRED, 1, 0.0, False, 1 * MINUTE),
    (DEFERRED, 2, 1 * MINUTE, False, 5 * MINUTE),
    (DEFERRED, 3, 6 * MINUTE, False, 15 * MINUTE),
    (DEFERRED, 7, 4 * HOUR, False, 4 * HOUR),
    (DEFERRED, 8, 8 * HOUR, False, 4 * HOUR),
    (DEFERRED, 5000, 8 * HOUR, False, 4 * HOUR),
    (DOUBT, 1, 0.0, False, 1 * MINUTE),
    (FAILED, 1, 0.0, False, "failed"),
    (FAILED, 9, 9 * DAY, True, "failed"),
    (DEFERRED, 30, 5 * DAY, False, 4 * HOUR),
    (DEFERRED, 30, 5 * DAY + 1, False, "expired"),
    (DOUBT, 30, 5 * DAY + 1, False, "expired"),
    (DEFERRED, 30, 1 * DAY, True, 4 * HOUR),
    (DEFERRED, 30, 1 * DAY + 1, True, "expired"),
    (DEFERRED, 30, 1 * DAY + 1, False, 4 * HOUR),
    # a clock that jumped forward: age alone ends nothing
    (DEFERRED, 1, 3650 * DAY, False, 1 * MINUTE),
    (DEFERRED, 2, 3650 * DAY, False, 5 * MINUTE),
    (DEFERRED, 3, 3650 * DAY, False, "expired"),
    # a clock that jumped back: nobody is younger than new
    (DEFERRED, 1, -3650 * DAY, False, 1 * MINUTE),
    (DEFERRED, 40, -3650 * DAY, True, 4 * HOUR),
]


@pytest.mark.parametrize(("outcome", "attempts", "age", "null", "expected"), ROWS)
def test_what_follows(outcome: Outcome, attempts: int, age: float, null: bool, expected: float | str) -> None:
    found = after(outcome, attempts, NOW - age, NOW, null, 0.5, SETTINGS)
    if isinstance(expected, str):
        assert isinstance(found, GiveUp)
        assert found.reason == expected
    else:
        assert isinstance(found, RetryAt)
        assert found.when - NOW == pytest.approx(expected)


@given(st.integers(1, 100), st.floats(-1e9, 1e9), st.floats(0, 1, exclude_max=True), st.booleans())
def test_waits_stay_within_their_jitter_whatever_the_clock_says(
    attempts: int, age: float, jitter: float, null: bool
) -> None:
    found = after(DEFERRED, attempts, NOW - age, NOW, null, jitter, SETTINGS)
    if isinstance(found, RetryAt):
        wait = SETTINGS.retry_seconds[min(attempts, 7) - 1]
        assert 0.9 * wait - 0.001 <= found.when - NOW <= 1.1 * wait + 0.001
    else:
        assert attempts >= 3
        assert age > DAY


@pytest.mark.parametrize("waits", [(), (0.0,), (60.0, -1.0)])
def test_waits_that_would_spin_are_refused(waits: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="positive"):
        RetrySettings(waits)


def test_what_was_delivered_is_our_bug_here() -> None:
    done = Outcome(Result.DELIVERED, Scope.RECIPIENT, reply(250, "2.0.0", "ok"), "dot")
    with pytest.raises(ValueError, match="delivered"):
        after(done, 1, NOW, NOW, False, 0.5, SETTINGS)
