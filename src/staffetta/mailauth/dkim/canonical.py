"""Header fields and bodies in the form that signatures are made over, streamed and byte-exact at every split.

RFC 6376 section 3.4; RFC 8617 uses the same. Only CRLF ends a line here: a bare CR or LF is an octet like any other.
Everything is done by few passes of bytes methods over blocks, because it is on the path of every message.
This module refuses to know keys and signatures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from staffetta.message.header import Field

BLOCK_OCTETS: Final = 128 * 1024
"""Larger pieces are worked on in blocks of this size: it bounds memory, and blocks fit into the processor's cache."""

_MANY_LINES: Final = b"\r\n" * 32768
_INDENT: Final = b" " * 8


class Canon(StrEnum):
    """The two canonicalisations."""

    SIMPLE = "simple"
    RELAXED = "relaxed"


def canonical_field(field: Field, canon: Canon) -> bytes:
    """A field as it is hashed, CRLF included (RFC 6376 sections 3.4.1 and 3.4.2)."""
    return field.raw if canon is Canon.SIMPLE else relaxed_field(field)


def relaxed_field(field: Field) -> bytes:
    """A field in relaxed form, CRLF included. A line without a colon is all value."""
    at = field.value_at
    value = field.raw[at:].replace(b"\r\n", b"").replace(b"\t", b" ")
    while b"  " in value:
        value = value.replace(b"  ", b" ")
    name = field.raw[: max(at - 1, 0)].rstrip(b" \t").lower()
    return b"%b:%b\r\n" % (name, value.strip(b" "))


class BodyCanon:
    """The canonical form of one body: `feed` it octets in any splits, take what comes out, then `finish`.

    What is held back is counted, not kept: empty lines that may be the last ones, and at most a blank and a CR.
    """

    __slots__ = ("_any", "_carry", "_lines", "_relaxed")

    def __init__(self, canon: Canon) -> None:
        self._relaxed = canon is Canon.RELAXED
        self._carry = b""
        self._lines = 0
        self._any = False

    def feed(self, data: bytes) -> bytes:
        """The canonical octets that are certain now. Large when a great many empty lines turn out not to be the last:
        whoever wants bounded memory takes `pieces`."""
        return b"".join(self.pieces(data))

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The same in pieces of bounded size."""
        if len(data) <= BLOCK_OCTETS:
            yield from self._block(data)
            return
        for start in range(0, len(data), BLOCK_OCTETS):
            yield from self._block(data[start : start + BLOCK_OCTETS])

    def finish(self) -> bytes:
        """What comes at the end: the last line's CRLF, or nothing (an empty body is CRLF in simple form only)."""
        # Blanks at the end of the last line count for nothing in relaxed form; a CR that no LF followed is content.
        rest = self._carry
        if rest.strip(b" ") or (rest and not self._relaxed):
            out = b"\r\n" * self._lines + rest + b"\r\n"
        elif self._any or not self._relaxed:
            out = b"\r\n"
        else:
            out = b""
        self._carry, self._lines = b"", 0
        return out

    def _block(self, data: bytes) -> Iterator[bytes]:
        data = self._carry + data if self._carry else data
        if self._relaxed:
            data, self._carry = _relaxed(data)
        elif data.endswith(b"\r"):
            data, self._carry = data[:-1], b"\r"
        else:
            self._carry = b""
        content = data.rstrip(b"\r\n")
        lines = _lines_at_end(data[len(content) :])
        content = data[: len(data) - 2 * lines]
        if not content:
            self._lines += lines
            return
        self._any = True
        if not self._lines:
            yield content
        else:
            octets = 2 * self._lines
            while octets > len(_MANY_LINES):
                yield _MANY_LINES
                octets -= len(_MANY_LINES)
            yield _MANY_LINES[:octets] + content
        self._lines = lines


def _relaxed(data: bytes) -> tuple[bytes, bytes]:
    """`data` with its blanks reduced, and what of its end must wait for what comes next."""
    data = data.replace(b"\t", b" ")
    if b" " in data:  # attachments in base64 have none
        if _INDENT in data:
            data = data.replace(_INDENT, b" ")
        while b"  " in data:  # each pass halves the runs, so there are few
            data = data.replace(b"  ", b" ")
        data = data.replace(b" \r\n", b"\r\n")
    size = len(data)
    if data.endswith(b"\r"):
        size -= 1
    if data.endswith(b" ", 0, size):
        size -= 1
    return data[:size], data[size:]


def _lines_at_end(tail: bytes) -> int:
    """How many CRLFs end a tail of nothing but CRs and LFs."""
    lines = len(tail) >> 1
    if lines <= 1 or tail == _MANY_LINES[: len(tail)]:
        return lines if tail.endswith(b"\r\n") else 0
    # With bare ones among them: no two CRLFs overlap, so each can become one mark.
    marked = tail.replace(b"\r\n", b"+")
    return len(marked) - len(marked.rstrip(b"+"))


class BodyHash:
    """SHA-256 over the canonical body, or its first `limit` octets (`l=`)."""

    __slots__ = ("_hashes",)

    def __init__(self, canon: Canon, limit: int | None = None) -> None:
        self._hashes = BodyHashes(canon, (limit,))

    @property
    def octets(self) -> int:
        """Of the canonical body so far; all of it after `finish`."""
        return self._hashes.octets

    def feed(self, data: bytes) -> None:
        """The next octets of the body."""
        self._hashes.feed(data)

    def finish(self) -> bytes:
        """The digest. To be called once."""
        (digest,) = self._hashes.finish().values()
        return digest


class BodyHashes:
    """The same for several limits. The canonical form, which costs more than all hashes, is made once."""

    __slots__ = ("_canon", "_hashes", "octets")

    def __init__(self, canon: Canon, limits: Iterable[int | None]) -> None:
        self._canon = BodyCanon(canon)
        self._hashes = {limit: hashlib.sha256() for limit in limits}
        self.octets = 0
        """Of the canonical body so far; all of it after `finish`."""

    def feed(self, data: bytes) -> None:
        """The next octets of the body."""
        for piece in self._canon.pieces(data):
            self._add(piece)

    def finish(self) -> dict[int | None, bytes]:
        """The digests by their limits. To be called once."""
        self._add(self._canon.finish())
        return {limit: known.digest() for limit, known in self._hashes.items()}

    def _add(self, piece: bytes) -> None:
        before = self.octets
        self.octets = after = before + len(piece)
        for limit, known in self._hashes.items():
            if limit is None or after <= limit:
                known.update(piece)
            elif before < limit:
                known.update(piece[: limit - before])


__all__ = ["BLOCK_OCTETS", "BodyCanon", "BodyHash", "BodyHashes", "Canon", "canonical_field", "relaxed_field"]
