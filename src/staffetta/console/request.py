"""What comes in and goes out at the console's port, as values, and which heads of requests are turned away.

RFC 9110, RFC 9112. h11 has judged the syntax before; this judges what it leaves open: which methods and names exist
here, how much may come, and framing that two programs could read differently, which is refused instead of guessed.
Nothing that a client sent is ever repeated to it in a refusal.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

import msgspec

LARGEST_HEAD_OCTETS: Final = 16 * 1024
"""Octets of request line and header fields."""

LONGEST_TARGET_OCTETS: Final = 2048
"""Octets of a path with its query."""

LARGEST_BODY_OCTETS: Final = 16 * 1024
"""Octets of a body: an autodiscover request has some 300."""

MOST_FIELDS: Final = 64
"""Header fields of a request; browsers behind two proxies send 30."""

MOST_PARAMETERS: Final = 16
"""Parameters of a query."""

TEXT: Final = "text/plain; charset=utf-8"
XML: Final = "text/xml; charset=utf-8"

METHODS: Final = frozenset({"GET", "HEAD", "POST"})

_HOST: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,255})(?::[0-9]{1,5})?")

Fields = list[tuple[bytes, bytes]]
"""Header fields as h11 gives them: names in lower case."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request. `host` is the name it was sent to, in lower case, without port and brackets; "" when none was named,
    as HTTP/1.0 allows. `parameters` are those of the query, the first of each name."""

    method: str
    path: str
    host: str = ""
    parameters: dict[str, str] = {}
    body: bytes = b""


class Response(msgspec.Struct, frozen=True, gc=False):
    """One answer. `fields` go behind those that every answer has."""

    status: int
    body: bytes
    kind: str = TEXT
    fields: tuple[tuple[str, str], ...] = ()


def sentence(status: int, text: str, *fields: tuple[str, str]) -> Response:
    """An answer in words."""
    return Response(status, text.encode() + b"\n", TEXT, fields)


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of a request that may go on; `octets` of a body follow."""

    request: Request
    octets: int


def judge(method: bytes, target: bytes, fields: Fields) -> Head | Response:
    """The head, or why it is turned away. Total."""
    verb = method.decode("ascii", "replace")
    if verb not in METHODS:
        return sentence(405, "only GET, HEAD and POST exist here", ("Allow", "GET, HEAD, POST"))
    if len(target) > LONGEST_TARGET_OCTETS:
        return sentence(414, "the path is too long")
    if len(fields) > MOST_FIELDS or sum([len(name) + len(value) for name, value in fields]) > LARGEST_HEAD_OCTETS:
        return sentence(431, "too many header fields, or too large ones")
    if not target.startswith(b"/") or not target.isascii():
        return sentence(400, "a path is needed")
    host = _host(fields)
    if host is None:
        return sentence(400, "the Host field is no name")
    octets = _body_octets(verb, fields)
    if isinstance(octets, Response):
        return octets
    path, _, query = target.decode("ascii").partition("?")
    parameters = _parameters(query)
    if parameters is None:
        return sentence(400, "the query cannot be read")
    return Head(Request(verb, path, host, parameters), octets)


def _host(fields: Fields) -> str | None:
    """The name; "" without the field, None for what is no name. h11 refuses two, and none in HTTP/1.1."""
    values = [value for name, value in fields if name == b"host"]
    if not values:
        return ""
    match = _HOST.fullmatch(values[0].decode("latin-1").lower()) if values[0].isascii() else None
    return match[1].strip("[]").rstrip(".") if match is not None else None


def _body_octets(verb: str, fields: Fields) -> int | Response:
    """How much follows. Chunks are not taken: with one way to say where a body ends there is nothing to smuggle in."""
    names = [name for name, _ in fields]
    lengths = {value for name, value in fields if name == b"content-length"}
    if b"transfer-encoding" in names:
        return sentence(400 if lengths else 411, "say the length of the body with Content-Length")
    if len(lengths) > 1:
        return sentence(400, "two lengths of one body")
    text = lengths.pop() if lengths else b""
    if not text:
        return sentence(411, "say the length of the body with Content-Length") if verb == "POST" else 0
    if not (text.isascii() and text.isdigit()):
        return sentence(400, "the length of the body is no number")
    octets = LARGEST_BODY_OCTETS + 1 if len(text) > 9 else int(text)
    if verb != "POST" and octets:
        return sentence(400, "only POST has a body")
    return octets if octets <= LARGEST_BODY_OCTETS else sentence(413, "the body is too big")


def _parameters(query: str) -> dict[str, str] | None:
    try:
        pairs = parse_qsl(query, max_num_fields=MOST_PARAMETERS, errors="strict")
    except ValueError:
        return None
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found
