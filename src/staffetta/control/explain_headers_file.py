"""A message in a file as it was received: octets with CRLF, header apart, body in pieces.

RFC 5322 section 2.1. Mail folders and mail programs keep messages with LF; signatures are made over CRLF (RFC 6376
section 5.3), so CRLF is restored where the file has LF. An mbox `From ` line and a byte order mark in front are left
out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from staffetta.message.header import Header

MAIL_OCTETS: Final = 64 * 1024 * 1024
"""Largest file that is read."""

HEADER_OCTETS: Final = 2 * 1024 * 1024
"""Largest header that is looked at: larger than any server takes, so that a forged one can still be explained."""

PIECE_OCTETS: Final = 64 * 1024

_EXPECTED: Final = (b"from", b"received", b"date", b"to", b"subject", b"message-id", b"return-path", b"sender")
"""A message has at least one of these fields."""


class NotMail(Exception):
    """The file is not a message that can be explained; the text says why."""


class MailFile:
    """One message, read once. Raises NotMail, OSError.

    `restored` tells that CRLF was restored, so that signatures may fail where the original had a bare LF.
    """

    __slots__ = ("_left", "_pieces", "_rest", "header", "restored")

    def __init__(self, stream: BinaryIO) -> None:
        self._left = MAIL_OCTETS
        first = self._first_lines(stream).removeprefix(b"\xef\xbb\xbf")
        if first.startswith((b"From ", b">From ")):
            first = first[first.find(b"\n") + 1 :]
        end = first.find(b"\n")
        self.restored = end >= 0 and first[end - 1 : end] != b"\r"
        self._pieces = self._with_line_ends(first, stream)
        block, self._rest = self._split()
        self.header = Header(block)
        if not any(self.header.has(name) for name in _EXPECTED):
            raise NotMail("this is not a mail: it has none of the fields that every message has")

    def after_header(self) -> Iterator[bytes]:
        """What follows the header, with the empty line that ends it; to be called once. Raises NotMail, OSError."""
        if self._rest:
            yield self._rest
        yield from self._pieces

    def _first_lines(self, stream: BinaryIO) -> bytes:
        """The first two lines or more: they tell how lines end, and whether there is an mbox line."""
        first = piece = self._read(stream)
        while piece and first.count(b"\n") < 2 and len(first) < PIECE_OCTETS:
            piece = self._read(stream)
            first += piece
        return first

    def _read(self, stream: BinaryIO) -> bytes:
        data = stream.read(PIECE_OCTETS)
        self._left -= len(data)
        if self._left < 0:
            raise NotMail(f"the file is larger than {MAIL_OCTETS // 1024 // 1024} MiB")
        return data

    def _with_line_ends(self, data: bytes, stream: BinaryIO) -> Iterator[bytes]:
        held = b""
        while data:
            if self.restored:
                data = held + data
                # A CR at the end may belong to a CRLF that the next piece completes.
                held = b"\r" if data.endswith(b"\r") else b""
                data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            if data:
                yield data
            data = self._read(stream)
        if held:
            yield held

    def _split(self) -> tuple[bytes, bytes]:
        """The header block, and what was read beyond it."""
        kept = bytearray()
        for piece in self._pieces:
            searched = max(len(kept) - 3, 0)
            kept += piece
            if kept.startswith(b"\r\n"):
                return b"", bytes(kept)
            end = kept.find(b"\r\n\r\n", searched)
            if 0 <= end <= HEADER_OCTETS:
                return bytes(kept[: end + 2]), bytes(kept[end + 2 :])
            if len(kept) > HEADER_OCTETS:
                raise NotMail(f"the header does not end within {HEADER_OCTETS // 1024 // 1024} MiB")
        return bytes(kept), b""
