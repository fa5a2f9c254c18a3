"""Time that passes only when everybody waits: hours of retries and deadlines in milliseconds, the same every run.

`VirtualClock` is the clock that objects are given (`wall` for moments, `monotonic` for durations). `run` drives a
coroutine on a loop whose timers use the same clock: when nothing is ready, time jumps to the next timer. Work in
threads (`loop.run_in_executor`) takes no virtual time: while any is under way, time stands still.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple

START: Final = 1_790_000_000.0
"""A moment in 2026 at which tests begin, seconds since the epoch."""

STUCK_SECONDS: Final = 10.0
"""Real seconds after which a loop with no timer and no event is declared stuck."""

_BEGINNING: Final = 1000.0
_RESOLUTION: Final = 1e-6
_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class Stuck(RuntimeError):
    """Everybody waits for something that will not happen: no timer runs, no thread works, no socket speaks."""


class VirtualClock:
    """A wall clock and a monotonic one. Both advance together; only the wall clock can be set."""

    __slots__ = ("_offset", "_passed")

    def __init__(self, start: float = START) -> None:
        self._offset = start
        self._passed = 0.0

    def wall(self) -> float:
        """The moment, seconds since the epoch: what `time.time` says in earnest."""
        return self._offset + self._passed

    def monotonic(self) -> float:
        """Seconds since some beginning, never backwards: what `time.monotonic` says in earnest."""
        return _BEGINNING + self._passed

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; at least the smallest step that a float can tell."""
        if seconds < 0:
            raise ValueError("time does not run backwards; `set_wall` sets the wall clock")
        if seconds:
            self._passed = max(self._passed + seconds, math.nextafter(self.monotonic(), math.inf) - _BEGINNING)

    def set_wall(self, moment: float) -> None:
        """Set the wall clock, as an operator or a time service does; timers and durations do not notice."""
        self._offset = moment - self._passed


class _Selector(selectors.DefaultSelector):
    """Looks whether anything is ready; where the real one would wait, it lets virtual time pass instead."""

    def __init__(self, clock: VirtualClock, grace_seconds: float) -> None:
        super().__init__()
        self._clock = clock
        self._grace_seconds = grace_seconds
        self.working = 0
        """Jobs under way in threads."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the real one, but for what `timeout` costs."""
        if self.working:
            # A thread wakes the loop when it is done; until then nothing may seem late.
            return super().select(0 if timeout == 0 else STUCK_SECONDS)
        ready = super().select(0 if timeout is not None and timeout <= 0 else self._grace_seconds)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None:
            self._clock.advance(timeout)
            return []
        ready = super().select(STUCK_SECONDS)
        if not ready:
            raise Stuck("no timer, no thread and no socket: nothing will ever happen")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock.

    `grace_seconds` is how long (really) a socket may take before time jumps: 0 for memory wires, a few milliseconds
    where loopback sockets are used.
    """

    def __init__(self, clock: VirtualClock, grace_seconds: float = 0.0) -> None:
        self._virtual_selector = _Selector(clock, grace_seconds)
        super().__init__(self._virtual_selector)
        # The loop adds this to the time before it compares; where a float cannot tell a nanosecond (after some weeks of
        # virtual time) a timer that is due would otherwise never fire.
        self._clock_resolution = _RESOLUTION
        self._clock = clock

    def time(self) -> float:
        """The virtual clock's."""
        return self._clock.monotonic()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Arguments], _Result], *args: *_Arguments
    ) -> asyncio.Future[_Result]:
        """As usual; virtual time stands still until the job is done."""
        future = super().run_in_executor(executor, func, *args)
        self._virtual_selector.working += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        self._virtual_selector.working -= 1


def run(
    main: Callable[[], Coroutine[Any, Any, _Result]], clock: VirtualClock | None = None, *, grace_seconds: float = 0.0
) -> _Result:
    """The result of the coroutine that `main` makes, run to its end on a virtual loop. Raises Stuck."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock or VirtualClock(), grace_seconds)) as runner:
        return runner.run(main())


__all__ = ["START", "Stuck", "VirtualClock", "VirtualLoop", "run"]
