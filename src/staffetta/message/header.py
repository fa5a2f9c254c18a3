"""Header fields as they were received: the bytes are kept and never written again from parts.

RFC 5322 sections 2.2 and 4.5 (fields, folding, obsolete white space before the colon), RFC 6532 (UTF-8).

There is one boundary for everybody: the header ends at the first empty line (CRLF CRLF, or a CRLF that opens the
message), and nowhere else. A line in it that is no field does not end it, as some programs hold; it is kept and named
as a problem, because whoever disagrees about where the header ends also disagrees about who wrote the message.
Only CRLF ends a line, and a line that starts with space or tab belongs to the field before it.

This module refuses to know what any field means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

HEADER_OCTETS: Final = 256 * 1024
"""Largest header that is looked at. Real ones stay under 64 KiB; other servers stop at 100 KiB and less."""

HEADER_FIELDS: Final = 2000
"""Most fields in a header. Real mail stays under 300."""

_CONTROLS: Final = bytes(set(range(33)) | {127})
_BLANKS: Final = (b" ", b"\t")
_NAME = re.compile(rb"[!-9;-~]+")
_WELL_FORMED = re.compile(
    rb"(?:[!-9;-~]++:[^\x00-\x08\x0a-\x1f\x7f]*+"
    rb"(?:\r\n[ \t]++(?!\r\n)[^\x00-\x08\x0a-\x1f\x7f]*+)*+(?:\r\n|\Z))*+"
)
_BLANK_FOLD = re.compile(rb"\r\n[ \t]++\r\n")
_BARE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_TO_COLON = re.compile(rb"[ \t]++:")
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")


class HeaderProblem(StrEnum):
    """Where two readers of the same header could disagree."""

    TOO_BIG = "header_too_big"
    TOO_MANY_FIELDS = "too_many_fields"
    NOT_A_FIELD = "line_without_colon"
    EMPTY_NAME = "empty_field_name"
    ODD_NAME = "odd_field_name"
    SPACE_BEFORE_COLON = "space_before_colon"
    LEADING_SPACE = "header_begins_with_space"
    BLANK_FOLD = "line_of_white_space"
    BARE_LINE_END = "bare_line_ending"
    CONTROL = "control_character"
    NUL = "nul"


class Field(msgspec.Struct, frozen=True, gc=False):
    """One field. `raw` is every octet of it, folding and final CRLF included.

    `name` is in lower case without any white space or control characters, so that it is what the most generous
    reader would take it for; it is empty when the line has no colon. `value_at` is where the value starts in `raw`.
    """

    name: bytes
    raw: bytes
    value_at: int

    @property
    def value(self) -> bytes:
        """The value unfolded, without white space around it."""
        return unfold(self.raw[self.value_at :]).strip(b" \t")

    @property
    def is_plain(self) -> bool:
        """True when the name is written as everybody writes it: printable ASCII directly before the colon."""
        return self.raw[: self.value_at - 1].lower() == self.name and bool(self.name)

    @property
    def is_found(self) -> bool:
        """True when a look-up by name finds it: nothing but white space between the name and the colon."""
        return self.raw[: self.value_at - 1].rstrip(b" \t").lower() == self.name and bool(self.name)


def unfold(value: bytes) -> bytes:
    """Take the line ends out of a folded value (RFC 5322 section 2.2.3); the white space after them stays."""
    return value.replace(b"\r\n", b"")


def field_from(raw: bytes) -> Field:
    """The field that `raw` is. Total: any octets make a field, if one without a name."""
    colon = raw.find(b":")
    return Field(raw[:colon].translate(None, _CONTROLS).lower() if colon >= 0 else b"", raw, colon + 1)


class Header:
    """The header of one message. Nothing is computed before it is asked for, and everything at most once."""

    __slots__ = ("_fields", "_lower", "_problems", "_squeezed", "block")

    def __init__(self, block: bytes) -> None:
        self.block = block
        """Every octet of the header, without the empty line that ends it."""
        self._lower = b""
        self._squeezed = b""
        self._fields: tuple[Field, ...] | None = None
        self._problems: tuple[HeaderProblem, ...] | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields in their order, also those that are none; joined, their `raw` is `block`."""
        if self._fields is None:
            self._fields = tuple(map(field_from, _raw_fields(self.block)))
        return self._fields

    def all(self, name: bytes) -> list[Field]:
        """The fields called `name` (given in lower case), first to last.

        White space before the colon is allowed, as in RFC 5322 section 4.5; other disguises are not found here.
        """
        found: list[Field] = []
        at = self._find(name, 0)
        while at >= 0:
            field = self._field(name, at)
            found.append(field)
            at = self._find(name, at + len(field.raw))
        return found

    def first(self, name: bytes) -> Field | None:
        """The first field called `name` (given in lower case)."""
        at = self._find(name, 0)
        return self._field(name, at) if at >= 0 else None

    def value(self, name: bytes) -> bytes | None:
        """What `Field.value` of the first field called `name` (given in lower case) is; None when there is none."""
        at = self._find(name, 0)
        if at < 0:
            return None
        block = self.block
        return unfold(block[block.find(b":", at) + 1 : self._end(at)]).strip(b" \t")

    def has(self, name: bytes) -> bool:
        """Whether there is a field called `name` (given in lower case)."""
        return self._find(name, 0) >= 0

    def shows(self, name: bytes) -> bool:
        """Whether there is a field that anybody could take for `name` (given in lower case): plain or disguised."""
        return self._mentions(name) and (self.has(name) or bool(self.disguised(name)))

    def count(self, name: bytes) -> int:
        """How many fields are called `name` (given in lower case)."""
        lower = self._lowered()
        key = b"\r\n" + name
        plain = lower.count(key + b":")
        return plain if lower.count(key) == plain else len(self.all(name))

    def disguised(self, name: bytes) -> list[Field]:
        """Fields that a generous reader could take for `name`, though they are not written plainly: white space or
        control characters in or around the name, or the colon on a continuation line."""
        if not self._mentions(name) or self.well_formed:
            return []
        return [field for field in self.fields if field.name == name and not field.is_plain]

    @property
    def well_formed(self) -> bool:
        """True when there is no problem that `problems` would name; much cheaper than asking for them."""
        if self._problems is None and _WELL_FORMED.fullmatch(self.block):
            self._problems = ()
        return not self.problems

    @property
    def problems(self) -> tuple[HeaderProblem, ...]:
        """Everything in this header that other programs may read differently, each kind once."""
        if self._problems is None:
            self._problems = tuple(dict.fromkeys(_problems(self.block, self.fields)))
        return self._problems

    def without(self, unwanted: Callable[[Field], bool]) -> bytes:
        """The block without the fields that `unwanted` names; all other octets as they are, the same object when
        there is nothing to take out."""
        kept = [field.raw for field in self.fields if not unwanted(field)]
        return self.block if len(kept) == len(self.fields) else b"".join(kept)

    def _lowered(self) -> bytes:
        # With a CRLF in front the first field is found like all others; positions in it are those in `block` plus two.
        if not self._lower:
            self._lower = b"\r\n" + self.block.lower()
        return self._lower

    def _mentions(self, name: bytes) -> bool:
        """False when no field can be called `name`, however disguised: with all that disguises a name taken out of the
        block, it stands nowhere before a colon."""
        if not self._squeezed:
            self._squeezed = self._lowered().translate(None, _CONTROLS)
        return self._squeezed.find(name + b":") >= 0  # `in` takes twice as long for bytes

    def _find(self, name: bytes, start: int) -> int:
        """Where in `block` the next field called `name` starts, at or after `start`; -1 when there is none."""
        lower = self._lower or self._lowered()
        key = b"\r\n" + name
        size = len(key)
        at = lower.find(key, start)
        while at >= 0:
            after = at + size
            if lower.startswith(b":", after) or _TO_COLON.match(lower, after):
                return at
            at = lower.find(key, after)
        return -1

    def _field(self, name: bytes, start: int) -> Field:
        """The field that `_find` found."""
        raw = self.block[start : self._end(start)]
        return Field(name, raw, raw.find(b":") + 1)

    def _end(self, start: int) -> int:
        """Where in `block` the field that starts at `start` ends, its CRLF included."""
        block = self.block
        end = block.find(b"\r\n", start) + 2
        if end >= 2 and block[end : end + 1] not in _BLANKS:
            return end
        match = _FIELD_END.search(block, start)
        return match.end() if match else len(block)


def _raw_fields(block: bytes) -> Iterator[bytes]:
    start = 0
    for match in _FIELD_END.finditer(block):
        yield block[start : match.end()]
        start = match.end()
    if start < len(block):
        yield block[start:]


def _problems(block: bytes, fields: tuple[Field, ...]) -> Iterator[HeaderProblem]:
    if len(block) > HEADER_OCTETS:
        yield HeaderProblem.TOO_BIG
    if len(fields) > HEADER_FIELDS:
        yield HeaderProblem.TOO_MANY_FIELDS
    if block[:1] in {b" ", b"\t"}:
        yield HeaderProblem.LEADING_SPACE
    if b"\0" in block:
        yield HeaderProblem.NUL
    if _CONTROL.search(block):
        yield HeaderProblem.CONTROL
    if _BARE_END.search(block):
        yield HeaderProblem.BARE_LINE_END
    if _BLANK_FOLD.search(block):
        yield HeaderProblem.BLANK_FOLD
    for field in fields:
        if not field.is_plain or not _NAME.fullmatch(field.name):
            yield _name_problem(field)


def _name_problem(field: Field) -> HeaderProblem:
    if not field.value_at:
        return HeaderProblem.NOT_A_FIELD
    if not field.name:
        return HeaderProblem.EMPTY_NAME
    if field.is_found and field.name.isascii():
        return HeaderProblem.SPACE_BEFORE_COLON
    return HeaderProblem.ODD_NAME


__all__ = ["HEADER_FIELDS", "HEADER_OCTETS", "Field", "Header", "HeaderProblem", "field_from", "unfold"]
