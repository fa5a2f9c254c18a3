"""The DNS as one message may use it: so many questions, so much time, and then everything is Unavailable.

RFC 7208 section 4.6.4 and section 11.1: whoever can make us ask (a sender's SPF record, twenty signatures) must not be
able to make us ask without end. What the resolver remembers costs no question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from staffetta.dns.resolver import Lookup, RecordKind, Resolver, Unavailable

QUERIES: Final = 40
"""Most questions for one message."""

SECONDS: Final = 20.0
"""How long all questions of one message may take together."""

_SPENT: Final = Unavailable("more DNS queries were needed than are allowed")
_LATE: Final = Unavailable("no answer within the time that is allowed")


class Asker:
    """A Resolver for one message."""

    __slots__ = ("_clock", "_resolver", "deadline", "left")

    def __init__(
        self, resolver: Resolver, clock: Callable[[], float], queries: int = QUERIES, seconds: float = SECONDS
    ):
        self._resolver = resolver
        self._clock = clock
        self.left = queries
        self.deadline = clock() + seconds

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        """See dns.resolver.Resolver."""
        known = self._resolver.cached(name, kind)
        if known is not None:
            return known
        if self.left <= 0:
            return _SPENT
        seconds = self.deadline - self._clock()
        if seconds <= 0:
            return _LATE
        self.left -= 1
        try:
            async with asyncio.timeout(seconds):
                return await self._resolver.query(name, kind)
        except TimeoutError:
            return _LATE

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        """See dns.resolver.Resolver."""
        return self._resolver.cached(name, kind)
