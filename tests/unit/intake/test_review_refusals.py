"""A flood of refusals at the door stays a trickle on the disk."""

from __future__ import annotations

import asyncio

from staffetta.intake.refusals import ENTRIES_AT_ONCE, ENTRIES_PER_SECOND, RefusalJournal
from staffetta.spool.contract import JournalEntry
from staffetta.spool.memory import MemorySpool
from staffetta.testing.clock import START, VirtualClock, run


def test_a_flood_of_an_hour_leaves_what_an_hour_may_leave() -> None:
    clock = VirtualClock()

    async def main() -> None:
        spool = MemorySpool(clock.wall)
        journal = RefusalJournal(spool)
        for _ in range(3600):
            for _ in range(100):
                journal.add(JournalEntry(b"{}", START))
            await asyncio.sleep(1)
        await journal.close()
        expected = ENTRIES_AT_ONCE + 3600 * ENTRIES_PER_SECOND
        assert abs(len(spool.journal) - expected) <= ENTRIES_PER_SECOND + 1
        assert journal.left_out == 360_000 - len(spool.journal)

    run(main, clock)


def test_what_comes_now_and_then_is_kept_whole() -> None:
    clock = VirtualClock()

    async def main() -> None:
        spool = MemorySpool(clock.wall)
        journal = RefusalJournal(spool)
        for _ in range(20):
            for _ in range(ENTRIES_AT_ONCE):
                journal.add(JournalEntry(b"{}", START))
            await asyncio.sleep(60)
        await journal.close()
        assert (len(spool.journal), journal.left_out) == (20 * ENTRIES_AT_ONCE, 0)

    run(main, clock)
