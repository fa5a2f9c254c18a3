"""Authentication-Results: writing ours, and taking out those that others wrote in our name.

RFC 8601 sections 2.2 (syntax), 2.7 (methods and results), 5 (removal of existing fields). Whatever comes from outside
stands in a quoted string from which nothing can break out.
This module refuses to know how a verdict was reached.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from staffetta.mail.domain import DomainError, parse_domain
from staffetta.message.header import Field, Header

NAME: Final = b"authentication-results"
VALUE_CHARACTERS: Final = 300
"""Longest value of a property or reason; longer ones are cut."""

REMARKS: Final = 16
"""Most remarks that are written."""

_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
_TOKEN_OR_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]*@?[A-Za-z0-9.-]+")
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_NOT_IN_COMMENT = re.compile(r"[^ -~]|[()\\]")
_ID = re.compile(r'[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;()"]++))', re.DOTALL)


class Property(msgspec.Struct, frozen=True, gc=False):
    """What was judged: `kind` is `smtp`, `header`, `body` or `policy`; `name` for example `mailfrom`, `d`, `from`."""

    kind: str
    name: str
    value: str


class MethodResult(msgspec.Struct, frozen=True, gc=False):
    """One method's verdict: `spf`, `dkim`, `dmarc`, `arc`, `iprev`, `auth`; `pass`, `fail`, `none` and so on."""

    method: str
    result: str
    reason: str = ""
    properties: tuple[Property, ...] = ()


def authentication_results(authserv_id: str, results: tuple[MethodResult, ...], remarks: tuple[str, ...] = ()) -> bytes:
    """The field, CRLF included; without results it says `none`. `remarks` are for people and stand in a comment at the
    end. Raises ValueError for keywords that are none (those are ours, never the peer's)."""
    parts = [f"Authentication-Results: {_value(authserv_id)}"]
    comment = _comment(remarks)
    if not results:
        return f"{parts[0]}; none{comment}\r\n".encode()
    for one in results:
        words = [f"{_keyword(one.method)}={_keyword(one.result)}"]
        if one.reason:
            words.append(f"reason={_quoted(one.reason)}")
        words += [f"{_keyword(p.kind)}.{_keyword(p.name)}={_value(p.value)}" for p in one.properties]
        parts.append(_folded(words))
    return (";\r\n\t".join(parts) + comment + "\r\n").encode()


def without_ours(header: Header, authserv_id: str) -> bytes:
    """The header block without the fields that claim to be ours; the same object when there are none.

    Fields whose author cannot be told go too (RFC 8601 section 5 allows it): they could be taken for ours.
    """
    if not header.shows(NAME):
        return header.block
    ours = comparable_id(authserv_id)
    return header.without(lambda field: field.name == NAME and claimed_id(field) in {ours, ""})


def claimed_id(field: Field) -> str:
    """The authserv-id of an Authentication-Results field in comparable form; "" when it cannot be told."""
    text = _without_comments(field.value.decode("utf-8", "replace"))
    match = _ID.match(text)
    if match is None:
        return ""
    quoted, plain = match.groups()
    if plain is not None:
        return comparable_id(plain)
    return comparable_id(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL).strip(" \t"))


def comparable_id(text: str) -> str:
    """Spellings of one authserv-id that somebody could take for the same become the same."""
    text = text.rstrip(".")
    try:
        return parse_domain(text).ascii
    except DomainError:
        return text.lower() if text.isascii() else text


def _without_comments(text: str) -> str:
    """`text` without comments outside quotes; they nest. An unfinished one takes the rest."""
    if "(" not in text:
        return text
    kept: list[str] = []
    depth = 0
    for piece in re.findall(r'"(?:[^"\\]|\\.)*+"|\\.|[()]|[^()"\\]++|["\\]', text, re.DOTALL):
        if piece == "(":
            depth += 1
        elif piece == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append(piece)
    return "".join(kept)


def _comment(remarks: tuple[str, ...]) -> str:
    """One remark a line, so that none makes a line too long."""
    said = [_NOT_IN_COMMENT.sub("?", one)[:VALUE_CHARACTERS] for one in remarks[:REMARKS]]
    return "\r\n\t(" + ";\r\n\t ".join(said) + ")" if said else ""


def _folded(words: list[str]) -> str:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) > 70:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return "\r\n\t ".join(lines)


def _keyword(text: str) -> str:
    if not _KEYWORD.fullmatch(text):
        raise ValueError("not a keyword of RFC 8601")
    return text


def _value(text: str) -> str:
    text = _NOT_PRINTABLE.sub("?", text)[:VALUE_CHARACTERS]
    return text if _TOKEN_OR_ADDRESS.fullmatch(text) or _TOKEN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    text = _NOT_PRINTABLE.sub("?", text)[:VALUE_CHARACTERS]
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


__all__ = [
    "MethodResult",
    "Property",
    "authentication_results",
    "claimed_id",
    "comparable_id",
    "without_ours",
]
