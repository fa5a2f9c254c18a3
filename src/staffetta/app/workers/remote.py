"""The main process as sessions of a worker see it: a spool for drafts, messages and journal entries, and a log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

import msgspec

from staffetta.app.workers.frames import Append, Arrival, Chunk, Discard, LogLines, NotStored, Stored
from staffetta.app.workers.letters import entry_of, heading_of, target_of
from staffetta.app.workers.wire import Wire, WireBroken
from staffetta.intake.door import House
from staffetta.intake.handover import Arrived, UnderWay
from staffetta.observe.events import Accept, Event, encode
from staffetta.observe.log import GATHER_SECONDS, LineMaker
from staffetta.observe.metrics import Counters
from staffetta.observe.render import is_plain
from staffetta.spool.contract import CHUNK_OCTETS, Draft, JournalEntry, SpoolUnavailable

LINES_AT_ONCE: Final = 64
"""Log lines that travel together."""

MOST_UNSENT_OCTETS: Final = 8 * 1024 * 1024
"""When so much waits for the main process, log lines are left out and counted: nobody waits for a log."""


class RemoteLog:
    """The log of a worker: lines are made here, and written by the main process.

    Events are counted, and their lines made, when as many have gathered as travel together: what is done many times
    in a row costs half."""

    def __init__(self, wire: Wire, lines: LineMaker) -> None:
        self.counters = Counters()
        """Complete after a `flush`."""
        self._wire = wire
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Event] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def adopt(self, lines: LineMaker) -> None:
        """Make lines in another way from now on."""
        self.flush()
        self._lines = lines

    def emit(self, event: Event) -> None:
        """Count an event, and log it."""
        self._waiting.append(event)
        if len(self._waiting) >= LINES_AT_ONCE:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        """Send what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        events, self._waiting = self._waiting, []
        for event in events:
            self.counters.observe(event)
        wanted = [event for event in events if self._lines.wants(event)]
        if self._wire.unsent > MOST_UNSENT_OCTETS:
            self._dropped += len(wanted)
            wanted.clear()
        if wanted or self._dropped:
            lines = b"".join([self._lines.render(event) for event in wanted])
            self._wire.send(LogLines(lines, len(wanted), self._dropped))
            self._dropped = 0

    def line_of(self, event: Accept, encoded: bytes) -> bytes | None:
        """The line for an event that the main process will log: None for none, b"" where it is `encoded`, which the
        journal gets.

        The event is counted when it has become true, by `count`."""
        if not self._lines.wants(event):
            return None
        return b"" if self._lines.as_encoded and is_plain(encoded) else self._lines.render(event)

    def count(self, event: Event) -> None:
        """Count an event that the main process logs."""
        self.counters.observe(event)


class RemoteSpool:
    """See spool.contract.Spool: of it what sessions use."""

    def __init__(self, wire: Wire, log: RemoteLog) -> None:
        self._wire = wire
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._drafts = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._handed_over: dict[int, UnderWay] = {}

    def draft(self) -> Draft:
        """See Spool."""
        return Draft([])

    async def write(self, draft: Draft, data: bytes) -> None:
        """See Spool."""
        content = draft.take_full(data)
        if not content:
            return
        if draft.number is None:
            self._drafts += 1
            draft.number = self._drafts
        for start in range(0, len(content), CHUNK_OCTETS):
            await self._room()
            number, answer = self._ask()
            self._send(number, Chunk(number, draft.number, content[start : start + CHUNK_OCTETS]))
            await answer
            draft.stored_octets += CHUNK_OCTETS
            draft.stored_chunks += 1

    async def discard(self, draft: Draft) -> None:
        """See Spool."""
        draft.pending.clear()
        draft.pending_octets = 0
        number, draft.number = draft.number, None
        if number is not None:
            self._wire.send(Discard(number))

    async def append_journal(self, entries: Sequence[JournalEntry]) -> None:
        """See Spool."""
        await self._room()
        number, answer = self._ask()
        self._send(number, Append(number, tuple(map(entry_of, entries))))
        await answer

    def hand_over(self, house: House, arrived: Arrived) -> Awaitable[None]:
        """See intake.handover.hand_over. Under way at once, unless others have to go before."""
        senders = len(house.sessions)
        if self._wire.blocked:
            return self._hand_over_later(arrived, senders)
        return self._hand_over(arrived, senders)

    async def _hand_over_later(self, arrived: Arrived, senders: int) -> None:
        await self._room()
        await self._hand_over(arrived, senders)

    def _hand_over(self, arrived: Arrived, senders: int) -> UnderWay:
        message, draft, event = arrived.message, arrived.draft, arrived.event
        head, rest = arrived.head, b""
        if draft.number is None and message.size <= CHUNK_OCTETS:
            head = b"".join([head, *draft.pending])
        else:
            rest = b"".join(draft.pending)
        encoded = encode(event)
        self._number = number = self._number + 1
        handing = self._handed_over[number] = UnderWay(arrived)
        self._send(
            number,
            Arrival(
                number,
                draft.number or 0,
                heading_of(message),
                tuple([target_of(one) for one in arrived.recipients]),
                head,
                rest,
                encoded,
                self._log.line_of(event, encoded),
                senders,
            ),
        )
        return handing

    def changes(self) -> int:
        """See Spool. Nothing here changes."""
        return 0

    def answered(self, frame: Stored | NotStored) -> None:
        """The main process has done what was asked, or not."""
        if isinstance(frame, NotStored):
            self._told(frame.number, _fault(frame))
            return
        for number in (frame.number, *frame.others):
            try:
                self._told(number, None)
            except Exception as error:  # a bug in what one answer does must not take the others away
                text = "the answer of the main process could not be dealt with"
                self._loop.call_exception_handler({"message": text, "exception": error})

    def _told(self, number: int, fault: Exception | None) -> None:
        handing = self._handed_over.pop(number, None)
        if handing is not None:
            try:
                if fault is None:
                    self._log.count(handing.arrived.event)
            finally:  # what is durable is acknowledged, whatever our books say
                handing.end(fault)
            return
        answer = self._waiting.pop(number, None)
        if answer is None or answer.done():
            return
        if fault is None:
            answer.set_result(None)
        else:
            answer.set_exception(fault)

    def _ask(self) -> tuple[int, asyncio.Future[None]]:
        self._number += 1
        answer = self._waiting[self._number] = self._loop.create_future()
        return self._number, answer

    def _send(self, number: int, frame: msgspec.Struct) -> None:
        try:
            self._wire.send(frame)
        except BaseException:  # it cannot be encoded: a bug of ours, told to whoever asked
            self._waiting.pop(number, None)
            self._handed_over.pop(number, None)
            raise

    async def _room(self) -> None:
        try:
            await self._wire.room()
        except WireBroken as error:
            raise SpoolUnavailable(str(error)) from error


def _fault(frame: NotStored) -> Exception:
    return RuntimeError(frame.reason) if frame.bug else SpoolUnavailable(frame.reason, full=frame.full)
