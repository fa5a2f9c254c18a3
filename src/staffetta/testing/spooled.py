"""Messages for tests of the spool and of what stands on it: whole, small, and the same for the same arguments."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from staffetta.mail.address import NULL_PATH, Mailbox, parse_mailbox
from staffetta.mail.envelope import Sender
from staffetta.spool.contract import Draft, JournalEntry, Message, NewMessage, WaitingRecipient

START = 1_790_000_000.0
"""A moment in 2026 at which tests begin."""

HEAD = b"Received: from client.example by relay.example\r\n"


class Letter(msgspec.Struct, frozen=True):
    """What a test wants to say about a message. `recipients` are `address` or `address destination`."""

    id: str
    recipients: Sequence[str] = ("ben@example.net mx:example.net",)
    sender: str = "anna@example.org"
    body: bytes = b"Subject: hello\r\n\r\nHello\r\n"
    received_at: float = START
    next_attempt_at: float | None = None
    claim: bool = False
    session: str = ""
    message_id: str = ""


def new_message(letter: Letter, draft: Draft | None = None) -> NewMessage:
    """The commit of a letter. Its content is HEAD and the draft's; without one, HEAD and the letter's body."""
    if draft is None:
        draft = Draft([letter.body], len(letter.body))
    size = len(HEAD) + draft.stored_octets + draft.pending_octets
    path = parse_mailbox(letter.sender) if letter.sender else NULL_PATH
    message = Message(letter.id, Sender(path), size, letter.received_at, letter.message_id, letter.session)
    when = letter.received_at if letter.next_attempt_at is None else letter.next_attempt_at
    waiting = tuple(
        WaitingRecipient(letter.id, index, address, destination, next_attempt_at=when)
        for index, (address, destination) in enumerate(map(_split, letter.recipients))
    )
    line = msgspec.json.encode({"event": "accept", "time": letter.received_at, "id": letter.id, "size": size})
    journal = JournalEntry(line, letter.received_at, letter.id, letter.session, letter.message_id)
    return NewMessage(message, waiting, HEAD, draft, journal, letter.claim)


def _split(text: str) -> tuple[Mailbox, str]:
    address, _, destination = text.rpartition(" ")
    if not address or "@" in destination:
        address, destination = text, ""
    mailbox = parse_mailbox(address)
    return mailbox, destination or f"mx:{mailbox.domain}"
