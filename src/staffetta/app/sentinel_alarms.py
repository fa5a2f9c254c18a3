"""An alarm that is told: in `status` as long as it holds, and in the log when it begins and ends."""

from __future__ import annotations

from staffetta.app.wiring import Parts
from staffetta.observe.events import AlarmCleared, AlarmRaised, moment


def raise_alarm(parts: Parts, name: str, text: str) -> None:
    """Raise it, or change its text."""
    if parts.alarms.sound(name, text):
        parts.emit(AlarmRaised(time=moment(parts.world.clock()), name=name, reason=text))


def clear_alarm(parts: Parts, name: str) -> None:
    """Its cause is gone."""
    if parts.alarms.clear(name):
        parts.emit(AlarmCleared(time=moment(parts.world.clock()), name=name))
