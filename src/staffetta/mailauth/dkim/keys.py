"""The keys of one domain and their lives: next, active, retired, gone.

A new selector waits as `next` until its record is seen in the DNS; then it signs, and the one it replaces is `retired`:
it signs no more, but its record has to stay until what it signed has arrived everywhere (RFC 6376 section 3.1 and
appendix B.3). Everything here is a pure function of values: the files are in `keystore`, the DNS in `publication`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from staffetta.mailauth.dkim.record import Algorithm

STATE_VERSION: Final = 1
"""The version of the state file."""

RSA_BITS: Final = 2048
"""What every receiver can check and one TXT record can hold."""

ALGORITHMS: Final = (Algorithm.RSA_SHA256, Algorithm.ED25519_SHA256)
"""A domain has one key of each."""

_LETTER: Final = {Algorithm.RSA_SHA256: "r", Algorithm.ED25519_SHA256: "e"}


class KeySettings(msgspec.Struct, frozen=True, gc=False):
    """`retired_for`: how long the record of a retired key must stay. A message may wait five days in a queue, and a
    reader may check it again later."""

    retired_for: timedelta = timedelta(days=14)


class KeyPhase(StrEnum):
    """Where in its life a key is."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"


class KeyEntry(msgspec.Struct, frozen=True, gc=False):
    """One key. Times are UTC; `retired_at` is None until it is retired."""

    selector: str
    algorithm: Algorithm
    bits: int
    state: KeyPhase
    created_at: datetime
    retired_at: datetime | None = None


class DomainKeys(msgspec.Struct, frozen=True):
    """All keys of a domain. `used` are all selectors it ever had: none is ever used for another key."""

    domain: str
    entries: tuple[KeyEntry, ...] = ()
    used: tuple[str, ...] = ()
    version: int = STATE_VERSION

    def in_state(self, state: KeyPhase) -> tuple[KeyEntry, ...]:
        """The entries in one state, in their order."""
        return tuple([entry for entry in self.entries if entry.state is state])

    def with_new(self, entries: tuple[KeyEntry, ...]) -> DomainKeys:
        """The same with more keys."""
        used = self.used + tuple([entry.selector for entry in entries])
        return msgspec.structs.replace(self, entries=self.entries + entries, used=used)


class KeyChange(msgspec.Struct, frozen=True, gc=False):
    """What time and the DNS did to a key. `state` is the new one, None when the key is gone."""

    domain: str
    selector: str
    state: KeyPhase | None


def advance(
    keys: DomainKeys, seen: frozenset[str], now: datetime, settings: KeySettings
) -> tuple[DomainKeys, tuple[KeyChange, ...]]:
    """The keys as they should be now, and what changed. `seen` are the selectors whose records are published rightly.

    Each algorithm goes its own way: a seen `next` key becomes active, and the active ones of its kind retire.
    """
    ready = {entry.algorithm for entry in keys.in_state(KeyPhase.NEXT) if entry.selector in seen}
    kept: list[KeyEntry] = []
    changes: list[KeyChange] = []
    for entry in keys.entries:
        after = _after(entry, ready, seen, now, settings)
        if after is not None:
            kept.append(after)
        if after is not entry:
            changes.append(KeyChange(keys.domain, entry.selector, after.state if after else None))
    if not changes:
        return keys, ()
    return msgspec.structs.replace(keys, entries=tuple(kept)), tuple(changes)


def _after(
    entry: KeyEntry, ready: set[Algorithm], seen: frozenset[str], now: datetime, settings: KeySettings
) -> KeyEntry | None:
    if entry.state is KeyPhase.NEXT and entry.selector in seen:
        return msgspec.structs.replace(entry, state=KeyPhase.ACTIVE)
    if entry.state is KeyPhase.ACTIVE and entry.algorithm in ready:
        return msgspec.structs.replace(entry, state=KeyPhase.RETIRED, retired_at=now)
    if entry.state is KeyPhase.RETIRED and now >= may_go_at(entry, settings):
        return None
    return entry


def may_go_at(entry: KeyEntry, settings: KeySettings) -> datetime:
    """When the record of a retired key may be taken out of the DNS."""
    return (entry.retired_at or entry.created_at) + settings.retired_for


def new_selector(algorithm: Algorithm, now: datetime, taken: frozenset[str]) -> str:
    """A selector that nobody used: year, month, and a letter for the algorithm, such as `s202611r`."""
    plain = f"s{now:%Y%m}{_LETTER[algorithm]}"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}{number}"
    return name


__all__ = [
    "ALGORITHMS",
    "RSA_BITS",
    "STATE_VERSION",
    "DomainKeys",
    "KeyChange",
    "KeyEntry",
    "KeyPhase",
    "KeySettings",
    "advance",
    "may_go_at",
    "new_selector",
]
