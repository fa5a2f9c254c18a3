"""The moment in which a message changes hands: it is on disk, the log is told, and delivery has it.

RFC 5321 section 6.1: the server that said 250 is responsible, so nothing is said before this returned.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from staffetta.observe.events import Accept, encode
from staffetta.spool.contract import Claim, Draft, JournalEntry, Message, NewMessage, WaitingRecipient

if TYPE_CHECKING:
    from staffetta.intake.door import House

CONTENT_AT_HAND_OCTETS: Final = 64 * 1024
"""Messages up to this size go to delivery without being read back from disk."""


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """A message that was taken, and the event that says so. `head` goes before the content of `draft`."""

    message: Message
    recipients: tuple[WaitingRecipient, ...]
    head: bytes
    draft: Draft
    event: Accept


Told = Callable[[Exception | None], None]


class UnderWay:
    """A hand-over that ends when somebody else says so (`end`), told in that very call. It can be awaited like a
    future; who only has an answer to give at its end (`then`) needs neither a task nor another turn of the loop."""

    __slots__ = ("_told", "arrived")

    def __init__(self, arrived: Arrived) -> None:
        self.arrived = arrived
        self._told: Told | None = None

    def then(self, told: Told) -> None:
        """Whom to tell: None, or why it was not taken."""
        self._told = told

    def end(self, error: Exception | None) -> None:
        """It has ended."""
        if self._told is not None:
            self._told(error)

    def __await__(self) -> Generator[Any, None, None]:
        future: Future[None] = get_running_loop().create_future()

        def told(error: Exception | None) -> None:
            if future.done():  # nobody waits any more
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.then(told)
        return future.__await__()


HandOver = Callable[["House", Arrived], Awaitable[None]]
"""See `hand_over`. Who answers with what is `UnderWay` spares each message a task."""


async def hand_over(house: House, arrived: Arrived) -> None:
    """Return when all is done. Raises SpoolUnavailable: then nothing is."""
    message, recipients, draft = arrived.message, arrived.recipients, arrived.draft
    outlet = house.outlet
    claim = all(outlet.has_room(recipient.destination) for recipient in recipients)
    content = None
    if claim and draft.number is None and message.size <= CONTENT_AT_HAND_OCTETS:
        content = b"".join([arrived.head, *draft.pending])
    lines = encode(arrived.event)
    journal = JournalEntry(lines, message.received_at, message.id, message.session, message.message_id)
    await house.spool.commit(NewMessage(message, recipients, arrived.head, draft, journal, claim))
    try:
        house.emit(arrived.event)
        if claim:
            outlet.offer(Claim(message, recipients, content))
        else:
            outlet.wake()
    except Exception as error:
        # Our bug, and the message is on disk: any answer but 250 would have the client send it twice.
        house.report(error)
