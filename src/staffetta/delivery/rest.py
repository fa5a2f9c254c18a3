"""Workers that wait a little for the next claim of their lane, with one timer for all of them.

Each rests equally long, so they are over in the order in which they began. This module refuses to know why a worker
comes to rest, and what it does afterwards.
"""

from __future__ import annotations

import asyncio
from typing import Final

_EARLY_SECONDS: Final = 0.002
"""A timer may fire this much before its time: loops count in milliseconds."""


class Rests:
    """Who rests. The last to come to rest at a lane is the first to be woken: so the others may end in time."""

    __slots__ = ("_lanes", "_loop", "_resting", "_seconds", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._resting: dict[asyncio.Future[bool], tuple[float, str]] = {}
        self._lanes: dict[str, list[asyncio.Future[bool]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._resting)

    async def rest(self, lane: str) -> bool:
        """Wait for a claim of the lane; False when the rest is over without one."""
        loop = self._loop
        waiter: asyncio.Future[bool] = loop.create_future()
        waiters = self._lanes.get(lane)
        if waiters is None:
            self._lanes[lane] = [waiter]
        else:
            waiters.append(waiter)
        over = loop.time() + self._seconds
        self._resting[waiter] = (over, lane)
        if self._timer is None:
            self._timer = loop.call_at(over, self._time_passed)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._resting:
                self._end(waiter, come=False)
            raise

    def wake(self, lane: str) -> bool:
        """A claim is there: wake a worker of the lane. False when none rests."""
        waiters = self._lanes.get(lane)
        while waiters:
            if self._end(waiters[-1], come=True):
                return True
        return False

    def end_one(self) -> None:
        """Somebody needs the place: whoever has rested longest ends."""
        for waiter in list(self._resting):
            if self._end(waiter, come=False):
                return

    def end_all(self) -> None:
        """There is a reason not to wait any longer."""
        for waiter in list(self._resting):
            self._end(waiter, come=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, waiter: asyncio.Future[bool], *, come: bool) -> bool:
        """Forget the waiter and wake who waits; False when that one was cancelled and only has not come to it yet."""
        _, lane = self._resting.pop(waiter)
        waiters = self._lanes[lane]
        if waiters[-1] is waiter:
            waiters.pop()
        else:
            waiters.remove(waiter)
        if not waiters:
            del self._lanes[lane]
        if waiter.done():
            return False
        waiter.set_result(come)
        return True

    def _time_passed(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._resting:
            waiter, (over, _) = next(iter(self._resting.items()))
            if over > now + _EARLY_SECONDS:
                self._timer = self._loop.call_at(over, self._time_passed)
                return
            self._end(waiter, come=False)
