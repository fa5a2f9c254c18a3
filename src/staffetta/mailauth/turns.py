"""Work that takes milliseconds, one piece in each turn of the loop, however many messages have some.

Yielding between pieces is enough for one message. When two hundred do it at once, each turn of the loop holds two
hundred pieces, and whoever only wants to say EHLO waits for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

Pause = Callable[[], Awaitable[None]]
"""To be awaited before a piece of work: returns when it is this piece's turn."""


def next_turn() -> Awaitable[None]:
    """Let everybody else go first, once: for who is alone."""
    return asyncio.sleep(0)


class Turns:
    """Gives turns in the order in which they were asked for. For one event loop."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def next(self) -> None:
        """Return when no other piece was begun in this turn of the loop."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._pass_on)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # or whoever waited was cancelled
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._pass_on)
                return
        self._taken = False
