"""The tables of the SQLite spool, and the way from a row to a value and back.

What is looked for has a column of its own; the rest of a message is one msgpack value. `recipients` holds what waits
and nothing else, so its size is the size of the queue. The index `due` leaves out what is claimed: a message that is
accepted, claimed and delivered at once never touches it. `loose` names content that belongs to no message: drafts on
their way in (owner: the epoch they began in) and large content that is still to be removed (owner 0).
This module refuses to know transactions.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

import msgspec

from staffetta.mail.address import NULL_PATH, Mailbox, ReversePath
from staffetta.mail.domain import AddressLiteral, Domain, Host
from staffetta.mail.envelope import Body, Notify, Return, Sender
from staffetta.spool.contract import Message, Quarantine, State, WaitingRecipient

PAGE_OCTETS: Final = 4096
"""Page size of a new store. Measured with 4 KB messages: one overflow page each, against half-empty larger pages."""

CHUNK_BITS: Final = 16
"""The key of a chunk is the message's number shifted by this, plus the chunk's place."""

STRETCH_BITS: Final = 10
"""1024 messages are a stretch (see message_key). Measured: shorter ones write no fewer pages to speak of, and make more
to look into: this is 4 ms for a million messages."""

CHECKSUM_BITS: Final = 32
"""The rest of such a key."""

FREE: Final = 0
"""The lease of a recipient that nobody works on; any other value is the epoch of the process that claimed it."""

QUEUED: Final = 0
DEFERRED: Final = 1
HELD: Final = 2
BOUNCING: Final = 3
"""An operator asked for a bounce: no more attempts; the relay's next look at what is overdue takes it."""
STATES: Final = (State.QUEUED, State.DEFERRED, State.HELD, State.DEFERRED)
NUMBER_OF_STATE: Final = {State.QUEUED: QUEUED, State.DEFERRED: DEFERRED, State.HELD: HELD}

MIGRATIONS: Final = (
    """
    CREATE TABLE store(
        one INTEGER PRIMARY KEY CHECK(one = 1),
        epoch INTEGER NOT NULL, closed_epoch INTEGER NOT NULL, next_seq INTEGER NOT NULL,
        accepted INTEGER NOT NULL, delivered INTEGER NOT NULL, bounced INTEGER NOT NULL, dropped INTEGER NOT NULL,
        queued INTEGER NOT NULL
    ) STRICT;
    INSERT INTO store VALUES(1, 0, 0, 1, 0, 0, 0, 0, 0);
    CREATE TABLE messages(
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, received_at REAL NOT NULL, size INTEGER NOT NULL,
        sender_local TEXT, sender_domain TEXT, data BLOB NOT NULL
    ) STRICT;
    CREATE TABLE recipients(
        message_seq INTEGER NOT NULL, idx INTEGER NOT NULL, lease INTEGER NOT NULL, state INTEGER NOT NULL,
        next_attempt_at REAL NOT NULL, destination TEXT NOT NULL, local_part TEXT NOT NULL, domain TEXT NOT NULL,
        attempts INTEGER NOT NULL, in_doubt INTEGER NOT NULL, delay_noticed INTEGER NOT NULL, last_reply TEXT NOT NULL,
        bounce_by TEXT, extra BLOB,
        PRIMARY KEY(message_seq, idx)
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX due ON recipients(destination, next_attempt_at) WHERE lease = 0 AND state < 2;
    CREATE INDEX bounce_asked ON recipients(message_seq) WHERE bounce_by IS NOT NULL;
    CREATE TABLE chunks(key INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
    CREATE TABLE loose(seq INTEGER PRIMARY KEY, owner INTEGER NOT NULL) STRICT;
    CREATE TABLE destinations(
        destination TEXT PRIMARY KEY, not_before REAL NOT NULL, failures INTEGER NOT NULL, last_reply TEXT NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE journal(
        seq INTEGER PRIMARY KEY, time REAL NOT NULL, id TEXT, session TEXT, message_id TEXT, message_key INTEGER,
        lines BLOB NOT NULL
    ) STRICT;
    CREATE INDEX journal_id ON journal(id) WHERE id IS NOT NULL;
    CREATE INDEX journal_session ON journal(session) WHERE session IS NOT NULL;
    CREATE INDEX journal_message ON journal(message_key) WHERE message_key IS NOT NULL;
    """,
    "-- Keys of Message-IDs begin with a stretch from here on (message_key); rows from before keep theirs.",
)

MessageRow = tuple[int, str, float, int, str | None, str | None, bytes]
"""seq, id, received_at, size, sender_local, sender_domain, data"""

RecipientRow = tuple[int, int, int, int, float, str, str, str, int, int, int, str, str | None, bytes | None]
"""message_seq, idx, lease, state, next_attempt_at, destination, local_part, domain, attempts, in_doubt, delay_noticed,
last_reply, bounce_by, extra"""

MESSAGE_COLUMNS: Final = "seq, id, received_at, size, sender_local, sender_domain, data"
RECIPIENT_COLUMNS: Final = (
    "message_seq, idx, lease, state, next_attempt_at, destination, local_part, domain, attempts, in_doubt, "
    "delay_noticed, last_reply, bounce_by, extra"
)


class _MessageData(msgspec.Struct, array_like=True, gc=False):
    """What of a message nobody searches for. New fields go last, with a default."""

    body: Body
    smtputf8: bool
    declared_size: int | None
    ret: Return | None
    envid: str | None
    message_id: str
    session: str
    login: str
    client: str
    hops: int
    quarantine: tuple[str, str] | None = None


class _Extra(msgspec.Struct, array_like=True, gc=False):
    """What few recipients have."""

    notify: tuple[Notify, ...]
    orcpt: str | None
    original: tuple[str, str] | None


_encode = msgspec.msgpack.Encoder().encode
_decode_message = msgspec.msgpack.Decoder(_MessageData).decode
_decode_extra = msgspec.msgpack.Decoder(_Extra).decode


def message_row(seq: int, message: Message) -> MessageRow:
    """The row of a message."""
    sender = message.sender
    path = sender.reverse_path
    why = message.quarantine
    data = _encode(
        _MessageData(
            sender.body,
            sender.smtputf8,
            sender.declared_size,
            sender.ret,
            sender.envid,
            message.message_id,
            message.session,
            message.login,
            message.client,
            message.hops,
            None if why is None else (why.rule, why.reason),
        )
    )
    if isinstance(path, Mailbox):
        return (seq, message.id, message.received_at, message.size, path.local_part, str(path.domain), data)
    return (seq, message.id, message.received_at, message.size, None, None, data)


def message_of(row: MessageRow) -> Message:
    """The message of a row. Raises msgspec.DecodeError when the row was tampered with."""
    _, message_id, received_at, size, local_part, domain, data = row
    path: ReversePath = NULL_PATH if local_part is None or domain is None else mailbox_of(local_part, domain)
    stored = _decode_message(data)
    sender = Sender(path, stored.body, stored.smtputf8, stored.declared_size, stored.ret, stored.envid)
    return Message(
        message_id,
        sender,
        size,
        received_at,
        stored.message_id,
        stored.session,
        stored.login,
        stored.client,
        stored.hops,
        None if stored.quarantine is None else Quarantine(*stored.quarantine),
    )


def recipient_row(seq: int, recipient: WaitingRecipient, lease: int) -> RecipientRow:
    """The row of a recipient of message number `seq`."""
    extra = None
    if recipient.notify or recipient.orcpt is not None or recipient.original is not None:
        original = recipient.original
        pair = None if original is None else (original.local_part, str(original.domain))
        extra = _encode(_Extra(recipient.notify, recipient.orcpt, pair))
    return (
        seq,
        recipient.index,
        lease,
        NUMBER_OF_STATE.get(recipient.state, QUEUED),
        recipient.next_attempt_at,
        recipient.destination,
        recipient.address.local_part,
        str(recipient.address.domain),
        recipient.attempts,
        recipient.in_doubt,
        recipient.delay_noticed,
        recipient.last_reply,
        recipient.bounce_by or None,
        extra,
    )


def recipient_of(row: RecipientRow, message_id: str, *, active: bool) -> WaitingRecipient:
    """The recipient of a row; `active` when this or another living process works on it."""
    notify: tuple[Notify, ...] = ()
    orcpt = original = None
    extra = row[13]
    if extra is not None:
        stored = _decode_extra(extra)
        notify, orcpt = stored.notify, stored.orcpt
        if stored.original is not None:
            original = mailbox_of(*stored.original)
    return WaitingRecipient(
        message_id,
        row[1],
        mailbox_of(row[6], row[7]),
        row[5],
        State.ACTIVE if active else STATES[row[3]],
        row[8],
        row[4],
        row[11],
        bool(row[9]),
        bool(row[10]),
        notify,
        orcpt,
        original,
        row[12] or "",
    )


def mailbox_of(local_part: str, domain: str) -> Mailbox:
    """The mailbox of two columns; both were parsed before they were stored."""
    return Mailbox(local_part, host_of(domain))


def host_of(domain: str) -> Host:
    """The domain or address literal of a column."""
    if domain[:1] == "[":
        return AddressLiteral(domain[1:-1].removeprefix("IPv6:"))
    return Domain(domain)


def message_key(message_id: str, next_seq: int) -> int:
    """What the journal's index holds of a Message-ID that came when `next_seq` was the number of the next message.

    Checksums alone would be written all over the index, a page for each message. Behind the number of their stretch
    those that come together stand together, and who looks for one looks once into each stretch.
    """
    return (next_seq >> STRETCH_BITS) << CHECKSUM_BITS | message_checksum(message_id)


def message_checksum(message_id: str) -> int:
    """32 bits of a Message-ID. Others that have the same do no more harm than the same Message-ID again."""
    return zlib.crc32(message_id.encode("utf-8", "replace"))


def message_hash(message_id: str) -> int:
    """64 bits of a Message-ID: the key in rows that are older than stretches."""
    return int.from_bytes(hashlib.blake2b(message_id.encode("utf-8", "replace"), digest_size=8).digest(), signed=True)
