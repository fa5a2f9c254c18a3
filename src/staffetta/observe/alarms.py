"""What is wrong now and has to be seen by somebody: raised by who finds out, cleared by the same, shown by `status`.

An alarm is a state: it is there until its cause is gone. That it begins and ends are events, for who reads logs.
This module refuses to know what anybody does about it, and keeps nothing over a restart: what is still wrong then will
be found again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from staffetta.observe.events import AlarmCleared, AlarmRaised, Event, moment

MOST_ALARMS: Final = 100
"""Alarms that are kept; when so much is wrong one more says nothing new."""

LONGEST_TEXT: Final = 500
"""Characters of a text that are kept."""


class Alarm(msgspec.Struct, frozen=True, gc=False):
    """`name` is stable and made for programs (`certificate`, `clock`, `blocklist zen.example`); `text` says what is
    wrong and what to do."""

    name: str
    text: str
    since: datetime


class Alarms:
    """The alarms of one relay. Used from the loop's thread only. `clock` gives seconds since the epoch, `emit` gets the
    events."""

    __slots__ = ("_active", "_clock", "_emit")

    def __init__(self, clock: Callable[[], float], emit: Callable[[Event], None] | None = None) -> None:
        self._clock = clock
        self._emit = emit
        self._active: dict[str, Alarm] = {}

    def sound(self, name: str, text: str) -> bool:
        """Raise an alarm, or change the text of one that is raised. True when it was not raised before."""
        before = self._active.get(name)
        if before is None and len(self._active) >= MOST_ALARMS:
            return False
        since = before.since if before is not None else moment(self._clock())
        alarm = self._active[name] = Alarm(name, text[:LONGEST_TEXT], since)
        if before is None and self._emit is not None:
            self._emit(AlarmRaised(time=since, name=name, reason=alarm.text))
        return before is None

    def clear(self, name: str) -> bool:
        """The cause is gone. True when it was raised."""
        was_raised = self._active.pop(name, None) is not None
        if was_raised and self._emit is not None:
            self._emit(AlarmCleared(time=moment(self._clock()), name=name))
        return was_raised

    def active(self) -> tuple[Alarm, ...]:
        """What is wrong now, the longest first."""
        return tuple(sorted(self._active.values(), key=lambda alarm: (alarm.since, alarm.name)))
