"""Names without a domain in fields that hold addresses: found, and given one, with every other octet as it was.

Programs on a machine write `From: root` and `To: anna, ben@example.org`, which may not travel (RFC 5322 section 3.4.1).
Strings, comments (they nest), literals, groups and folding stay what they are. Linear in the size of the field.
This module refuses to know whose domain it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from staffetta.message.header import Header, field_from

ADDRESS_FIELDS: Final = frozenset(
    {b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"}
    | {b"resent-from", b"resent-sender", b"resent-reply-to", b"resent-to", b"resent-cc", b"resent-bcc"}
)
"""Fields that hold addresses and nothing else."""

_TOKEN = re.compile(
    rb'(?P<blank>[ \t\r\n]++)|(?P<quoted>"(?:[^"\\]|\\.)*+")|(?P<literal>\[[^\[\]\\]*+\])'
    rb"|(?P<atom>[^\x00-\x20\x7f()<>\[\]:;@\\,\"]++)|(?P<special>.)",
    re.DOTALL,
)
_COMMENT_PART = re.compile(rb"[^()\\]++|\\.", re.DOTALL)

Span = tuple[int, int]
Token = tuple[str, int, int]
"""Kind, start and end. A special character is its own kind."""


def qualified(block: bytes, domain: bytes) -> bytes:
    """A header block in which every bare name of an address field has `domain`; the same object when none is bare."""
    header = Header(block)
    if not any(header.has(name) for name in ADDRESS_FIELDS):
        return block
    parts = []
    changed = False
    for field in header.fields:
        raw = field.raw
        if field.name in ADDRESS_FIELDS:
            value = qualified_list(raw[field.value_at :], domain)
            if len(value) != len(raw) - field.value_at:
                raw = raw[: field.value_at] + value
                changed = True
        parts.append(raw)
    return b"".join(parts) if changed else block


def qualified_list(value: bytes, domain: bytes) -> bytes:
    """The same for the value of one field, folded or not."""
    parts = []
    done = 0
    for element in _elements(value):
        at = _bare_name_end(element)
        if at is not None:
            parts += [value[done:at], b"@", domain]
            done = at
    return b"".join([*parts, value[done:]]) if parts else value


def elements(value: bytes) -> Iterator[bytes]:
    """The value of a list of addresses, cut at the commas between them and at the marks of groups; blanks trimmed.

    Names of groups are not among them. What is cut can be read as an address by itself.
    """
    for element in _elements(value):
        yield value[element[0][1] : element[-1][2]]


def is_field_line(line: bytes) -> bool:
    """True when a line can open a header field: a name, perhaps blanks, a colon (RFC 5322 section 2.2)."""
    name, colon, _ = line.partition(b":")
    return bool(colon) and field_from(line).is_found and not name[:1].isspace()


def _elements(value: bytes) -> Iterator[list[Token]]:
    element: list[Token] = []
    in_angle = False
    for token in _tokens(value):
        kind = token[0]
        if kind in {"<", ">"}:
            in_angle = kind == "<"
        if in_angle or kind not in {",", ":", ";"}:
            element.append(token)
            continue
        if kind != ":" and (trimmed := _trimmed(element)):
            yield trimmed
        element = []
    if trimmed := _trimmed(element):
        yield trimmed


def _tokens(value: bytes) -> Iterator[Token]:
    at = 0
    while at < len(value):
        if value[at : at + 1] == b"(":
            end = _comment_end(value, at)
            yield "comment", at, end
        else:
            match = _TOKEN.match(value, at)
            assert match is not None  # noqa: S101 - the last alternative takes any octet
            end = match.end()
            kind = match.lastgroup or ""
            yield (match.group().decode("latin-1") if kind == "special" else kind), at, end
        at = end


def _comment_end(value: bytes, at: int) -> int:
    """Where a comment ends; one that does not end takes all the rest."""
    depth = 0
    while at < len(value):
        octet = value[at]
        if octet in b"()":
            depth += 1 if octet == 40 else -1
            at += 1
            if not depth:
                return at
        else:
            match = _COMMENT_PART.match(value, at)
            at = match.end() if match is not None else len(value)
    return at


def _trimmed(element: list[Token]) -> list[Token]:
    start, end = 0, len(element)
    while start < end and element[start][0] == "blank":
        start += 1
    while start < end and element[end - 1][0] == "blank":
        end -= 1
    return element[start:end]


def _bare_name_end(element: list[Token]) -> int | None:
    """Where a domain is missing: behind the only word of the address. None when nothing is missing, or more."""
    kinds = [kind for kind, _, _ in element]
    if "<" in kinds:
        start = kinds.index("<") + 1
        if ">" not in kinds[start:]:
            return None
        element = element[start : start + kinds[start:].index(">")]
    words = [token for token in element if token[0] not in {"blank", "comment"}]
    if len(words) != 1 or words[0][0] not in {"atom", "quoted"}:
        return None
    return words[0][2]


__all__ = ["ADDRESS_FIELDS", "elements", "is_field_line", "qualified", "qualified_list"]
