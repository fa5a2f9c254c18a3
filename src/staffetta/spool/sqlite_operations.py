"""What the SQLite spool writes, one class per transition. Each knows its rows; none knows when it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

import apsw

from staffetta.spool.contract import CHUNK_OCTETS, ClaimLost, DestinationState, Draft, JournalEntry, NewMessage, Step
from staffetta.spool.sqlite_batch import Batch
from staffetta.spool.sqlite_queries import number_of
from staffetta.spool.sqlite_writer import Awaited, Operation

EXPIRE_JOURNAL: Final = (
    "DELETE FROM journal WHERE seq <= (SELECT max(seq) FROM"
    " (SELECT seq, time FROM journal ORDER BY seq LIMIT ?) WHERE time < ?)"
)
"""All up to the last old row of a stretch: a row that a wrong clock dated late does not stop the rest."""

Future = asyncio.Future[object]

CLAIMED_ROWS: Final = 64
"""Most recipients claimed by one operation."""

_CLAIM: Final = "UPDATE recipients SET lease=? WHERE message_seq=? AND idx=? AND lease=0 AND state<>2"
_QUARANTINE: Final = (
    "UPDATE recipients SET state=2, last_reply='the stored envelope or message is damaged'"
    " WHERE message_seq=? AND idx=? AND lease=0"
)


class Claimed:
    """Which messages this process has claimed recipients of: id to [number, size, recipients claimed].

    A shortcut only; the truth is the lease in the store. It spares the hot path one look-up per record.
    """

    __slots__ = ("_messages",)

    def __init__(self) -> None:
        self._messages: dict[str, list[int]] = {}

    def add(self, message_id: str, seq: int, size: int, count: int) -> None:
        """`count` more recipients are claimed."""
        known = self._messages.get(message_id)
        if known is None:
            self._messages[message_id] = [seq, size, count]
        else:
            known[2] += count

    def find(self, message_id: str) -> tuple[int, int] | None:
        """Number and size."""
        known = self._messages.get(message_id)
        return None if known is None else (known[0], known[1])

    def take(self, message_id: str, count: int) -> None:
        """`count` recipients were recorded."""
        known = self._messages.get(message_id)
        if known is not None:
            known[2] -= count
            if known[2] <= 0:
                del self._messages[message_id]

    def __len__(self) -> int:
        return len(self._messages)


class WriteChunks(Awaited):
    """Content of a draft that is too large to wait in memory."""

    __slots__ = ("_chunks", "_draft", "_seq")

    sender_waits: ClassVar[bool] = True

    def __init__(self, future: Future, draft: Draft, chunks: Sequence[bytes]) -> None:
        super().__init__(future, len(chunks) * CHUNK_OCTETS)
        self._draft = draft
        self._chunks = chunks
        self._seq = 0

    def gather(self, batch: Batch, connection: apsw.Connection) -> None:
        self._seq = batch.add_draft_chunks(self._draft, self._chunks)

    def committed(self) -> None:
        # Only now: a number taken in a transaction that went back belongs to somebody else.
        self._draft.number = self._seq
        self._draft.stored_chunks += len(self._chunks)
        self._draft.stored_octets += sum(map(len, self._chunks))


class Commit(Awaited):
    """New messages, all or none."""

    __slots__ = ("_claimed", "_new", "_release", "_seqs")

    sender_waits: ClassVar[bool] = True

    def __init__(
        self, future: Future, new: Sequence[NewMessage], claimed: Claimed | None, release: Callable[[Rows], None]
    ) -> None:
        super().__init__(future, sum([one.message.size for one in new]))
        self._new = new
        self._claimed = claimed
        self._release = release
        self._seqs: list[int] = []

    def gather(self, batch: Batch, connection: apsw.Connection) -> None:
        may_claim = self._claimed is not None
        self._seqs = [batch.add_message(one, may_claim=may_claim) for one in self._new]

    def committed(self) -> None:
        if self._claimed is not None:
            _note_claims(self._claimed, self._new, self._seqs)

    def abandoned(self) -> None:
        # The session that would have worked on it is gone: give it back, or it would wait for the next start.
        if self._claimed is None:
            return
        for one, seq in zip(self._new, self._seqs, strict=True):
            if one.claim:
                self._claimed.take(one.message.id, len(one.recipients))
                self._release([(seq, recipient.index) for recipient in one.recipients])


Told = Callable[[Exception | None], None]
"""Hears that a message is durable, or why it is not. Must not raise."""


class Take(Operation):
    """One new message of somebody who waits for no future."""

    __slots__ = ("_claimed", "_new", "_seq", "_told")

    sender_waits: ClassVar[bool] = True

    def __init__(self, new: NewMessage, claimed: Claimed | None, told: Told) -> None:
        super().__init__(new.message.size)
        self._new = new
        self._claimed = claimed
        self._told = told
        self._seq = 0

    def gather(self, batch: Batch, connection: apsw.Connection) -> None:
        self._seq = batch.add_message(self._new, may_claim=self._claimed is not None)

    def succeeded(self) -> None:
        new = self._new
        if new.claim and self._claimed is not None:
            self._claimed.add(new.message.id, self._seq, new.message.size, len(new.recipients))
        self._told(None)

    def failed(self, error: Exception) -> None:
        self._told(error)


class Record(Awaited):
    """The end of one attempt."""

    __slots__ = ("_claimed", "_destination", "_journal", "_message_id", "_notices", "_seqs", "_steps", "size")

    def __init__(
        self,
        future: Future,
        claimed: Claimed,
        message_id: str,
        steps: Sequence[Step],
        journal: Sequence[JournalEntry],
        *,
        notices: Sequence[NewMessage],
        destination: DestinationState | None,
    ) -> None:
        super().__init__(future, sum([one.message.size for one in notices]) if notices else 0)
        self._message_id = message_id
        self._steps = steps
        self._journal = journal
        self._notices = notices
        self._destination = destination
        self._claimed = claimed
        self._seqs: list[int] = []
        self.size = 0
        """Of the message, once it is known."""

    def gather(self, batch: Batch, connection: apsw.Connection) -> None:
        if self._steps:
            known = self._claimed.find(self._message_id) or number_of(connection, self._message_id)
            if known is None:
                raise ClaimLost(f"{self._message_id} is not in the spool")
            seq, self.size = known
            batch.add_steps(seq, self.size, self._steps)
        for entry in self._journal:
            batch.add_journal(entry)
        if self._notices:
            self._seqs = [batch.add_message(one, may_claim=True) for one in self._notices]
        if self._destination is not None:
            batch.add_destination(self._destination)

    def committed(self) -> None:
        self._claimed.take(self._message_id, len(self._steps))
        if self._notices:
            _note_claims(self._claimed, self._notices, self._seqs)


class AppendJournal(Awaited):
    """Events that belong to no transition."""

    __slots__ = ("_entries",)

    def __init__(self, future: Future, entries: Sequence[JournalEntry]) -> None:
        super().__init__(future, sum([len(entry.lines) for entry in entries]))
        self._entries = entries

    def gather(self, batch: Batch, connection: apsw.Connection) -> None:
        for entry in self._entries:
            batch.add_journal(entry)


Rows = Sequence[tuple[int, int]]
"""Message number and index of recipients."""


class ClaimRows(Awaited):
    """Claim recipients that were found due. The result is the set of those that were still free."""

    __slots__ = ("_claimed", "_epoch", "_release", "_rows")

    def __init__(self, future: Future, rows: Rows, epoch: int, release: Callable[[Rows], None]) -> None:
        super().__init__(future)
        self._rows = rows
        self._epoch = epoch
        self._release = release
        self._claimed = False

    def run(self, connection: apsw.Connection) -> None:
        claimed: set[tuple[int, int]] = set()
        for seq, index in self._rows:
            connection.execute(_CLAIM, (self._epoch, seq, index))
            if connection.changes():
                claimed.add((seq, index))
        self.result = claimed

    def committed(self) -> None:
        self._claimed = True

    def abandoned(self) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Release what was claimed; nothing when it was not, or was released before."""
        if self._claimed and isinstance(self.result, set) and self.result:
            self._claimed = False
            self._release(list(self.result))


class ReleaseRows(Awaited):
    """Let recipients go that an earlier process, or a session that is gone, had claimed: (number, index, lease)."""

    __slots__ = ("_rows",)

    def __init__(self, future: Future, rows: Sequence[tuple[int, int, int]]) -> None:
        super().__init__(future)
        self._rows = rows

    def gather(self, batch: Batch, connection: apsw.Connection) -> None:
        batch.released.extend(self._rows)


class Statements(Awaited):
    """Rare writes: statements with their values. The result is how many rows the last one changed."""

    __slots__ = ("_statements",)

    def __init__(self, future: Future, *statements: tuple[str, Sequence[tuple[str | int | float, ...]]]) -> None:
        super().__init__(future)
        self._statements = statements

    def run(self, connection: apsw.Connection) -> None:
        for sql, rows in self._statements:
            before = connection.total_changes()
            connection.executemany(sql, rows)
            self.result = connection.total_changes() - before


def quarantine(future: Future, rows: Rows) -> Statements:
    """Hold recipients whose stored envelope cannot be read, so that the others flow."""
    return Statements(future, (_QUARANTINE, rows))


def remove_loose(future: Future, seq: int, first: int, last: int) -> Statements:
    """Remove a stretch of chunks that belong to no message; without a stretch, the number itself."""
    if first:
        return Statements(future, ("DELETE FROM chunks WHERE key BETWEEN ? AND ?", [(first, last)]))
    return Statements(future, ("DELETE FROM loose WHERE seq=?", [(seq,)]))


def _note_claims(claimed: Claimed, new: Sequence[NewMessage], seqs: Sequence[int]) -> None:
    for one, seq in zip(new, seqs, strict=True):
        if one.claim:
            claimed.add(one.message.id, seq, one.message.size, len(one.recipients))
