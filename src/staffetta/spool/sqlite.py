"""The SQLite engine of the spool: one file, one writer, one reader, and a lease on what this process works on.

A claim is the `lease` column set to this process's epoch, a number that the store raises whenever a relay opens it.
What an older epoch claimed is free again: found by one walk over the queue, and not even that after a clean close.
The contract is spool/contract; how writes share a flush is sqlite_writer, what is asked sqlite_queries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

import apsw
import msgspec

from staffetta.spool import sqlite_queries as queries
from staffetta.spool.contract import (
    CHUNK_OCTETS,
    Claim,
    DestinationState,
    Draft,
    JournalEntry,
    Ledger,
    NewMessage,
    SpoolUnavailable,
    Step,
)
from staffetta.spool.sqlite_batch import LARGE_OCTETS
from staffetta.spool.sqlite_open import Opened, SqliteSettings, connect, open_store, room_of
from staffetta.spool.sqlite_operations import (
    CLAIMED_ROWS,
    EXPIRE_JOURNAL,
    AppendJournal,
    Claimed,
    ClaimRows,
    Commit,
    Record,
    ReleaseRows,
    Rows,
    Statements,
    Take,
    Told,
    WriteChunks,
    quarantine,
    remove_loose,
)
from staffetta.spool.sqlite_schema import CHUNK_BITS
from staffetta.spool.sqlite_writer import Awaited, GroupWriter, WriterSettings, refusal

MOVED_CHUNKS: Final = 16
"""Chunks that one operation writes or removes."""

JOURNAL_ROWS: Final = 200
"""Journal rows that expire in one transaction."""

Value = TypeVar("Value")


class SqliteSpool:
    """See spool.contract.Spool. Made by `open`, on the event loop it lives on."""

    def __init__(
        self,
        path: Path,
        settings: SqliteSettings,
        opened: Opened,
        executor: ThreadPoolExecutor,
    ) -> None:
        self._settings = settings
        self._reader = opened.reader
        self._executor = executor
        self._epoch = opened.epoch
        self._loop = asyncio.get_running_loop()
        epoch = opened.epoch if settings.delivers else 0
        self._room = room_of(path, settings)
        reconnect = partial(connect, path, settings)
        self._writer = GroupWriter(
            opened.writer, WriterSettings(reconnect, self._room, epoch, settings.hook, settings.patience_milliseconds)
        )
        self._room.watch(self._writer.spare_octets)
        self._claimed = Claimed()
        self._may_claim = self._claimed if settings.delivers else None
        self._overdue = queries.Sweep()
        self._undelayed = queries.Sweep()
        self._closed = False
        self._recovering: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, clock: Callable[[], float], settings: SqliteSettings | None = None) -> SqliteSpool:
        """Open or make the store. `clock` gives seconds since the epoch.

        Raises StoreError (StoreTooNew for a store of a newer program).
        """
        settings = settings or SqliteSettings()
        executor = ThreadPoolExecutor(1, "spool-read")
        loop = asyncio.get_running_loop()
        try:
            opened = await loop.run_in_executor(executor, open_store, path, settings, clock())
        except BaseException:
            executor.shutdown(wait=False)
            raise
        spool = cls(path, settings, opened, executor)
        if settings.delivers:
            if not opened.clean:
                spool._recovering = loop.create_task(spool._recover(), name="spool recovery")
            spool._sweep_soon()
        return spool

    @property
    def epoch(self) -> int:
        """The lease that this process's claims carry."""
        return self._epoch

    def draft(self) -> Draft:
        """See Spool."""
        return Draft([])

    async def write(self, draft: Draft, data: bytes) -> None:
        """See Spool."""
        if draft.pending_octets + len(data) >= CHUNK_OCTETS:
            self._check_room(draft.pending_octets + len(data))
        content = draft.take_full(data)
        chunks = [content[start : start + CHUNK_OCTETS] for start in range(0, len(content), CHUNK_OCTETS)]
        for start in range(0, len(chunks), MOVED_CHUNKS):
            await self._submit(WriteChunks(self._loop.create_future(), draft, chunks[start : start + MOVED_CHUNKS]))

    async def discard(self, draft: Draft) -> None:
        """See Spool."""
        draft.pending.clear()
        draft.pending_octets = 0
        if draft.number is not None:
            mark = ("UPDATE loose SET owner=0 WHERE seq=?", [(draft.number,)])
            draft.number = None
            await self._submit(Statements(self._loop.create_future(), mark))
            self._sweep_soon()

    async def commit(self, new: NewMessage) -> None:
        """See Spool."""
        await self.commit_many((new,))

    async def commit_many(self, new: Sequence[NewMessage]) -> None:
        """See Spool. Raises ValueError when a message's size is not that of its content: a bug of the caller."""
        await self.begin_commit(new)

    def begin_commit(self, new: Sequence[NewMessage]) -> asyncio.Future[object]:
        """`commit_many` for who needs no task: the future ends as it would. Raises SpoolUnavailable, ValueError."""
        self._check_room(sum([_unstored_octets(one) for one in new]))
        operation = Commit(self._loop.create_future(), new, self._may_claim, self._release)
        self._writer.submit(operation)
        return operation.future

    def take(self, new: NewMessage, told: Told) -> None:
        """`commit` for who waits for no future. Raises SpoolUnavailable, ValueError."""
        self._check_room(_unstored_octets(new))
        self._writer.submit(Take(new, self._may_claim, told))

    def after_batch(self, call: Callable[[], None]) -> None:
        """When `told` heard that a message is durable: call this when all those that became durable with it are told,
        before anything else runs."""
        self._writer.after_batch(call)

    def expect_from(self, senders: Callable[[], int]) -> None:
        """How many are connected that could send a message: when all of them wait, a batch waits for nobody else."""
        self._writer.gathering.senders = senders

    async def record(
        self,
        message_id: str,
        steps: Sequence[Step],
        journal: Sequence[JournalEntry],
        notices: Sequence[NewMessage] = (),
        destination: DestinationState | None = None,
    ) -> None:
        """See Spool. Raises ClaimLost for a recipient that this process has not claimed."""
        future = self._loop.create_future()
        operation = Record(future, self._claimed, message_id, steps, journal, notices=notices, destination=destination)
        self._writer.submit(operation)
        await future
        if operation.size > LARGE_OCTETS:
            self._sweep_soon()

    async def append_journal(self, entries: Sequence[JournalEntry]) -> None:
        """See Spool."""
        await self._submit(AppendJournal(self._loop.create_future(), entries))

    async def expire_journal(self, before: float, limit: int) -> int:
        """See Spool."""
        gone = 0
        while gone < limit:
            rows = min(limit - gone, JOURNAL_ROWS)
            statement = (EXPIRE_JOURNAL, [(rows, before)])
            count = cast(int, await self._submit(Statements(self._loop.create_future(), statement)))
            gone += count
            if count < rows:
                break
        return gone

    async def due(self, now: float, destinations_busy: frozenset[str], limit: int, per_destination: int) -> list[Claim]:
        """See Spool. Waits for the recovery after a crash."""
        await self._recovered()
        busy = _json_list(destinations_busy)
        return await self._claim(await self._read(queries.due, now, busy, limit, per_destination))

    async def next_due(self, now: float, destinations_busy: frozenset[str]) -> float | None:
        """See Spool."""
        await self._recovered()
        return await self._read(queries.next_due, _json_list(destinations_busy))

    async def overdue(self, received_before: float, null_path_received_before: float, limit: int) -> list[Claim]:
        """See Spool."""
        await self._recovered()
        claims = await self._claim(await self._read(queries.bounce_asked, limit))
        limit -= sum(len(claim.recipients) for claim in claims)
        if limit > 0:
            bounds = (null_path_received_before, received_before)
            claims += await self._claim(await self._read(partial(self._overdue.old, undelayed=False), bounds, limit))
        return claims

    async def undelayed(self, received_before: float, limit: int) -> list[Claim]:
        """See Spool."""
        await self._recovered()
        bounds = (received_before, received_before)
        return await self._claim(await self._read(partial(self._undelayed.old, undelayed=True), bounds, limit))

    async def content(self, message_id: str) -> AsyncIterator[bytes]:
        """See Spool. Raises SpoolUnavailable when the content is not whole: a part of a message is never passed on."""
        number = await self._read(queries.number_of, message_id)
        if number is None:
            raise SpoolUnavailable(f"{message_id} is not in the spool")
        seq, size = number
        left = size
        key = (seq << CHUNK_BITS) - 1
        while (found := await self._read(queries.chunk_after, seq, key)) is not None:
            key, data = found
            left -= len(data)
            if left < 0:
                break
            if data:
                yield data
        if left:
            raise SpoolUnavailable(f"the stored content of {message_id} is damaged")

    async def destination_up(self, destination: str) -> None:
        """See Spool."""
        statement = ("DELETE FROM destinations WHERE destination=?", [(destination,)])
        await self._submit(Statements(self._loop.create_future(), statement))

    def changes(self) -> int:
        """See Spool."""
        return self._writer.changes()

    async def probe(self) -> None:
        """Could a message be stored now? Raises SpoolUnavailable when not: no room, or no transaction to be had."""
        self._check_room(0)
        await self._submit(Statements(self._loop.create_future()))

    async def ledger(self) -> Ledger:
        """See Spool."""
        return await self._read(queries.ledger)

    async def close(self) -> None:
        """See Spool."""
        for task in (self._recovering, self._sweeping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._settings.delivers:
            await self._let_go()
        await self._writer.close()
        self._closed = True
        await self._loop.run_in_executor(self._executor, self._reader.close)
        self._executor.shutdown()

    async def _let_go(self) -> None:
        # What is still claimed would be found by the next start's walk; after this the walk is not needed. A message
        # whose commit is under way is not seen by the reader yet, and would be nobody's after a clean end.
        await self._writer.last_messages()
        with suppress(SpoolUnavailable):
            position, clean = 0, False
            while not clean:
                rows, position = await self._read(queries.left_behind, position, 0)
                await self._release_all(rows)
                clean = position == 0
            mark = ("UPDATE store SET closed_epoch=epoch", [()])
            await self._submit(Statements(self._loop.create_future(), mark))

    async def _recovered(self) -> None:
        if not self._settings.delivers:
            raise ValueError("this process opened the spool to add messages, not to deliver them")
        task = self._recovering
        if task is None:
            return
        try:
            await asyncio.shield(task)
        except SpoolUnavailable:
            if self._recovering is task:
                self._recovering = self._loop.create_task(self._recover(), name="spool recovery")
            raise
        self._recovering = None

    async def _recover(self) -> None:
        position = 0
        while True:
            rows, position = await self._read(queries.left_behind, position, self._epoch)
            await self._release_all(rows)
            if position == 0:
                return

    async def _release_all(self, rows: Sequence[tuple[int, int, int]]) -> None:
        for start in range(0, len(rows), CLAIMED_ROWS):
            await self._submit(ReleaseRows(self._loop.create_future(), rows[start : start + CLAIMED_ROWS]))

    def _release(self, rows: Rows) -> None:
        future = self._loop.create_future()
        future.add_done_callback(_look_at)
        self._writer.submit(ReleaseRows(future, [(seq, index, self._epoch) for seq, index in rows]))

    async def _claim(self, found: list[queries.Found]) -> list[Claim]:
        damaged = [row for one in found if one.claim is None for row in one.rows]
        if damaged:
            await self._submit(quarantine(self._loop.create_future(), damaged))
        rows = [row for one in found if one.claim is not None for row in one.rows]
        parts = [
            ClaimRows(self._loop.create_future(), rows[start : start + CLAIMED_ROWS], self._epoch, self._release)
            for start in range(0, len(rows), CLAIMED_ROWS)
        ]
        for part in parts:
            self._writer.submit(part)
        ours: set[object] = set()
        try:
            for outcome in await asyncio.gather(*[part.future for part in parts]):
                ours |= cast(set[object], outcome)
        except BaseException:
            for part in parts:
                part.give_back()
            raise
        claims: list[Claim] = []
        for one in found:
            claim = one.claim
            if claim is None:
                continue
            got = [place for place, row in enumerate(one.rows) if row in ours]
            if len(got) < len(one.rows):
                claim = Claim(claim.message, tuple(claim.recipients[place] for place in got), claim.content)
            if got:
                self._claimed.add(claim.message.id, one.rows[0][0], one.size, len(got))
                claims.append(claim)
        return claims

    def _sweep_soon(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = self._loop.create_task(self._sweep(), name="spool sweep")

    async def _sweep(self) -> None:
        with suppress(SpoolUnavailable):
            while steps := await self._read(queries.loose_content, self._epoch, MOVED_CHUNKS):
                for seq, first, last in steps:
                    await self._submit(remove_loose(self._loop.create_future(), seq, first, last))

    async def _submit(self, operation: Awaited) -> object:
        self._writer.submit(operation)
        return await operation.future

    async def _read(self, question: Callable[..., Value], *arguments: object) -> Value:
        if self._closed:
            raise SpoolUnavailable("the store is closed")
        try:
            return await self._loop.run_in_executor(
                self._executor, lambda: queries.in_one_view(self._reader, question, arguments)
            )
        except apsw.Error as error:
            raise refusal(error) from error

    def _check_room(self, octets: int) -> None:
        if not self._room.admit(octets, self._loop.time()):
            raise SpoolUnavailable("too little space left on the disk of the store", full=True)


def _unstored_octets(new: NewMessage) -> int:
    """How much content this writes. Raises ValueError."""
    octets = len(new.head) + new.draft.pending_octets
    if new.message.size != octets + new.draft.stored_octets:
        raise ValueError(f"{new.message.id}: size {new.message.size} is not that of its content")
    return octets


def _json_list(names: frozenset[str]) -> str:
    return msgspec.json.encode(sorted(names)).decode()


def _look_at(future: asyncio.Future[object]) -> None:
    # Nobody waits for it; what could not be released is found at the next start.
    if not future.cancelled():
        future.exception()
