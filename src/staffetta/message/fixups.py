"""What submission adds and takes away, and nothing else: every other octet of the message stays as it came.

RFC 6409 section 8 (Date, Message-ID may be added), RFC 5322 section 3.6.3 (Bcc goes no further), RFC 5321 section 4.4
(Return-Path is written by final delivery only).
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.address import Mailbox
from staffetta.message.header import Header
from staffetta.message.trace import date_time

DROPPED: Final = (b"bcc", b"resent-bcc", b"return-path")
"""Fields that end at submission: those that name hidden recipients, and the one that is not the client's to write."""

_FROM: Final = b"from"


class SubmissionFixups(msgspec.Struct, frozen=True, gc=False):
    """What the fixed header is made with.

    `queue_id` is unique, so the Message-ID made of it and `hostname` is too. `now` is in seconds since the epoch.
    `from_fixed` is the only address that may stand in From, where the door has one.
    """

    queue_id: str
    hostname: str
    now: float
    from_fixed: Mailbox | None = None


def submission_header(header: Header, fixups: SubmissionFixups) -> bytes:
    """The header block as it goes on: Date and Message-ID where they are missing, no Bcc, no Return-Path.

    The same object when nothing is to be done. Fields in disguise (a Bcc with its colon on the next line) are taken
    out too: they would show who must stay hidden.
    """
    block = header.block
    names = [name for name in DROPPED if header.shows(name)]
    if fixups.from_fixed is not None:
        names.append(_FROM)
    if names:
        gone = frozenset(names)
        block = header.without(lambda field: field.name in gone)
    front = b""
    if fixups.from_fixed is not None:
        front = b"From: <%b>\r\n" % str(fixups.from_fixed).encode()
    if not header.has(b"date"):
        front += b"Date: %b\r\n" % date_time(fixups.now).encode()
    if not header.has(b"message-id"):
        front += b"Message-ID: <%b>\r\n" % message_id(fixups.queue_id, fixups.hostname).encode()
    return front + block if front else block


def message_id(queue_id: str, hostname: str) -> str:
    """A Message-ID of ours, without brackets (RFC 5322 section 3.6.4)."""
    return f"{queue_id}@{hostname}"


__all__ = ["DROPPED", "SubmissionFixups", "message_id", "submission_header"]
