"""A message on its way between processes: flat in a frame, and a message again behind it.

What crosses was parsed before it left, so nothing is judged here.
"""

from __future__ import annotations

from staffetta.app.workers.frames import Address, Arrival, Entry, Heading, Target
from staffetta.mail.address import NULL_PATH, Mailbox
from staffetta.mail.envelope import Sender
from staffetta.spool.contract import Draft, JournalEntry, Message, NewMessage, Quarantine, WaitingRecipient
from staffetta.spool.sqlite_schema import mailbox_of


def heading_of(message: Message) -> Heading:
    """The message, flat."""
    sender = message.sender
    path = sender.reverse_path
    why = message.quarantine
    return Heading(
        message.id,
        _address(path) if isinstance(path, Mailbox) else None,
        message.size,
        message.received_at,
        message.message_id,
        message.session,
        message.login,
        message.client,
        message.hops,
        sender.body,
        sender.smtputf8,
        sender.declared_size,
        sender.ret,
        sender.envid,
        None if why is None else (why.rule, why.reason),
    )


def target_of(recipient: WaitingRecipient) -> Target:
    """A recipient that has just come, flat."""
    address, original = recipient.address, recipient.original
    return Target(
        address.local_part,
        str(address.domain),
        recipient.destination,
        recipient.notify,
        recipient.orcpt,
        None if original is None else _address(original),
    )


def entry_of(entry: JournalEntry) -> Entry:
    """A journal entry, flat."""
    return Entry(entry.lines, entry.time, entry.id, entry.session, entry.message_id)


def journal_entry(entry: Entry) -> JournalEntry:
    """The journal entry again."""
    return JournalEntry(entry.lines, entry.time, entry.id, entry.session, entry.message_id)


def new_message(arrival: Arrival, draft: Draft, *, claim: bool) -> NewMessage:
    """What the spool takes. `draft` holds what was stored before; the rest goes to it."""
    heading = arrival.heading
    if arrival.rest:
        draft.pending.append(arrival.rest)
        draft.pending_octets += len(arrival.rest)
    return NewMessage(
        _message(heading),
        tuple([_recipient(heading, index, target) for index, target in enumerate(arrival.targets)]),
        arrival.head,
        draft,
        JournalEntry(arrival.lines, heading.received_at, heading.id, heading.session, heading.message_id),
        claim,
    )


def _message(heading: Heading) -> Message:
    why = heading.quarantine
    path = NULL_PATH if heading.sender is None else mailbox_of(*heading.sender)
    return Message(
        heading.id,
        Sender(path, heading.body, heading.smtputf8, heading.declared_size, heading.ret, heading.envid),
        heading.size,
        heading.received_at,
        heading.message_id,
        heading.session,
        heading.login,
        heading.client,
        heading.hops,
        None if why is None else Quarantine(*why),
    )


def _recipient(heading: Heading, index: int, target: Target) -> WaitingRecipient:
    original = target.original
    return WaitingRecipient(
        heading.id,
        index,
        mailbox_of(target.local_part, target.domain),
        target.destination,
        next_attempt_at=heading.received_at,
        notify=target.notify,
        orcpt=target.orcpt,
        original=None if original is None else mailbox_of(*original),
    )


def _address(mailbox: Mailbox) -> Address:
    return mailbox.local_part, str(mailbox.domain)
