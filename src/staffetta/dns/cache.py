"""What the DNS said, remembered for as long as it said, within bounds of time and memory.

RFC 2308 (absences), RFC 8767 is not followed: what is stale is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from staffetta.dns.resolver import Answer, Lookup, NoSuchName, RecordKind

Key = tuple[str, RecordKind]

_ENTRY_OCTETS: Final = 700
"""What one small entry costs in memory besides its records."""


class CacheSettings(msgspec.Struct, frozen=True, gc=False):
    """Bounds in seconds and octets. What is fresher or staler than the zone's owner wanted, by these and no more."""

    least_seconds: float = 5.0
    most_seconds: float = 86_400.0
    most_absent_seconds: float = 300.0
    failure_seconds: float = 5.0
    octets: int = 32 * 1024 * 1024


class Cache:
    """The least recently used entries go first. Not for threads."""

    __slots__ = ("_clock", "_entries", "_octets", "_settings")

    def __init__(self, settings: CacheSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._entries: OrderedDict[Key, tuple[float, Lookup, int]] = OrderedDict()
        self._octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """About how much memory the entries take."""
        return self._octets

    def get(self, key: Key) -> Lookup | None:
        """What is known; None when nothing is, or it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            self._octets -= entry[2]
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: Key, lookup: Lookup, octets: int) -> None:
        """Remember `lookup`, which came in a message of `octets`."""
        old = self._entries.pop(key, None)
        if old is not None:
            self._octets -= old[2]
        # Decoded records take several times the octets they took on the wire.
        weight = _ENTRY_OCTETS + 4 * octets
        self._entries[key] = (self._clock() + self._lifetime(lookup), lookup, weight)
        self._octets += weight
        while self._octets > self._settings.octets and self._entries:
            _, (_, _, gone) = self._entries.popitem(last=False)
            self._octets -= gone

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._octets = 0

    def _lifetime(self, lookup: Lookup) -> float:
        settings = self._settings
        if isinstance(lookup, Answer) and (lookup.records or lookup.unusable):
            return min(max(lookup.ttl_seconds, settings.least_seconds), settings.most_seconds)
        if isinstance(lookup, Answer | NoSuchName):
            return min(max(lookup.ttl_seconds, settings.least_seconds), settings.most_absent_seconds)
        return settings.failure_seconds
