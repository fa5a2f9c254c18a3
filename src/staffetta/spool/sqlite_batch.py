"""One transaction of the SQLite spool: the rows that its operations want written, and the statements that write them.

Operations gather rows by kind; then one `executemany` per kind writes them all. Inserts go before removals, so that
"the last recipient is gone" is asked once, at the end, of the state all operations leave together.
This module refuses to know the event loop and when a transaction begins or ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import apsw

from staffetta.spool.contract import (
    CHUNK_OCTETS,
    ClaimLost,
    DestinationState,
    Draft,
    JournalEntry,
    NewMessage,
    SpoolUnavailable,
    Step,
)
from staffetta.spool.contract import Final as End
from staffetta.spool.sqlite_schema import (
    CHUNK_BITS,
    FREE,
    NUMBER_OF_STATE,
    RecipientRow,
    message_key,
    message_row,
    recipient_row,
)

LARGE_OCTETS: Final = 4 * 1024 * 1024
"""Content above this is not removed in the write that ends its message, but in steps afterwards."""

_NEW_MESSAGE: Final = "INSERT INTO messages VALUES(?,?,?,?,?,?,?)"
_NEW_RECIPIENT: Final = "INSERT INTO recipients VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_NEW_CHUNK: Final = "INSERT INTO chunks VALUES(?,?)"
_NEW_LOOSE: Final = "INSERT INTO loose VALUES(?,?)"
_NEW_JOURNAL: Final = "INSERT INTO journal(time, id, session, message_id, message_key, lines) VALUES(?,?,?,?,?,?)"
_KEEP_LOOSE: Final = "DELETE FROM loose WHERE seq=? AND owner=?"
_END_RECIPIENT: Final = "DELETE FROM recipients WHERE message_seq=? AND idx=? AND lease=?"
_NEXT_STEP: Final = (
    "UPDATE recipients SET lease=0, state=?, next_attempt_at=?, attempts=?, last_reply=?, in_doubt=?, delay_noticed=?,"
    " destination=iif(?7='', destination, ?7) WHERE message_seq=? AND idx=? AND lease=?"
)
_END_MESSAGE: Final = "DELETE FROM messages WHERE seq=?1 AND NOT EXISTS (SELECT 1 FROM recipients WHERE message_seq=?1)"
_END_CONTENT: Final = (
    "DELETE FROM chunks WHERE key BETWEEN ?2 AND ?3 AND NOT EXISTS (SELECT 1 FROM messages WHERE seq=?1)"
)
_END_LARGE: Final = "INSERT OR IGNORE INTO loose SELECT ?1, 0 WHERE NOT EXISTS (SELECT 1 FROM messages WHERE seq=?1)"
_DESTINATION_DOWN: Final = "INSERT OR REPLACE INTO destinations VALUES(?,?,?,?)"
_RELEASE: Final = "UPDATE recipients SET lease=0 WHERE message_seq=? AND idx=? AND lease=?"
_COUNT: Final = (
    "UPDATE store SET next_seq=?, accepted=accepted+?, delivered=delivered+?, bounced=bounced+?, dropped=dropped+?,"
    " queued=queued+?"
)

Hook = Callable[[str], None]
"""Told of each step of a transaction; tests of crashes die in it."""


class Batch:
    """Rows of one transaction. `epoch` is this process's lease; `next_seq` the number of the next message."""

    __slots__ = (
        "accepted",
        "bounced",
        "chunks",
        "delivered",
        "destinations",
        "dropped",
        "ended",
        "ended_large",
        "epoch",
        "first_seq",
        "journal",
        "kept",
        "loose",
        "messages",
        "next_seq",
        "queued",
        "recipients",
        "released",
        "removed",
        "updated",
    )

    def __init__(self, epoch: int, next_seq: int) -> None:
        self.epoch = epoch
        self.next_seq = self.first_seq = next_seq
        self.accepted = self.delivered = self.bounced = self.dropped = self.queued = 0
        self.messages: list[tuple[object, ...]] = []
        self.recipients: list[RecipientRow] = []
        self.chunks: list[tuple[int, bytes]] = []
        self.loose: list[tuple[int, int]] = []
        self.kept: list[tuple[int, int]] = []
        self.journal: list[tuple[object, ...]] = []
        self.removed: list[tuple[int, int, int]] = []
        self.updated: list[tuple[object, ...]] = []
        self.ended: list[tuple[int, int, int]] = []
        self.ended_large: list[tuple[int]] = []
        self.destinations: list[tuple[object, ...]] = []
        self.released: list[tuple[int, int, int]] = []

    def add_message(self, new: NewMessage, *, may_claim: bool) -> int:
        """Everything a new message needs; returns its number."""
        draft = new.draft
        seq = draft.number
        content = new.head
        if seq is None:
            seq = self.next_seq
            self.next_seq += 1
            if draft.pending_octets + len(content) <= CHUNK_OCTETS:
                content = b"".join((content, *draft.pending))
            elif draft.pending_octets:
                self.chunks.append(((seq << CHUNK_BITS) + 1, b"".join(draft.pending)))
        else:
            self.kept.append((seq, self.epoch))
            if draft.pending_octets:
                self.chunks.append(((seq << CHUNK_BITS) + 1 + draft.stored_chunks, b"".join(draft.pending)))
        self.chunks.append((seq << CHUNK_BITS, content))
        self.messages.append(message_row(seq, new.message))
        lease = self.epoch if may_claim and new.claim else FREE
        for recipient in new.recipients:
            self.recipients.append(recipient_row(seq, recipient, lease))
        count = len(new.recipients)
        self.accepted += count
        self.add_journal(new.journal)
        return seq

    def add_draft_chunks(self, draft: Draft, chunks: Iterable[bytes]) -> int:
        """Content of a draft that goes to disk before its commit; returns the draft's number."""
        seq = draft.number
        if seq is None:
            seq = self.next_seq
            self.next_seq += 1
            self.loose.append((seq, self.epoch))
        key = (seq << CHUNK_BITS) + 1 + draft.stored_chunks
        for offset, chunk in enumerate(chunks):
            self.chunks.append((key + offset, chunk))
        return seq

    def add_journal(self, entry: JournalEntry) -> None:
        """One row of the journal."""
        message_id = entry.message_id
        self.journal.append(
            (
                entry.time,
                entry.id or None,
                entry.session or None,
                message_id or None,
                message_key(message_id, self.next_seq) if message_id else None,
                entry.lines,
            )
        )

    def add_steps(self, seq: int, size: int, steps: Iterable[Step]) -> None:
        """What becomes of claimed recipients of message number `seq`, which holds `size` octets."""
        epoch = self.epoch
        over = False
        for step in steps:
            end = step.final
            if end is None:
                self.updated.append(
                    (
                        NUMBER_OF_STATE[step.state],
                        step.next_attempt_at,
                        step.attempts,
                        step.last_reply,
                        step.in_doubt,
                        step.delay_noticed,
                        step.destination,
                        seq,
                        step.index,
                        epoch,
                    )
                )
                continue
            over = True
            self.removed.append((seq, step.index, epoch))
            if end is End.DELIVERED:
                self.delivered += 1
            elif end is End.BOUNCED:
                self.bounced += 1
            else:
                self.dropped += 1
        if over:
            large = size > LARGE_OCTETS
            key = seq << CHUNK_BITS
            self.ended.append((seq, 1 if large else key, 0 if large else key | ((1 << CHUNK_BITS) - 1)))
            if large:
                self.ended_large.append((seq,))

    def add_destination(self, state: DestinationState) -> None:
        """A destination that is down."""
        self.destinations.append((state.destination, state.not_before, state.failures, state.last_reply))

    def write(self, connection: apsw.Connection, hook: Hook | None) -> None:
        """Run the statements. Raises apsw.Error, ClaimLost or SpoolUnavailable; then the transaction must go back."""
        cursor = connection.cursor()
        many = cursor.executemany
        before = connection.total_changes
        if self.messages:
            many(_NEW_MESSAGE, self.messages)
            count = before()
            many(_NEW_RECIPIENT, self.recipients)
            self.queued += before() - count
        for statement, rows in (
            (_NEW_LOOSE, self.loose),
            (_NEW_CHUNK, self.chunks),
            (_NEW_JOURNAL, self.journal),
            (_DESTINATION_DOWN, self.destinations),
            (_RELEASE, self.released),
        ):
            if rows:
                if hook is not None:
                    hook(statement)
                many(statement, rows)
        if self.kept:
            count = before()
            many(_KEEP_LOOSE, self.kept)
            if before() - count != len(self.kept):
                raise SpoolUnavailable("the draft was swept before its commit: another relay has started")
        if self.updated:
            count = before()
            many(_NEXT_STEP, self.updated)
            if before() - count != len(self.updated):
                raise ClaimLost("a step was recorded for a recipient that this process has not claimed")
        if self.removed:
            self._remove(connection, hook)
        self._count(cursor, hook)

    def _remove(self, connection: apsw.Connection, hook: Hook | None) -> None:
        before = connection.total_changes()
        connection.executemany(_END_RECIPIENT, self.removed)
        gone = connection.total_changes() - before
        if gone != len(self.removed):
            raise ClaimLost("an end was recorded for a recipient that this process has not claimed")
        self.queued -= gone
        if hook is not None:
            hook(_END_RECIPIENT)
        connection.executemany(_END_MESSAGE, [(seq,) for seq, _, _ in self.ended])
        if hook is not None:
            hook(_END_MESSAGE)
        connection.executemany(_END_CONTENT, self.ended)
        if self.ended_large:
            connection.executemany(_END_LARGE, self.ended_large)

    def _count(self, cursor: apsw.Cursor, hook: Hook | None) -> None:
        ends = (self.delivered, self.bounced, self.dropped)
        if self.next_seq != self.first_seq or self.queued or self.accepted or any(ends):
            if hook is not None:
                hook(_COUNT)
            cursor.execute(_COUNT, (self.next_seq, self.accepted, *ends, self.queued))
