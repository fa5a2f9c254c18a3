"""An alarm of the sentinel: in `status` as long as it holds, and in the log when it begins and ends."""

from __future__ import annotations

from staffetta.app.wiring import Parts


def raise_alarm(parts: Parts, name: str, text: str) -> None:
    """Raise it, or change its text."""
    parts.alarms.sound(name, text)


def clear_alarm(parts: Parts, name: str) -> None:
    """Its cause is gone."""
    parts.alarms.clear(name)
