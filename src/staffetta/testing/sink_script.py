"""What a sink does: its extensions, its replies, its faults; what it received; and the judgement of raw content.

Written without a look at `protocol/`, so that a mistake there is not made here too.
"""

from __future__ import annotations

import asyncio
import ssl
from enum import StrEnum

import msgspec

EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING")
"""What a sink offers when the script says nothing; STARTTLS and AUTH come by themselves."""

STAGES = ("connect", "greeting", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "content", "dot", "quit")


class Kind(StrEnum):
    """How a sink misbehaves."""

    DROP = "drop"
    """Close in order."""
    RESET = "reset"
    """Close with a reset."""
    SILENCE = "silence"
    """Read nothing, say nothing, stay."""
    REPLY = "reply"
    """Say `octets` in place of the usual reply, and go on as one who refused."""
    LAST_WORDS = "last words"
    """Say `octets` and close."""
    BEFORE = "before"
    """Say `octets`, then the usual reply: one reply too many."""
    BEHIND = "behind"
    """Say `octets` in one piece with the usual reply, and go on as usual."""
    ENDLESS = "endless"
    """Say `octets` again and again, until the peer has had enough."""
    DELAY = "delay"
    """Wait for `until`, then go on as usual."""


class Fault(msgspec.Struct):
    """One fault. It strikes `times` times (0: always), after `skip` times at which all was well."""

    stage: str
    kind: Kind
    octets: bytes = b""
    until: asyncio.Event | None = None
    times: int = 0
    skip: int = 0
    struck: int = 0

    def strikes(self) -> bool:
        """Count one time; true when the fault is due."""
        self.struck += 1
        return self.struck > self.skip and (not self.times or self.struck <= self.skip + self.times)


class Script(msgspec.Struct):
    """How a sink behaves. Keys of `rcpt` and `dot` are addresses without brackets; values whole replies."""

    name: str = "sink.example"
    lmtp: bool = False
    implicit: bool = False
    context: ssl.SSLContext | None = None
    extensions: tuple[str, ...] = EXTENSIONS
    extensions_tls: tuple[str, ...] | None = None
    login: tuple[str, str] | None = None
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    faults: tuple[Fault, ...] = ()
    rcpt: dict[bytes, bytes] = {}
    dot: dict[bytes, bytes] = {}
    recipients_max: int = 0
    takes_empty_data: bool = False
    discards_pipelined: bool = False
    forgets_scram_proof: bool = False
    receive_buffer_octets: int = 0
    keep: bool = True


class Received(msgspec.Struct):
    """One message. `raw` is exactly what came behind 354 or inside BDAT; `content` is what it means."""

    session: int
    mail: bytes
    rcpts: list[bytes]
    raw: bytes
    content: bytes
    tls: bool
    chunks: int = 0
    login: str = ""


def faults_of(received: Received) -> list[str]:
    """What was wrong with the octets on the wire (threats S2); empty when they were beyond reproach.

    Octet by octet, not by the sink's own way of reading.
    """
    raw = received.raw
    found = ["a NUL"] if b"\0" in raw else []
    found += [f"a lone LF at {at}" for at, octet in enumerate(raw) if octet == 10 and raw[at - 1 : at] != b"\r"]
    found += [f"a lone CR at {at}" for at, octet in enumerate(raw) if octet == 13 and raw[at + 1 : at + 2] != b"\n"]
    lines = raw.split(b"\r\n")
    if lines[-1]:
        found.append("something behind the last line end")
    if received.chunks:
        return found
    if lines[-2:-1] != [b"."]:
        found.append("no terminator")
    found += [f"a dot that is not doubled: {line[:40]!r}" for line in lines[:-2] if line[:1] == b"." != line[1:2]]
    return found


def unstuff(raw: bytes) -> bytes:
    """The content of DATA: terminator off, doubled dots undone. RFC 5321 section 4.5.2."""
    lines = raw.split(b"\r\n")
    return b"\r\n".join([line[1:] if line[:1] == b"." else line for line in lines[:-2]] + [b""])
