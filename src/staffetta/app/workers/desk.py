"""What the main process does for the mail of one worker: make it durable, tell the log, give it to delivery.

Arrivals of one read of the wire become operations of one group commit; nothing here takes a task per message. All that
became durable together is acknowledged in one frame, which leaves before delivery hears of any of it: at the other end
clients wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec

from staffetta.app.workers.frames import Append, Arrival, Chunk, Discard, LogLines, NotStored, Stored
from staffetta.app.workers.letters import journal_entry, new_message
from staffetta.delivery.dispatch import Dispatcher
from staffetta.intake.handover import CONTENT_AT_HAND_OCTETS
from staffetta.observe.log import EventLog
from staffetta.spool.contract import Claim, Draft, NewMessage, SpoolUnavailable
from staffetta.spool.sqlite import SqliteSpool


class Answers(Protocol):
    """Where answers go."""

    def send(self, frame: msgspec.Struct) -> None:
        """Send a frame; dropped when nobody is there any more."""

    def flush(self) -> None:
        """Send now what would be sent at the end of this turn."""


class Counter(msgspec.Struct, frozen=True):
    """What stands behind every desk."""

    spool: SqliteSpool
    dispatcher: Dispatcher
    log: EventLog


class MailDesk:
    """The mail of one worker. `senders` are its clients, as it said last."""

    def __init__(self, counter: Counter, wire: Answers) -> None:
        self._counter = counter
        self._wire = wire
        self._drafts: dict[int, Draft] = {}
        self._durable: list[tuple[Arrival, NewMessage]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.senders = 0
        self._loop = asyncio.get_running_loop()

    def arrival(self, arrival: Arrival) -> None:
        """A message: claimed in the write that takes it, where delivery has room."""
        counter = self._counter
        self.senders = arrival.senders
        draft = self._drafts.pop(arrival.draft, None) if arrival.draft else Draft([])
        if draft is None:
            self._wire.send(NotStored(arrival.number, "its content is not here"))
            return
        has_room = counter.dispatcher.has_room
        for target in arrival.targets:
            if not has_room(target.destination):
                claim = False
                break
        else:
            claim = True
        new = new_message(arrival, draft, claim=claim)
        try:
            counter.spool.take(new, partial(self._taken, arrival, new))
        except Exception as error:
            self._not_taken(arrival, draft, error)

    def _taken(self, arrival: Arrival, new: NewMessage, error: Exception | None) -> None:
        if error is not None:
            self._not_taken(arrival, new.draft, error)
            return
        if not self._durable:
            self._counter.spool.after_batch(self._acknowledge)
        self._durable.append((arrival, new))

    def _acknowledge(self) -> None:
        durable, self._durable = self._durable, []
        first, *others = [arrival.number for arrival, _ in durable]
        self._wire.send(Stored(first, tuple(others)))
        self._wire.flush()
        for arrival, new in durable:
            try:
                self._pass_on(arrival, new)
            except Exception as error:  # a bug in what one message does must not leave the others lying
                text = f"{arrival.heading.id} is durable and could not be passed on"
                self._loop.call_exception_handler({"message": text, "exception": error})

    def _pass_on(self, arrival: Arrival, new: NewMessage) -> None:
        counter = self._counter
        if arrival.log is not None:
            counter.log.pass_on(arrival.log or arrival.lines + b"\n", 1)
        if not new.claim:
            counter.dispatcher.wake()
            return
        at_hand = not arrival.draft and not arrival.rest and len(arrival.head) <= CONTENT_AT_HAND_OCTETS
        counter.dispatcher.offer(Claim(new.message, new.recipients, arrival.head if at_hand else None))

    def _not_taken(self, arrival: Arrival, draft: Draft, error: BaseException) -> None:
        self._refuse(arrival.number, error)
        if self._closed:
            self._do(self._drop(draft))
        elif arrival.draft:
            self._drafts[arrival.draft] = draft  # the worker will say that nobody wants it

    def chunk(self, chunk: Chunk) -> None:
        """Content of a large message."""
        self._do(self._write(chunk))

    def discard(self, frame: Discard) -> None:
        """Nobody wants it."""
        draft = self._drafts.pop(frame.draft, None)
        if draft is not None:
            self._do(self._drop(draft))

    def append(self, frame: Append) -> None:
        """Events for the journal."""
        self._do(self._append(frame))

    def lines(self, frame: LogLines) -> None:
        """Lines for the log."""
        self._counter.log.pass_on(frame.lines, frame.count, frame.dropped)

    async def close(self) -> None:
        """The worker is gone: what it left half done is thrown away; what arrived whole is not."""
        self._closed = True
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        drafts, self._drafts = list(self._drafts.values()), {}
        for draft in drafts:
            await self._drop(draft)

    async def _write(self, chunk: Chunk) -> None:
        draft = self._drafts.setdefault(chunk.draft, Draft([]))
        try:
            await self._counter.spool.write(draft, chunk.data)
        except Exception as error:
            self._refuse(chunk.number, error)
        else:
            self._wire.send(Stored(chunk.number))

    async def _append(self, frame: Append) -> None:
        try:
            await self._counter.spool.append_journal([journal_entry(one) for one in frame.entries])
        except Exception as error:
            self._refuse(frame.number, error)
        else:
            self._wire.send(Stored(frame.number))

    async def _drop(self, draft: Draft) -> None:
        with suppress(SpoolUnavailable):  # swept at the next start
            await self._counter.spool.discard(draft)

    def _refuse(self, number: int, error: BaseException) -> None:
        bug = not isinstance(error, SpoolUnavailable)
        full = isinstance(error, SpoolUnavailable) and error.full
        self._wire.send(NotStored(number, str(error) if not bug else repr(error), full, bug))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
