"""What came of one try for one recipient. Transports return this shape and no other."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from staffetta.mail.reply import Reply


class Result(StrEnum):
    """How the try ended."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"


class Scope(StrEnum):
    """What the outcome speaks about: who else would meet the same fate."""

    SESSION = "session"
    """This connection only; another connection to the same host may do."""
    HOST = "host"
    """This host; another host of the destination may do."""
    DESTINATION = "destination"
    """Every host of the destination: name not found, all hosts dead, policy cannot be met."""
    MESSAGE = "message"
    """This message, for all its recipients at this destination."""
    RECIPIENT = "recipient"
    """This recipient of this message only."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One recipient's result.

    `reply` is the peer's, verbatim, or one of ours when no peer spoke (then `remote` is false).
    `stage` is where it happened: `dns`, `connect`, `greeting`, `ehlo`, `starttls`, `auth`, `mail`, `rcpt`, `data`,
    `content`, `dot`, `local`. `in_doubt`: the connection died after the final dot; the peer may have the message.
    """

    result: Result
    scope: Scope
    reply: Reply
    stage: str
    remote: bool = True
    in_doubt: bool = False
