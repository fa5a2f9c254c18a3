"""Refusals go into the journal in bounded batches, so that a flood at the door cannot become a flood on the disk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from staffetta.mail.address import ReversePath
from staffetta.mail.reply import Reply
from staffetta.observe.events import Refuse, moment
from staffetta.spool.contract import JournalEntry, Spool, SpoolUnavailable

if TYPE_CHECKING:
    from staffetta.intake.session import Session
    from staffetta.intake.transaction import Transaction

FLUSH_SECONDS: Final = 0.25
"""Refusals of this span share one write."""

ENTRIES_AT_ONCE: Final = 500
"""Refusals that may come at once; more are only logged and counted, not kept."""

ENTRIES_PER_SECOND: Final = 20
"""Refusals that are kept in the long run. Anybody can be refused as often as he likes, and a row stays for weeks: at
this rate a flood of a month takes some gigabytes, without it all there are."""


class RefusalJournal:
    """Gathers entries and writes them behind the dialogue. Losing one loses an explanation, never a message."""

    __slots__ = ("_entries", "_filled_at", "_left", "_spool", "_task", "_timer", "left_out")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._entries: list[JournalEntry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._left = float(ENTRIES_AT_ONCE)
        self._filled_at = 0.0
        self.left_out = 0

    def add(self, entry: JournalEntry) -> None:
        """Keep one entry, if there was not a flood of them."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._left = min(ENTRIES_AT_ONCE, self._left + (now - self._filled_at) * ENTRIES_PER_SECOND)
        self._filled_at = now
        if self._left < 1.0:
            self.left_out += 1
            return
        self._left -= 1.0
        self._entries.append(entry)
        if self._timer is None:
            self._timer = loop.call_later(FLUSH_SECONDS, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._task is not None and not self._task.done():
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._begin)
            return
        self._task = asyncio.create_task(self.flush(), name="refusals")

    async def flush(self) -> None:
        """Write what has gathered."""
        entries, self._entries = self._entries, []
        if not entries:
            return
        try:
            await self._spool.append_journal(entries)
        except SpoolUnavailable:
            self.left_out += len(entries)

    async def close(self) -> None:
        """Write the rest before the store closes."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()


class Why(msgspec.Struct, frozen=True):
    """The rule that refused, its reason for the operator, and whom it concerned.

    `transaction` where it is not the session's any more; `checks` and `dmarc` as in the `accept` event.
    """

    rule: str
    reason: str
    recipient: str = ""
    sender: ReversePath | None = None
    transaction: Transaction | None = None
    checks: dict[str, str] = {}
    dmarc: msgspec.Struct | None = None


def refuse_event(session: Session, stage: str, answer: Reply | None, why: Why) -> Refuse:
    """The event of a refusal, with what is known of the session and its transaction."""
    sender, message_id = why.sender, ""
    transaction = why.transaction or session.transaction
    if transaction is not None:
        sender = transaction.claimed_sender if sender is None else sender
        message_id = transaction.message_id if stage == "data" else ""
    return Refuse(
        time=moment(session.house.clock()),
        session=session.id,
        stage=stage,
        client=session.client,
        sender=None if sender is None else str(sender),
        recipient=why.recipient,
        reply="" if answer is None else str(answer),
        rule=why.rule,
        reason=why.reason,
        listener=session.door.name,
        login=session.login,
        message_id=message_id,
        checks=why.checks,
        dmarc=why.dmarc,
    )
