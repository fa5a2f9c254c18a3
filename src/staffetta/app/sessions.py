"""The sessions of one process: who looks at their deadlines, and how they come to their end."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from staffetta.intake.door import House

CLOCK_SECONDS: Final = 1.0
"""How often the deadlines of all sessions are looked at."""

DRAIN_SECONDS: Final = 25.0
"""How long sessions may take to reach a command boundary when the relay stops."""

_TASK_SECONDS: Final = 5.0
"""How long what sessions left to be done may take after that."""


def look_at_clocks(house: House) -> None:
    """Cut off who is too slow."""
    now = house.monotonic()
    for session in list(house.sessions):
        try:
            session.look_at_clock(now)
        except Exception as error:  # one session's bug must not take the deadlines of all others away
            house.report(error)


async def watch_clock(house: House) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(CLOCK_SECONDS)
        look_at_clocks(house)


def ask_to_leave(house: House) -> None:
    """421 at the next command boundary, to everybody (RFC 5321 section 3.8)."""
    for session in list(house.sessions):
        session.stop()


async def sessions_end(house: House) -> None:
    """Wait until all have left; who does not is cut off."""
    sessions = house.sessions
    end = time.monotonic() + DRAIN_SECONDS
    while sessions and time.monotonic() < end:  # noqa: ASYNC110 - a set has no event
        await asyncio.sleep(0.05)
    for session in list(sessions):
        session.stream.abort()
    while sessions and time.monotonic() < end + 2:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def finish(house: House) -> None:
    """Nobody is left: write what they gave to be written behind the dialogue."""
    if house.forecaster is not None:
        await house.forecaster.close()
    await house.refusals.close()
    if house.tasks:
        await asyncio.wait(house.tasks, timeout=_TASK_SECONDS)
