"""One streaming look at a message while it goes to disk: where the header ends, and what the relay must know of it.

RFC 5322 section 2.1 (header, empty line, body), RFC 6152 (8-bit), RFC 5321 section 6.3 (loops by Received count).
Only the header is kept, and only up to its limits. The body is never looked at by line.
This module refuses to know MIME.
"""

from __future__ import annotations

import re
from typing import Final

from staffetta.message.header import HEADER_FIELDS, HEADER_OCTETS, Header, HeaderProblem

MESSAGE_ID_CHARACTERS: Final = 250
"""How much of a Message-ID goes into queue, journal and log."""

DELIVERED_TO_FIELDS: Final = 100
"""How many Delivered-To fields are looked at; more than the hop limit is a loop anyway."""

_NOT_PRINTABLE = re.compile(r"[^!-~]")


class Scan:
    """Feed it the decoded content in blocks of any size, then call `finish`.

    With a `problem` the header was too big to keep: `header` is empty, and the content is to be refused (552 5.3.4).
    """

    __slots__ = (
        "_header",
        "_hops",
        "_kept",
        "body_eight_bit",
        "header_complete",
        "header_eight_bit",
        "header_octets",
        "octets",
        "problem",
    )

    def __init__(self) -> None:
        self._kept: bytearray | None = None
        self._header: Header | None = None
        self._hops: int | None = None
        self.octets = 0
        """Of the whole content so far."""
        self.header_octets = 0
        """Of the header, without the empty line; known once `header_complete`. The rest of the content starts there,
        with the CRLF of the empty line (or is empty)."""
        self.header_complete = False
        self.header_eight_bit = False
        self.body_eight_bit = False
        self.problem: HeaderProblem | None = None

    def feed(self, data: bytes) -> None:
        """The next octets of the content."""
        self.octets += len(data)
        if self.header_complete:
            if not self.body_eight_bit and not data.isascii():
                self.body_eight_bit = True
        elif self._kept is None and data[:1] != b"\r":
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                self._complete(data[: end + 2])
                if not data.isascii():
                    self.header_eight_bit = not data[:end].isascii()
                    self.body_eight_bit = not data[end:].isascii()
            else:
                self._keep(data)
        else:
            self._keep(data)

    def finish(self) -> None:
        """The content is over; a message without an empty line is all header."""
        if not self.header_complete:
            block = bytes(self._kept or b"")
            self.header_eight_bit = not block.isascii()
            self._complete(block)

    @property
    def header(self) -> Header:
        """The header; empty before it is complete, and when it was too big."""
        if self._header is None:
            return Header(b"")
        return self._header

    @property
    def eight_bit(self) -> bool:
        """Whether any octet has its high bit set: such content needs 8BITMIME (RFC 6152) or an honest peer."""
        return self.header_eight_bit or self.body_eight_bit

    @property
    def hops(self) -> int:
        """How many Received fields the message came with."""
        header = self._header
        if header is None:
            return 0
        if self._hops is None:
            self._hops = header.count(b"received")
        return self._hops

    @property
    def message_id(self) -> str:
        """The Message-ID without brackets, fit for a log: printable ASCII, cut to size; "" when there is none."""
        value = self.header.value(b"message-id")
        if value is None:
            return ""
        if value[:1] == b"<" and value[-1:] == b">":
            value = value[1:-1]
        text = value[:MESSAGE_ID_CHARACTERS].decode("ascii", "replace")
        return _NOT_PRINTABLE.sub("?", text)

    @property
    def delivered_to(self) -> tuple[str, ...]:
        """The values of Delivered-To fields (no RFC; Postfix and qmail custom), for noticing loops."""
        if not self.header.has(b"delivered-to"):
            return ()
        fields = self.header.all(b"delivered-to")[:DELIVERED_TO_FIELDS]
        return tuple(field.value.decode("utf-8", "replace") for field in fields)

    def _keep(self, data: bytes) -> None:
        """Header that does not end in the first block, or content that may begin with the empty line."""
        kept = self._kept
        if kept is None:
            kept = self._kept = bytearray()
        searched = max(len(kept) - 3, 0)
        room = HEADER_OCTETS + 4 - len(kept)
        kept += data[:room]
        if kept[:2] == b"\r\n":
            end, size = 0, 0
        else:
            end = kept.find(b"\r\n\r\n", searched)
            size = end + 2
        if end >= 0:
            self.header_eight_bit = not kept[:size].isascii()
            self.body_eight_bit = not (kept[size:].isascii() and data[room:].isascii())
            self._complete(bytes(kept[:size]))
        elif len(kept) > HEADER_OCTETS:
            self._too_much(HeaderProblem.TOO_BIG)

    def _complete(self, block: bytes) -> None:
        self.header_complete = True
        self._kept = None
        size = self.header_octets = len(block)
        if size > HEADER_OCTETS:
            self._too_much(HeaderProblem.TOO_BIG)
            return
        # A field takes at least two octets with its line end, so small headers need no counting.
        if size > 2 * HEADER_FIELDS and block.count(b"\r\n") > HEADER_FIELDS:
            folds = block.count(b"\r\n ") + block.count(b"\r\n\t")
            if block.count(b"\r\n") - folds > HEADER_FIELDS:
                self._too_much(HeaderProblem.TOO_MANY_FIELDS)
                return
        self._header = Header(block)

    def _too_much(self, problem: HeaderProblem) -> None:
        self.header_complete = True
        self._kept = None
        self.problem = problem
