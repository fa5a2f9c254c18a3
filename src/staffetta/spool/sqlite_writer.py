"""Group commit: what has gathered since the last commit becomes one transaction and shares one flush to disk.

Measured under uvloop: statements run fastest on the event loop's own thread (about 30 microseconds a message), because
a thread that runs them fights the loop for the interpreter lock. Only what waits for the disk or for another process
runs in the one worker thread: COMMIT, and BEGIN when the file is locked. The two threads use the connection strictly in
turn: `_busy` is true from the moment the worker has it until the loop is told that it is back.

A batch that fails goes back as a whole, and then each of its operations is tried alone, so that one that cannot be
written does not take its neighbours with it. A failed COMMIT is never a success: after an IO error the connection
is thrown away (what the kernel still holds of a failed flush is not to be trusted) and a new one is opened.
This module refuses to know tables, but for the one row that names the epoch and the next number.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import ClassVar, Final, cast

import apsw
import msgspec

from staffetta.spool.contract import ClaimLost, SpoolUnavailable
from staffetta.spool.sqlite_batch import Batch, Hook
from staffetta.spool.sqlite_gather import Gathering
from staffetta.spool.sqlite_room import Room

BATCH_OPERATIONS: Final = 64
"""Most operations in one transaction: bounds how long the event loop is kept."""

BATCH_OCTETS: Final = 4 * 1024 * 1024
"""Most content in one transaction, for the same reason."""

GATHER_SECONDS: Final = 0.003
"""Under load the next batch begins this much after the last one ended, unless it is complete before (sqlite_gather)."""

LOCK_PATIENCE_MILLISECONDS: Final = 10_000
"""How long the worker waits for another process's transaction before what has gathered is refused."""


class Operation:
    """Something to be written. It hears `succeeded` when it is durable, or `failed` with the reason why it is not."""

    __slots__ = ("octets", "tried_with_room")

    sender_waits: ClassVar[bool] = False
    """Somebody sends no more until it is durable."""

    def __init__(self, octets: int = 0) -> None:
        self.octets = octets
        self.tried_with_room = False

    def gather(self, batch: Batch, connection: apsw.Connection) -> None:
        """Add rows to the batch; may read. Called again when the operation is tried again."""

    def run(self, connection: apsw.Connection) -> None:
        """Statements of its own, after the batch's."""

    def succeeded(self) -> None:
        """It is durable. Must not raise: others of the same batch have yet to hear it."""

    def failed(self, error: Exception) -> None:
        """It was not written and will not be."""


class Awaited(Operation):
    """An operation that somebody waits for: `future` ends with `result`, or with the reason."""

    __slots__ = ("future", "result")

    def __init__(self, future: asyncio.Future[object], octets: int = 0) -> None:
        super().__init__(octets)
        self.future = future
        self.result: object = None

    def succeeded(self) -> None:
        self.committed()
        if self.future.done():
            self.abandoned()
        else:
            self.future.set_result(self.result)

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def committed(self) -> None:
        """It is durable."""

    def abandoned(self) -> None:
        """It is durable but nobody waits for it any more."""


class WriterSettings(msgspec.Struct, frozen=True):
    """`connect` opens a connection for writing (called in the worker after an IO error). `epoch` 0: the store's own."""

    connect: Callable[[], apsw.Connection]
    room: Room
    epoch: int = 0
    hook: Hook | None = None
    patience_milliseconds: int = LOCK_PATIENCE_MILLISECONDS


class GroupWriter:
    """The one place that writes. Lives on the event loop that made it."""

    def __init__(self, connection: apsw.Connection, settings: WriterSettings) -> None:
        self._connection: apsw.Connection | None = connection
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Operation] = deque()
        self._alone: deque[Operation] = deque()
        self._busy = False
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self.gathering = Gathering()
        self._leaving = False
        self._closed = False
        self._reconnected = 0
        self._changes = 0
        self._spare = 0
        self._after: list[Callable[[], None]] = []
        self._idle: asyncio.Future[None] | None = None
        self._jobs: SimpleQueue[tuple[str, list[Operation]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="spool-commit", daemon=True)
        self._thread.start()
        connection.set_busy_timeout(0)

    def submit(self, operation: Operation) -> None:
        """Queue an operation; it hears the rest."""
        if self._closed or (self._leaving and operation.sender_waits):
            operation.failed(SpoolUnavailable("the store is closed"))
            return
        self._waiting.append(operation)
        self.gathering.add(sender_waits=operation.sender_waits)
        if self._busy:
            return
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)
        elif self._timer is not None and self.gathering.complete:
            self._timer.cancel()
            self._timer = None
            self._loop.call_soon(self._flush)

    def after_batch(self, call: Callable[[], None]) -> None:
        """For operations that hear that they succeeded: call this when all others of their batch have heard it too,
        before anything else runs."""
        self._after.append(call)

    def changes(self) -> int:
        """Changes when another connection wrote. While a commit runs: what was known before it."""
        if not self._busy and self._connection is not None:
            with suppress(apsw.Error):
                self._changes = self._version(self._connection)
        return self._changes

    def spare_octets(self) -> int:
        """Free space inside the database file, or what was known of it while a commit runs."""
        if not self._busy and self._connection is not None:
            with suppress(apsw.Error):
                pages = cast(int, self._connection.execute("PRAGMA freelist_count").fetchall()[0][0])
                self._spare = pages * cast(int, self._connection.execute("PRAGMA page_size").fetchall()[0][0])
        return self._spare

    async def last_messages(self) -> None:
        """Take no new messages from now on; return when what was taken before is durable or refused."""
        self._leaving = True
        await self._until_idle()

    async def close(self) -> None:
        """Write what waits, then let go."""
        await self._until_idle()
        self._busy = self._closed = True
        self._jobs.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        if self._connection is not None:
            self._connection.close()

    async def _until_idle(self) -> None:
        while self._busy or self._scheduled or self._waiting or self._alone:
            self._idle = self._loop.create_future()
            await self._idle

    def _version(self, connection: apsw.Connection) -> int:
        # SQLite's number means something only on the connection that gave it.
        version = cast(int, connection.execute("PRAGMA data_version").fetchall()[0][0])
        return version + (self._reconnected << 32)

    def _take(self) -> list[Operation]:
        if self._alone:
            return [self._alone.popleft()]
        waiting = self._waiting
        taken: list[Operation] = []
        octets = 0
        while waiting and len(taken) < BATCH_OPERATIONS:
            octets += waiting[0].octets
            if octets > BATCH_OCTETS and taken:
                break
            operation = waiting.popleft()
            self.gathering.take(sender_waits=operation.sender_waits)
            taken.append(operation)
        return taken

    def _flush(self) -> None:
        self._scheduled = False
        self._timer = None
        if self._busy:
            return
        operations = self._take()
        if not operations:
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
            return
        if self._connection is None:
            self._hand_over("connect", operations)
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            self._hand_over("begin", operations)
        except apsw.Error as error:
            self._refuse(operations, error)
        else:
            self._execute(self._connection, operations)

    def _execute(self, connection: apsw.Connection, operations: list[Operation]) -> None:
        hook = self._settings.hook
        try:
            if hook is not None:
                hook("begun")
            self._changes = self._version(connection)
            batch = self._batch(connection)
            for operation in operations:
                operation.gather(batch, connection)
            batch.write(connection, hook)
            for operation in operations:
                operation.run(connection)
            if hook is not None:
                hook("written")
        except Exception as error:
            _roll_back(connection)
            self._split(operations, error)
        else:
            self._hand_over("commit", operations)

    def _batch(self, connection: apsw.Connection) -> Batch:
        rows = connection.execute("SELECT epoch, next_seq FROM store").fetchall()
        epoch, next_seq = cast(tuple[int, int], rows[0])
        if self._settings.epoch and epoch != self._settings.epoch:
            raise SpoolUnavailable("another relay process took the store over")
        return Batch(epoch, next_seq)

    def _split(self, operations: list[Operation], error: Exception) -> None:
        """A batch went back: try each operation alone, once more after room was made where space ran out."""
        if isinstance(error, apsw.FullError):
            again = [operation for operation in operations if not operation.tried_with_room]
            for operation in again:
                operation.tried_with_room = True
            if again:
                self._hand_over("room", again)
                return
        elif len(operations) > 1:
            self._alone.extend(operations)
            self._next()
            return
        self._refuse(operations, error)

    def _refuse(self, operations: list[Operation], error: Exception) -> None:
        for operation in operations:
            self._tell(partial(operation.failed, refusal(error)))
        self._next()

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as bug:  # must not stop the store, nor keep the others of its batch from hearing
            text = "what was to happen after a batch broke off"
            self._loop.call_exception_handler({"message": text, "exception": bug})

    def _next(self) -> None:
        # After the tasks that were just woken: what they submit joins the next batch.
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _hand_over(self, job: str, operations: list[Operation]) -> None:
        self._busy = True
        self._jobs.put((job, operations))

    def _handed_back(self, job: str, operations: list[Operation], error: Exception | None) -> None:
        self._busy = False
        if job == "connect":
            self._reconnected += 1
        if job != "commit":
            if error is not None or self._connection is None:
                self._refuse(operations, error or SpoolUnavailable("the store is closed"))
            elif job == "begin":
                self._execute(self._connection, operations)
            else:
                # Ends of attempts first: they need the least space and give the most back.
                self._alone.extendleft(sorted(operations, key=_octets, reverse=True))
                self._next()
            return
        if error is not None:
            # A lack of space is worth another try; a disk that fails has had its chance.
            (self._split if isinstance(error, apsw.FullError) else self._refuse)(operations, error)
            return
        for operation in operations:
            self._tell(operation.succeeded)
        if self._after:
            after, self._after = self._after, []
            for call in after:
                self._tell(call)
        if len(operations) == 1 or self.gathering.complete or self._idle is not None:
            self._next()  # who writes alone waits for nothing
        elif not self._scheduled:
            self._scheduled = True
            self._timer = self._loop.call_later(GATHER_SECONDS, self._flush)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, operations = item
            error: Exception | None = None
            try:
                if job == "commit":
                    self._commit()
                elif job == "begin":
                    self._begin_with_patience()
                elif job == "room":
                    self._make_room()
                else:
                    self._connection = self._settings.connect()
                    self._connection.set_busy_timeout(0)
            except Exception as problem:
                error = problem
            try:
                self._loop.call_soon_threadsafe(self._handed_back, job, operations, error)
            except RuntimeError:
                return  # the loop was closed without closing the spool; nobody is left to be told

    def _begin_with_patience(self) -> None:
        connection = cast(apsw.Connection, self._connection)
        connection.set_busy_timeout(self._settings.patience_milliseconds)
        try:
            connection.execute("BEGIN IMMEDIATE")
        finally:
            connection.set_busy_timeout(0)

    def _make_room(self) -> None:
        # With the log's content moved into the database, the log starts again at its front and needs no new space.
        self._settings.room.jettison()
        self._settings.room.forget()
        with suppress(apsw.Error):
            cast(apsw.Connection, self._connection).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _commit(self) -> None:
        connection = cast(apsw.Connection, self._connection)
        hook = self._settings.hook
        try:
            connection.execute("COMMIT")
        except apsw.FullError:
            _roll_back(connection)
            raise
        except apsw.Error:
            self._connection = None
            _roll_back(connection)
            connection.close()
            raise
        if hook is not None:
            hook("committed")


def refusal(error: Exception) -> Exception:
    """What a caller is told instead of an engine's error. Our own bugs stay what they are."""
    if isinstance(error, apsw.FullError):
        return SpoolUnavailable("no space left for the store", full=True)
    if isinstance(error, apsw.Error | OSError):
        return SpoolUnavailable(f"the store could not be written: {type(error).__name__}: {error}")
    if isinstance(error, SpoolUnavailable | ClaimLost):
        # A fresh one for each caller: an exception that several tasks raise mixes their tracebacks.
        return SpoolUnavailable(str(error), full=error.full) if isinstance(error, SpoolUnavailable) else error
    return error


def _roll_back(connection: apsw.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except apsw.Error:
        return  # SQLite rolled back by itself, or the file is gone; the next BEGIN tells


def _octets(operation: Operation) -> int:
    return operation.octets
