"""Octets made fit to travel in a part of a message: line lengths, quoted-printable, text that stays on its line.

RFC 5322 section 2.1.1 (998 octets a line), RFC 2045 section 6.7 (quoted-printable).
"""

from __future__ import annotations

import re
from typing import Final

LINE_OCTETS: Final = 998
"""Longest line without its CRLF, RFC 5322 section 2.1.1."""

_QP_LINE: Final = 76
_ENCODED: Final = tuple(b"=%02X" % octet for octet in range(256))
_NOT_QP = re.compile(rb"[^\t -<>-~]")
_NOT_ON_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^ -~]")


def travels(data: bytes) -> bool:
    """True when `data` can go through any mail server as it is, but for octets with the high bit set: only CRLF ends
    a line, no NUL, no line too long."""
    ends = data.count(b"\r\n")
    if data.count(b"\r") != ends or data.count(b"\n") != ends or b"\0" in data:
        return False
    return len(data) <= LINE_OCTETS or max(map(len, data.split(b"\r\n"))) <= LINE_OCTETS


def quoted_printable(data: bytes) -> bytes:
    """`data` in quoted-printable; its CRLFs stay line ends, everything else that is not printable is encoded."""
    return b"\r\n".join(map(_quoted_line, data.split(b"\r\n")))


def _quoted_line(line: bytes) -> bytes:
    text = _NOT_QP.sub(lambda match: _ENCODED[match.group()[0]], line)
    if text[-1:] in {b" ", b"\t"}:
        text = text[:-1] + _ENCODED[text[-1]]
    if len(text) <= _QP_LINE:
        return text
    lines: list[bytes] = []
    at = 0
    while len(text) - at > _QP_LINE:
        end = at + _QP_LINE - 1
        # An encoded octet is not cut in two.
        mark = text.find(b"=", end - 2, end)
        end = end if mark < 0 else mark
        lines.append(text[at:end] + b"=")
        at = end
    lines.append(text[at:])
    return b"\r\n".join(lines)


def on_one_line(text: str, *, utf8: bool, limit: int) -> str:
    """`text` as it may stand inside a line: no control characters, no line ends of any kind; cut to `limit`
    characters; ASCII only unless `utf8`. What cannot stay becomes `?`, a tab becomes a space."""
    text = text[:limit].replace("\t", " ")
    return (_NOT_ON_A_LINE if utf8 else _NOT_ASCII).sub("?", text)


def pieces(text: str, octets: int) -> list[str]:
    """`text` cut into pieces of at most `octets` octets of UTF-8, at spaces where there are any; none is blank."""
    found: list[str] = []
    rest = text.strip(" ")
    while len(rest.encode()) > octets:
        head = rest.encode()[:octets].decode("utf-8", "ignore")
        space = head.rfind(" ")
        end = space if space > 0 else len(head)
        found.append(head[:end].rstrip(" "))
        rest = rest[end:].lstrip(" ")
    if rest:
        found.append(rest)
    return found


__all__ = ["LINE_OCTETS", "on_one_line", "pieces", "quoted_printable", "travels"]
