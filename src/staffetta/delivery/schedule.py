"""What is due, for whom there is room, and how long to wait. It starts nothing itself and reads no clock.

One `Lane` per destination holds the claims that are at hand, in order. Rules, each with its reason:
a destination that never answered gets two connections, not twenty (a dead host is found out cheaply);
a lane holds at most `ready_per_destination` claims, so a slow destination cannot fill the memory of the others;
a destination that is down holds nothing: its messages wait in the spool, not here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from staffetta.delivery.settings import DeliverySettings
from staffetta.spool.contract import Claim, DestinationState

PROBING_CONNECTIONS: Final = 2
"""Connections to a destination that has not answered yet."""

LOW_WATER: Final = 8
"""A lane with this many claims or fewer is worth refilling from the spool."""


class Lane:
    """One destination: what waits for it in memory and who works on it. `more`: the spool holds further due claims."""

    __slots__ = (
        "connections",
        "failures",
        "key",
        "more",
        "next_slot",
        "not_before",
        "proven",
        "rate",
        "ready",
        "workers",
    )

    def __init__(self, key: str, connections: int, rate: float) -> None:
        self.key = key
        self.ready: deque[Claim] = deque()
        self.workers = 0
        self.connections = connections
        self.rate = rate
        self.next_slot = 0.0
        self.not_before = 0.0
        self.failures = 0
        self.proven = False
        self.more = False

    @property
    def crowded(self) -> bool:
        """It has enough at hand; the spool need not be asked for more."""
        return len(self.ready) > LOW_WATER


class Schedule:
    """The lanes and their limits. Single-threaded; every moment is an argument."""

    __slots__ = ("_lanes", "_ready", "_settings", "_starving", "_workers")

    def __init__(self, settings: DeliverySettings) -> None:
        self._settings = settings
        self._lanes: dict[str, Lane] = {}
        self._ready = 0
        self._workers = 0
        self._starving: dict[str, Lane] = {}

    @property
    def starving(self) -> bool:
        """True while a lane has claims but nobody to carry them, because there are too many workers in all."""
        return bool(self._starving)

    def starved(self) -> list[Lane]:
        """Those lanes, the longest starving first; they are forgotten here."""
        lanes = list(self._starving.values())
        self._starving.clear()
        return lanes

    @property
    def active(self) -> int:
        """Claims at hand, not counting those being worked on."""
        return self._ready

    def known(self, key: str) -> Lane | None:
        """The lane of a destination, where there is one."""
        return self._lanes.get(key)

    def lane(self, key: str, connections: int = 0, rate: float = 0.0) -> Lane:
        """The lane of a destination, made when it is first asked for."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, connections or self._settings.connections, rate)
        return lane

    def has_room(self, key: str, now: float) -> bool:
        """True when a message for this destination may be claimed in the same write that accepts it."""
        lane = self._lanes.get(key)
        full = self._ready >= self._settings.ready_limit
        if lane is None:
            return not full
        if full or len(lane.ready) >= self._settings.ready_per_destination:
            lane.more = True  # what cannot be claimed now waits in the spool
            return False
        return now >= lane.not_before

    def add(self, lane: Lane, claim: Claim) -> None:
        """A claim is at hand."""
        lane.ready.append(claim)
        self._ready += 1

    def take(self, lane: Lane) -> Claim | None:
        """The next claim of the lane."""
        if not lane.ready:
            return None
        self._ready -= 1
        return lane.ready.popleft()

    def may_start(self, lane: Lane) -> bool:
        """True when another connection to the destination is both useful and allowed."""
        if not lane.ready:
            return False
        if self._workers >= self._settings.total_connections:
            if not lane.workers:
                self._starving[lane.key] = lane
            return False
        limit = lane.connections if lane.proven else min(PROBING_CONNECTIONS, lane.connections)
        return lane.workers < limit

    def started(self, lane: Lane) -> None:
        """A worker begins."""
        lane.workers += 1
        self._workers += 1

    def stopped(self, lane: Lane) -> None:
        """A worker ended. A lane that holds nothing and says nothing is forgotten."""
        lane.workers -= 1
        self._workers -= 1
        if not (lane.workers or lane.ready or lane.failures or lane.more):
            self._lanes.pop(lane.key, None)

    def slot(self, lane: Lane, now: float) -> float:
        """Seconds to wait before the next transaction, so that the destination's rate is kept; reserves the slot."""
        if not lane.rate:
            return 0.0
        start = max(now, lane.next_slot)
        lane.next_slot = start + 1.0 / lane.rate
        return start - now

    def succeeded(self, lane: Lane) -> bool:
        """The destination answered. True when it was down before, so that the spool must be told."""
        was_down = lane.failures > 0
        lane.proven = True
        lane.failures = 0
        lane.not_before = 0.0
        return was_down

    def failed(self, lane: Lane, state: DestinationState) -> list[Claim]:
        """The destination is down until `state.not_before`; returns the claims to be given back to the spool."""
        lane.proven = False
        lane.failures = state.failures
        lane.not_before = state.not_before
        lane.more = False
        given_back = list(lane.ready)
        lane.ready.clear()
        self._ready -= len(given_back)
        return given_back

    def full(self, now: float) -> frozenset[str]:
        """Destinations for which nothing more should be claimed now."""
        return frozenset(key for key, lane in self._lanes.items() if lane.crowded or now < lane.not_before)

    def crowded(self) -> frozenset[str]:
        """Destinations that have enough at hand: the next of theirs to become due is no reason to wake up.

        Those that are down are not among them: when their time comes is what the spool is asked for.
        """
        return frozenset(key for key, lane in self._lanes.items() if lane.crowded)

    def room(self) -> int:
        """How many further claims may be at hand."""
        return max(0, self._settings.ready_limit - self._ready)

    def wants_refill(self, lane: Lane) -> bool:
        """True when the lane ran low although the spool holds more for it."""
        return lane.more and len(lane.ready) <= LOW_WATER

    def lanes(self) -> list[Lane]:
        """All lanes, for status and shutdown."""
        return list(self._lanes.values())

    def failures(self, destination: str) -> int:
        """How often in a row a destination was found down."""
        lane = self._lanes.get(destination)
        return lane.failures if lane is not None else 0

    def reconsider(self) -> None:
        """An operator changed something: ask the spool again about destinations that are down; it knows."""
        for lane in self._lanes.values():
            lane.not_before = 0.0

    def adopt(self, limits: Callable[[str], tuple[int, float]]) -> None:
        """Other limits hold: connections at most (0: the default) and transactions a second, by destination."""
        for lane in self._lanes.values():
            connections, rate = limits(lane.key)
            if rate != lane.rate:
                lane.next_slot = 0.0
            lane.connections, lane.rate = connections or self._settings.connections, rate

    def forgive(self, destination: str) -> None:
        """The way to a destination changed: what was found out about it says nothing any more."""
        lane = self._lanes.get(destination)
        if lane is not None:
            lane.proven = False
            lane.failures = 0
            lane.not_before = 0.0

    def forget_idle(self, now: float) -> None:
        """Drop lanes of destinations whose bad time is over and that hold nothing; the spool remembers what matters."""
        idle = [
            key
            for key, lane in self._lanes.items()
            if not lane.workers and not lane.ready and not lane.more and now >= lane.not_before + 3600
        ]
        for key in idle:
            del self._lanes[key]
