"""A spool in memory: the contract and nothing else, for tests and for trying things out. What it holds dies with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from staffetta.mail.address import NullPath
from staffetta.spool.contract import (
    CHUNK_OCTETS,
    Claim,
    ClaimLost,
    DestinationState,
    Draft,
    JournalEntry,
    Ledger,
    Message,
    NewMessage,
    SpoolUnavailable,
    State,
    Step,
    WaitingRecipient,
)
from staffetta.spool.contract import Final as End

SMALL_OCTETS = 64 * 1024
"""Content up to this comes with the claim."""


class _Stored:
    """One message with its waiting recipients by index; `active` are those that are claimed."""

    __slots__ = ("active", "content", "message", "waiting")

    def __init__(self, new: NewMessage) -> None:
        self.message = new.message
        self.content = b"".join((new.head, *new.draft.pending))
        self.waiting = {recipient.index: recipient for recipient in new.recipients}
        self.active = set(self.waiting) if new.claim else set()

    def free(self) -> Iterable[WaitingRecipient]:
        """Recipients that may be claimed."""
        return [
            self.waiting[index]
            for index in sorted(self.waiting)
            if index not in self.active and self.waiting[index].state is not State.HELD
        ]

    def claim(self, recipients: Iterable[WaitingRecipient]) -> Claim:
        """Claim them."""
        chosen = tuple(recipients)
        self.active.update(recipient.index for recipient in chosen)
        content = self.content if self.message.size <= SMALL_OCTETS else None
        active = tuple(msgspec.structs.replace(recipient, state=State.ACTIVE) for recipient in chosen)
        return Claim(self.message, active, content)


class MemorySpool:
    """See spool.contract.Spool. `journal` holds every entry in order."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._messages: dict[str, _Stored] = {}
        self._down: dict[str, DestinationState] = {}
        self._ends = dict.fromkeys(End, 0)
        self._accepted = 0
        self.journal: list[JournalEntry] = []

    def draft(self) -> Draft:
        """See Spool."""
        return Draft([])

    async def write(self, draft: Draft, data: bytes) -> None:
        """See Spool."""
        draft.pending.append(data)
        draft.pending_octets += len(data)

    async def discard(self, draft: Draft) -> None:
        """See Spool."""
        draft.pending.clear()
        draft.pending_octets = 0

    async def commit(self, new: NewMessage) -> None:
        """See Spool."""
        await self.commit_many((new,))

    async def commit_many(self, new: Sequence[NewMessage]) -> None:
        """See Spool. Raises ValueError when a message's size is not that of its content."""
        for one in new:
            if one.message.size != len(one.head) + one.draft.pending_octets:
                raise ValueError(f"{one.message.id}: size {one.message.size} is not that of its content")
        ids = [one.message.id for one in new]
        if len(set(ids)) < len(ids) or not self._messages.keys().isdisjoint(ids):
            raise SpoolUnavailable("an id twice")
        for one in new:
            self._add(one)

    async def record(
        self,
        message_id: str,
        steps: Sequence[Step],
        journal: Sequence[JournalEntry],
        notices: Sequence[NewMessage] = (),
        destination: DestinationState | None = None,
    ) -> None:
        """See Spool. Raises ClaimLost for a recipient that is not claimed."""
        if steps:
            stored = self._messages.get(message_id)
            if stored is None or not {step.index for step in steps} <= stored.active:
                raise ClaimLost("a step for a recipient that is not claimed")
            for step in steps:
                self._take(stored, step)
            if not stored.waiting:
                del self._messages[message_id]
        self.journal.extend(journal)
        for notice in notices:
            self._add(notice)
        if destination is not None:
            self._down[destination.destination] = destination

    async def append_journal(self, entries: Sequence[JournalEntry]) -> None:
        """See Spool."""
        self.journal.extend(entries)

    async def expire_journal(self, before: float, limit: int) -> int:
        """See Spool."""
        old = [place for place, entry in enumerate(self.journal[:limit]) if entry.time < before]
        gone = old[-1] + 1 if old else 0
        del self.journal[:gone]
        return gone

    async def due(self, now: float, destinations_busy: frozenset[str], limit: int, per_destination: int) -> list[Claim]:
        """See Spool."""
        claims: list[Claim] = []
        left = limit
        for name, queue in self._queues(destinations_busy):
            down = self._down.get(name)
            if (down is not None and down.not_before > now) or queue[0][0] > now:
                continue
            here = min(per_destination, left)
            in_window = [message_id for when, _, _, message_id in queue[:here] if when <= now]
            for message_id in dict.fromkeys(in_window):
                stored = self._messages[message_id]
                fit = [one for one in stored.free() if one.destination == name and one.next_attempt_at <= now][:here]
                if fit:
                    claims.append(stored.claim(fit))
                here -= len(fit)
                left -= len(fit)
            if left <= 0:
                break
        return claims

    async def next_due(self, now: float, destinations_busy: frozenset[str]) -> float | None:
        """See Spool."""
        moments = []
        for name, queue in self._queues(destinations_busy):
            down = self._down.get(name)
            moments.append(max(queue[0][0], down.not_before if down else queue[0][0]))
        return min(moments, default=None)

    async def overdue(self, received_before: float, null_path_received_before: float, limit: int) -> list[Claim]:
        """See Spool."""
        asked = self._choose(lambda message, one: bool(one.bounce_by), limit)
        limit -= sum(len(claim.recipients) for claim in asked)

        def old(message: Message, one: WaitingRecipient) -> bool:
            null = isinstance(message.sender.reverse_path, NullPath)
            return message.received_at < (null_path_received_before if null else received_before)

        return asked + self._choose(old, limit)

    async def undelayed(self, received_before: float, limit: int) -> list[Claim]:
        """See Spool."""
        return self._choose(lambda message, one: message.received_at < received_before and not one.delay_noticed, limit)

    async def content(self, message_id: str) -> AsyncIterator[bytes]:
        """See Spool."""
        stored = self._messages.get(message_id)
        if stored is None:
            raise SpoolUnavailable(f"{message_id} is not in the spool")
        for start in range(0, len(stored.content), CHUNK_OCTETS):
            yield stored.content[start : start + CHUNK_OCTETS]

    async def destination_up(self, destination: str) -> None:
        """See Spool."""
        self._down.pop(destination, None)

    def changes(self) -> int:
        """See Spool: nobody else can change it."""
        return 0

    async def ledger(self) -> Ledger:
        """See Spool."""
        queued = sum(len(stored.waiting) for stored in self._messages.values())
        ends = self._ends
        return Ledger(self._accepted, ends[End.DELIVERED], ends[End.BOUNCED], ends[End.DROPPED], queued)

    async def close(self) -> None:
        """See Spool."""
        for stored in self._messages.values():
            stored.active.clear()

    def _add(self, new: NewMessage) -> None:
        self._messages[new.message.id] = _Stored(new)
        self._accepted += len(new.recipients)
        self.journal.append(new.journal)

    def _take(self, stored: _Stored, step: Step) -> None:
        stored.active.discard(step.index)
        if step.final is not None:
            del stored.waiting[step.index]
            self._ends[step.final] += 1
            return
        before = stored.waiting[step.index]
        stored.waiting[step.index] = msgspec.structs.replace(
            before,
            state=step.state,
            next_attempt_at=step.next_attempt_at,
            attempts=step.attempts,
            last_reply=step.last_reply,
            destination=step.destination or before.destination,
            in_doubt=step.in_doubt,
            delay_noticed=step.delay_noticed,
        )

    def _queues(self, busy: frozenset[str]) -> list[tuple[str, list[tuple[float, int, int, str]]]]:
        """Destinations that are not busy, with (when, arrival, index, id) of their free recipients, oldest first."""
        queues: dict[str, list[tuple[float, int, int, str]]] = {}
        for arrival, (message_id, stored) in enumerate(self._messages.items()):
            for one in stored.free():
                if one.destination not in busy:
                    queue = queues.setdefault(one.destination, [])
                    queue.append((one.next_attempt_at, arrival, one.index, message_id))
        for queue in queues.values():
            queue.sort()
        return sorted(queues.items(), key=lambda item: (item[1][0][0], item[0]))

    def _choose(self, wanted: Callable[[Message, WaitingRecipient], bool], limit: int) -> list[Claim]:
        claims: list[Claim] = []
        for stored in self._messages.values():
            chosen = [one for one in stored.free() if wanted(stored.message, one)][: max(limit, 0)]
            if chosen:
                claims.append(stored.claim(chosen))
                limit -= len(chosen)
        return claims
