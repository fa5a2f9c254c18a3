"""The DNS as one check may use it: together no longer than somebody waits at a terminal.

What is late is Unavailable like any silence, so that a check ends with what it has, and says what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from staffetta.dns.resolver import Lookup, RecordKind, Resolver, Unavailable

CHECK_SECONDS: Final = 20.0
"""How long all questions of one check may take together."""

_LATE: Final = Unavailable("no answer within the time of this check")


class Patience:
    """A Resolver for one check. `clock` gives seconds of any origin."""

    __slots__ = ("_clock", "_resolver", "deadline")

    def __init__(self, resolver: Resolver, clock: Callable[[], float], seconds: float = CHECK_SECONDS) -> None:
        self._resolver = resolver
        self._clock = clock
        self.deadline = clock() + seconds

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        """See dns.resolver.Resolver."""
        known = self._resolver.cached(name, kind)
        if known is not None:
            return known
        seconds = self.deadline - self._clock()
        if seconds <= 0:
            return _LATE
        try:
            async with asyncio.timeout(seconds):
                return await self._resolver.query(name, kind)
        except TimeoutError:
            return _LATE

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        """See dns.resolver.Resolver."""
        return self._resolver.cached(name, kind)
