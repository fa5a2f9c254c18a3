"""A message that crosses between processes is the same message behind the wire."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as some

from staffetta.app.workers.frames import FROM_WORKER, Append, Arrival
from staffetta.app.workers.letters import entry_of, heading_of, journal_entry, new_message, target_of
from staffetta.mail.address import NULL_PATH, Mailbox
from staffetta.mail.domain import AddressLiteral, Domain
from staffetta.mail.envelope import Body, Notify, Return, Sender
from staffetta.spool.contract import Draft, JournalEntry, Message, Quarantine, WaitingRecipient

TEXT = some.text(some.characters(exclude_categories=["Cs"]), max_size=20)
HOSTS = some.one_of(
    some.sampled_from([Domain("example.org"), Domain("xn--bcher-kva.example")]),
    some.sampled_from([AddressLiteral("192.0.2.1"), AddressLiteral("2001:db8::1")]),
)
MAILBOXES = some.builds(Mailbox, TEXT.filter(bool), HOSTS)
SENDERS = some.builds(
    Sender,
    some.one_of(MAILBOXES, some.just(NULL_PATH)),
    some.sampled_from(Body),
    some.booleans(),
    some.none() | some.integers(0, 2**40),
    some.none() | some.sampled_from(Return),
    some.none() | TEXT,
)
MESSAGES = some.builds(
    Message,
    some.just("01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    SENDERS,
    some.just(0),
    some.floats(0, 4e9),
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    some.integers(0, 100),
    some.none() | some.builds(Quarantine, TEXT, TEXT),
)
WAITING = some.tuples(
    MAILBOXES, TEXT, some.lists(some.sampled_from(Notify)).map(tuple), some.none() | TEXT, some.none() | MAILBOXES
)


@settings(max_examples=200, deadline=None)
@given(message=MESSAGES, waiting=some.lists(WAITING, min_size=1, max_size=4), head=some.binary(), rest=some.binary())
def test_what_arrives_is_what_was_sent(
    message: Message, waiting: list[tuple[object, ...]], head: bytes, rest: bytes
) -> None:
    recipients = tuple(
        WaitingRecipient(
            message.id,
            index,
            one[0],  # type: ignore[arg-type]
            one[1],  # type: ignore[arg-type]
            next_attempt_at=message.received_at,
            notify=one[2],  # type: ignore[arg-type]
            orcpt=one[3],  # type: ignore[arg-type]
            original=one[4],  # type: ignore[arg-type]
        )
        for index, one in enumerate(waiting)
    )
    sent = Arrival(5, 0, heading_of(message), tuple(map(target_of, recipients)), head, rest, b"{}", None)
    arrived = FROM_WORKER.decode(msgspec.msgpack.encode(sent))
    assert arrived == sent
    new = new_message(arrived, Draft([]), claim=True)
    assert new.message == message
    assert new.recipients == recipients
    assert new.head + b"".join(new.draft.pending) == head + rest
    assert new.draft.pending_octets == len(rest)
    assert new.journal == JournalEntry(b"{}", message.received_at, message.id, message.session, message.message_id)
    assert new.claim


def test_nothing_of_a_message_is_forgotten() -> None:
    """Whoever adds a field to one of these must let it cross."""
    message = len(Message.__struct_fields__) + len(Sender.__struct_fields__) - 1
    assert len(heading_of(Message("x", Sender(NULL_PATH), 0, 0.0)).__struct_fields__) == message
    crossing = {"address", "destination", "notify", "orcpt", "original"}
    at_first = {
        "message_id",
        "index",
        "state",
        "attempts",
        "next_attempt_at",
        "last_reply",
        "in_doubt",
        "delay_noticed",
    }
    assert set(WaitingRecipient.__struct_fields__) == crossing | at_first | {"bounce_by"}


def test_journal_entries_cross() -> None:
    entry = JournalEntry(b'{"event":"refuse"}', 17.5, "id", "session", "message-id")
    frame = FROM_WORKER.decode(msgspec.msgpack.encode(Append(1, (entry_of(entry),))))
    assert [journal_entry(one) for one in frame.entries] == [entry]
