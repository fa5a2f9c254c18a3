"""The journey of a message, accepted or refused, out of the journal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from staffetta.control.queue import open_queue
from staffetta.observe import journal
from staffetta.observe.journal import Event


def journey(data_dir: Path, name: str) -> list[Event]:
    """The events of what `name` names (an id of ours, or a Message-ID with or without brackets), oldest first.

    Empty when the journal knows nothing. Raises place.NothingThere, place.NotAllowed, StoreError.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return []  # nothing in the journal is called so
    with open_queue(data_dir) as store:
        return oldest_first(journal.trace(store.connection, name) or journal.trace(store.connection, name.upper()))


def oldest_first(events: Iterable[Event]) -> list[Event]:
    """By their times; of the same moment, what was written first. Refusals are written a moment late, so what was
    accepted after one may stand before it."""
    return sorted(events, key=lambda event: str(event.get("time", "")).removesuffix("Z"))  # fractions are optional
