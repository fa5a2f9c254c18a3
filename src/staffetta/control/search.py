"""Searching the journal by who wrote to whom, so that mail that was refused is found as easily as mail that was taken.

A refusal has no id that its sender could name; he knows addresses and a day. This module refuses to know SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from staffetta.control.journey import oldest_first
from staffetta.control.queue import open_queue
from staffetta.mail.address import fold_local_part
from staffetta.observe.journal import Event
from staffetta.spool.sqlite_journal import rows_before

FOUND: Final = 50
"""Events that one search gives, the newest of all there are."""

PAGE_ROWS: Final = 2000

_WORDS: Final = frozenset({"accept", "refuse"})
_decode = msgspec.json.Decoder(dict[str, object]).decode


class Wanted(msgspec.Struct, frozen=True):
    """Whom to look for: `local@domain`, `@domain` or `local@`; empty: anybody. `sender` may be `<>`."""

    sender: str = ""
    recipient: str = ""


def search(data_dir: Path, wanted: Wanted) -> list[Event]:
    """What came to the doors from and for these addresses: `accept` and `refuse` events, oldest first, FOUND at most.

    Raises place.NothingThere, place.NotAllowed, StoreError.
    """
    found: list[Event] = []
    with open_queue(data_dir) as store:
        before: int | None = None
        while len(found) < FOUND:
            rows = rows_before(store.connection, before, PAGE_ROWS)
            if not rows:
                break
            before = rows[-1][0]
            for _, entry in rows:
                found += reversed(list(_fitting(entry.lines, wanted)))
    return oldest_first(found[:FOUND][::-1])


def _fitting(lines: bytes, wanted: Wanted) -> Iterator[Event]:
    for line in lines.split(b"\n"):
        if b'"accept"' not in line and b'"refuse"' not in line:
            continue  # most lines, told apart without reading them
        try:
            event = _decode(line)
        except msgspec.DecodeError:
            continue
        if event.get("event") in _WORDS and _fits(event, wanted):
            yield event


def _fits(event: Event, wanted: Wanted) -> bool:
    sender, recipients = event.get("sender"), event.get("recipients", [event.get("recipient")])
    if wanted.sender == "<>":
        if sender != "":
            return False
    elif wanted.sender and not _is(sender, wanted.sender):
        return False
    return not wanted.recipient or (
        isinstance(recipients, list) and any(_is(recipient, wanted.recipient) for recipient in recipients)
    )


def _is(address: object, pattern: str) -> bool:
    """As the filters of the queue compare: without regard to ASCII case."""
    if not isinstance(address, str):
        return False
    folded, sought = fold_local_part(address), fold_local_part(pattern)
    if sought.startswith("@"):
        return folded.endswith(sought)
    return folded.startswith(sought) if sought.endswith("@") else folded == sought
