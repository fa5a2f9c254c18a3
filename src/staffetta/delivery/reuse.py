"""Open sessions that wait for the next message to the same host: handed out again while young and little used.

The clock is an argument and nothing here waits: who sweeps, and when, is the owner's. A session that was handed out
may still die before its first answer; it says so with SessionStale, and the caller opens another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from staffetta.tlspolicy.levels import TlsLevel


class Session(Protocol):
    """What the pool needs to know of a session."""

    @property
    def reusable(self) -> bool:
        """True while another message may be sent."""

    @property
    def transactions(self) -> int:
        """How many were sent."""

    def dismiss(self) -> None:
        """End it in good order, waiting for nothing."""


class ReuseSettings(msgspec.Struct, frozen=True, gc=False):
    """Bounds: how long a session may wait, how many messages it may carry, how many may wait per key and in all."""

    idle_seconds: float = 5.0
    messages_per_session: int = 100
    idle_per_key: int = 20
    idle_total: int = 200


class SessionKey(msgspec.Struct, frozen=True, gc=False):
    """Whom a session may serve. `destination` is part of it, so that a login of one route is never used by another."""

    destination: str
    host: str
    level: TlsLevel


S = TypeVar("S", bound=Session)


class SessionPool(Generic[S]):
    """The idle sessions. `clock` counts seconds and never runs backwards."""

    def __init__(self, settings: ReuseSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._idle: dict[SessionKey, deque[tuple[float, S]]] = {}
        self._total = 0
        self._closed = False

    def __len__(self) -> int:
        return self._total

    def checkout(self, key: SessionKey) -> S | None:
        """The session that was used last, or None. It is the caller's until checked in."""
        waiting = self._idle.get(key)
        oldest = self._clock() - self._settings.idle_seconds
        while waiting:
            since, session = waiting.pop()
            self._forget_one(key, waiting)
            if since > oldest and session.reusable:
                return session
            session.dismiss()
        return None

    def checkin(self, key: SessionKey, session: S) -> None:
        """Keep it for the next message, or end it: when it is used up, when too many wait, after `close_all`."""
        settings = self._settings
        waiting = self._idle.get(key)
        full = self._total >= settings.idle_total or (waiting is not None and len(waiting) >= settings.idle_per_key)
        if self._closed or full or session.transactions >= settings.messages_per_session or not session.reusable:
            session.dismiss()
            return
        if waiting is None:
            waiting = self._idle[key] = deque()
        waiting.append((self._clock(), session))
        self._total += 1

    def sweep(self) -> float | None:
        """End what has waited too long or died; how many seconds until the next one is due, None when none waits."""
        now = self._clock()
        oldest = now - self._settings.idle_seconds
        first: float | None = None
        for key, waiting in list(self._idle.items()):
            for since, session in list(waiting):
                if since <= oldest or not session.reusable:
                    waiting.remove((since, session))
                    self._forget_one(key, waiting)
                    session.dismiss()
                elif first is None or since < first:
                    first = since
        return None if first is None else first - oldest

    async def close_all(self) -> None:
        """End all, and whatever is checked in later."""
        self._closed = True
        waiting = [session for one in self._idle.values() for _, session in one]
        self._idle.clear()
        self._total = 0
        for session in waiting:
            session.dismiss()

    def _forget_one(self, key: SessionKey, waiting: deque[tuple[float, S]]) -> None:
        self._total -= 1
        if not waiting:
            self._idle.pop(key, None)
