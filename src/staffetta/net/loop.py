"""Running the relay: uvloop where it exists, signals as wishes, and a loop that complains at most once a second."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final, TextIO

if sys.platform != "win32":
    import uvloop

COMPLAINT_SECONDS: Final = 1.0
"""Between two complaints about exceptions, at least; what comes between is counted."""


class Signals:
    """What the operator asks by signal. TERM and INT ask to stop; again, to stop without waiting; HUP to reload."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.stop_now = asyncio.Event()
        self.on_reload: Callable[[], None] | None = None
        self.reason = ""

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to the signals of this process (main thread only)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask_to_stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def uninstall(self, loop: asyncio.AbstractEventLoop) -> None:
        """Back to the interpreter's own handlers."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def ask_to_stop(self, reason: str) -> None:
        """Stop in order; the second time at once."""
        if self.stop.is_set():
            self.stop_now.set()
        self.reason = self.reason or reason
        self.stop.set()

    def _reload(self) -> None:
        if self.on_reload is not None:
            self.on_reload()


class Complaints:
    """The loop's exception handler: counts everything, writes one complaint a second, never fails itself."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._held_back = 0
        self._next_at = 0.0
        self._out = out
        self._clock = clock

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.count += 1
        error = context.get("exception")
        if isinstance(error, ConnectionError | TimeoutError):
            return  # the world's failure, told to its owner elsewhere
        now = self._clock()
        if now < self._next_at:
            self._held_back += 1
            return
        self._next_at = now + COMPLAINT_SECONDS
        text = str(context.get("message", "an exception"))
        if self._held_back:
            text += f" (and {self._held_back} more since the last line)"
            self._held_back = 0
        if isinstance(error, OSError):
            text += f": {error}"
        elif isinstance(error, BaseException):
            text += "\n" + "".join(traceback.format_exception(error)).rstrip()
        try:
            print(text, file=self._out or sys.stderr, flush=True)
        except (OSError, ValueError):
            return  # nobody listens on stderr; the count stays


def run(main: Callable[[Signals], Coroutine[Any, Any, int]], *, complaints: Complaints | None = None) -> int:
    """Run `main` until it returns its exit status."""

    async def prepared() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(complaints or Complaints())
        signals = Signals()
        signals.install(loop)
        try:
            return await main(signals)
        finally:
            signals.uninstall(loop)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(prepared())


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loop, or the standard one where uvloop does not exist."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    return uvloop.new_event_loop
