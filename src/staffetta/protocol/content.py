"""Content on its way out: the last guard against bare line ends, dot stuffing, and the end of data.

RFC 5321 sections 2.3.8 (CR and LF only together), 4.5.2 (transparency), 4.1.1.4 (CRLF is supplied where missing);
RFC 3030 section 2. The guard repairs nothing: what would need repair here went wrong long before, and a repaired
message would not be the one that was signed.
"""

from __future__ import annotations

import re
from typing import Final

END_OF_DATA: Final = b".\r\n"

# Each begins with one octet that the search leaps to, so that a pass costs a third of counting pairs.
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_BARE_LF: Final = re.compile(rb"\n(?<!\r\n)")
_BARE_LF_OR_DOT: Final = re.compile(rb"\n(?:(?<!\r\n)|\.)")


class BareLineEnd(Exception):
    """The content holds a CR without LF, a LF without CR, or a NUL: it must not leave."""


def wrap(content: bytes) -> bytes:
    """The whole of a small message as it goes over the wire after 354, terminator included. Raises BareLineEnd."""
    if _BARE_CR.search(content) or b"\0" in content:
        raise BareLineEnd
    if _BARE_LF_OR_DOT.search(content):
        if _BARE_LF.search(content):
            raise BareLineEnd
        content = content.replace(b"\r\n.", b"\r\n..")
    if content.startswith(b"."):
        content = b"." + content
    if content.endswith(b"\r\n") or not content:
        return content + END_OF_DATA
    return content + b"\r\n" + END_OF_DATA


class LineGuard:
    """Looks at content chunk by chunk, at any split: `check` each, then `finish`."""

    __slots__ = ("after_cr", "at_line_start")

    def __init__(self) -> None:
        self.after_cr = False
        self.at_line_start = True

    def check(self, chunk: bytes) -> None:
        """Raises BareLineEnd. `chunk` must not be empty."""
        pairs = chunk.count(b"\r\n")
        first = 1 if self.after_cr else 0
        ends_in_cr = chunk[-1] == 13
        if (
            (first and chunk[0] != 10)
            or chunk.count(b"\n") != pairs + first
            or chunk.count(b"\r") != pairs + ends_in_cr
            or b"\0" in chunk
        ):
            raise BareLineEnd
        self.at_line_start = chunk[-2:] == b"\r\n" or (first == 1 and chunk == b"\n")
        self.after_cr = ends_in_cr

    def finish(self) -> bytes:
        """What is missing for the content to end in a line end. Raises BareLineEnd."""
        if self.after_cr:
            raise BareLineEnd
        return b"" if self.at_line_start else b"\r\n"


class Stuffer:
    """Dot stuffing of content that comes in chunks, behind the guard."""

    __slots__ = ("_guard",)

    def __init__(self) -> None:
        self._guard = LineGuard()

    def feed(self, chunk: bytes) -> bytes:
        """The chunk as it goes over the wire. Raises BareLineEnd before anything of it was returned."""
        if not chunk:
            return chunk
        guard = self._guard
        at_line_start, after_cr = guard.at_line_start, guard.after_cr
        guard.check(chunk)
        stuffed = chunk.replace(b"\r\n.", b"\r\n..") if b"\r\n." in chunk else chunk
        if at_line_start and chunk[0] == 46:
            return b"." + stuffed
        if after_cr and chunk[:2] == b"\n.":
            return b"\n." + stuffed[1:]
        return stuffed

    def finish(self) -> bytes:
        """The terminator, with the line end before it where the content lacks one. Raises BareLineEnd."""
        return self._guard.finish() + END_OF_DATA
