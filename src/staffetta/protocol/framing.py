"""Where a command line, a message and a chunk end: the only place of the server side that looks for line ends.

RFC 5321 sections 2.3.8 (only CRLF ends a line), 4.1.1.4 (only CRLF.CRLF ends DATA), 4.5.2 (transparency),
4.5.3.1 (sizes); RFC 3030 (BDAT counts octets). What comes out does not depend on how the octets were split.
This module refuses to know commands and replies.
"""

from __future__ import annotations

import re
from enum import StrEnum
from io import IncrementalNewlineDecoder
from typing import Final

COMMAND_LINE_OCTETS: Final = 2048
"""Longest command line with its CRLF: 512 (RFC 5321 section 4.5.3.1.4) and room for all parameters."""

AUTH_LINE_OCTETS: Final = 12288
"""Longest line of an AUTH exchange with its CRLF, RFC 4954 section 4."""

ENDLESS_LINE_OCTETS: Final = 65536
"""A command line that is thrown away is followed this far; then the session is over."""

CONTENT_LINE_OCTETS: Final = 65536
"""Longest line of content without its CRLF. RFC 5321 section 4.5.3.1.6 asks for 1000; real mail has more."""

OPENING_OCTETS: Final = 16
"""So much of a faulty line is remembered, to tell who is speaking."""

_END_OF_DATA: Final = b"\r\n.\r\n"
_END_OF_DATA_OCTETS: Final = len(_END_OF_DATA)
_DOT_LINE = re.compile(rb"\r\n\.(?:\r\n)?")  # a search for it is faster than `find` of three octets
_NUL: Final = 0
_CR: Final = 13
_DOT: Final = 46


class LineFault(StrEnum):
    """Why a command line is not one. The line was consumed and nothing of it may be executed."""

    BARE_LF = "bare_lf"
    BARE_CR = "bare_cr"
    NUL = "nul"
    CONTROL = "control_character"
    NOT_UTF8 = "not_utf8"
    TOO_LONG = "line_too_long"
    ENDLESS = "endless_line"


class ContentProblem(StrEnum):
    """Why content cannot be accepted; the most important one when there are several."""

    TOO_BIG = "too_big"
    LINE_TOO_LONG = "line_too_long"
    BARE_LINE_ENDING = "bare_line_ending"
    NUL = "nul"


class Inbox:
    """Received octets that nobody used yet, and the three ways to use them: as lines, as DATA, as a chunk."""

    __slots__ = (
        "_at",
        "_dropped",
        "_later_octets",
        "_tainted",
        "buffer",
        "data_ended",
        "later",
        "line_start",
        "opening",
    )

    def __init__(self) -> None:
        self.buffer = b""
        """What can be used now; empty as soon as all of it was."""
        self.later: list[bytes] | None = None
        """What came behind it: `gather` makes it available."""
        self._at = 0
        self._later_octets = 0
        self._dropped = 0
        self._tainted = False
        self.opening = b""
        """The first octets of the line that had a fault."""
        self.line_start = True
        self.data_ended = False

    def receive(self, data: bytes) -> None:
        """Append. Cheap, however often it is called before anything is used."""
        if not self.buffer:
            self.buffer = data
        elif self.later is None:
            self.later = [data]
            self._later_octets = len(data)
        else:
            self.later.append(data)
            self._later_octets += len(data)

    @property
    def octets(self) -> int:
        """How much is waiting."""
        return len(self.buffer) - self._at + self._later_octets

    def gather(self) -> None:
        """Make all that was received available to the next call of `line`, `data` or `chunk`."""
        if self.later is not None:
            self.buffer = b"".join([self.buffer[self._at :], *self.later])
            self._at = 0
            self.later = None
            self._later_octets = 0

    def compact(self) -> None:
        """Let go of what was used, so that a connection that waits for the rest of a line keeps nothing else."""
        if self._at:
            self.buffer = self.buffer[self._at :]
            self._at = 0

    def _use(self, end: int) -> None:
        """What stands before `end` was used."""
        if end == len(self.buffer):
            self.buffer = b""
            self._at = 0
        else:
            self._at = end

    def clear(self) -> None:
        """Forget everything that waits."""
        self.buffer = b""
        self.later = None
        self._at = 0
        self._later_octets = 0

    def peek(self) -> int:
        """The next octet, -1 when there is none."""
        return self.buffer[self._at] if self.buffer else -1

    # Command lines.

    def line(self, limit: int = 0) -> str | LineFault | None:
        """The next line without its CRLF, all printable; a fault; None when more octets are needed.

        `limit` is in octets with the CRLF; 0 is that of commands (longer for AUTH). A bare LF is answered at once, so
        that a client that knows no CR is not left waiting, but the line goes on to its CRLF and is never executed.
        """
        buffer, at = self.buffer, self._at
        end = buffer.find(b"\n", at) + 1
        if not end:
            return self._unfinished_line(limit) if buffer else None
        line = buffer[at:end]
        if end == len(buffer):  # `_use` in place: this is met at every command
            self.buffer = b""
            self._at = 0
        else:
            self._at = end
        if len(line) > COMMAND_LINE_OCTETS or line[-2:] != b"\r\n" or self._dropped or self._tainted:
            fault = self._odd_line(line, limit)
            if fault is not None:
                return fault
            if self._tainted:
                self._tainted = False
                return self.line(limit)
        try:
            text = line[:-2].decode()
        except UnicodeDecodeError:
            self._remember_opening(line[:-2])
            return LineFault.NOT_UTF8
        if text.isprintable():
            return text
        self._remember_opening(line[:-2])
        if "\0" in text:
            return LineFault.NUL
        return LineFault.BARE_CR if "\r" in text else LineFault.CONTROL

    def _remember_opening(self, line: bytes) -> None:
        self.opening = line[:OPENING_OCTETS]

    def _odd_line(self, line: bytes, limit: int) -> LineFault | None:
        """A line end was found, but something is unusual about the line before it."""
        dropped, self._dropped = self._dropped, 0
        size = dropped + len(line)
        if not dropped:
            self._remember_opening(line[:-1])
        if line[-2:] != b"\r\n":
            self._tainted = True
            return LineFault.ENDLESS if size > ENDLESS_LINE_OCTETS else LineFault.BARE_LF
        if size > ENDLESS_LINE_OCTETS:
            return LineFault.ENDLESS
        if self._tainted:
            return None
        return LineFault.TOO_LONG if size > (limit or _command_limit(line[:5])) else None

    def _unfinished_line(self, limit: int) -> LineFault | None:
        at = self._at
        size = len(self.buffer) - at
        if self._dropped + size >= ENDLESS_LINE_OCTETS:
            return LineFault.ENDLESS
        if not self._dropped and size < (limit or _command_limit(self.buffer[at : at + 5])):
            return None
        if size > 1:
            if not self._dropped:
                self._remember_opening(self.buffer[at : at + OPENING_OCTETS])
            # The last octet stays: it may be the CR of the CRLF to come.
            self._dropped += size - 1
            self.buffer = self.buffer[-1:]
            self._at = 0
        return None

    # Content.

    def begin_data(self) -> None:
        """What follows is the content of DATA."""
        self.line_start = True
        self.data_ended = False

    def data(self) -> bytes | None:
        """The next stretch of DATA content, stuffed dots removed; None when more octets are needed.

        `data_ended` becomes true with the last stretch, which may be empty. Line ends other than CRLF are left as
        they are: they neither end the message nor make a dot special. At most ".", ".CR" or "CR" is held back.
        """
        buffer, at = self.buffer, self._at
        if not buffer:
            return None
        size = len(buffer)
        start = at
        if self.line_start and buffer[at] == _DOT:
            if buffer.startswith(b".\r\n", at):
                self._use(at + 3)
                self.data_ended = True
                return b""
            if size - at == 1 or (size - at == 2 and buffer[at + 1] == _CR):
                return None
            start += 1
        dot_line = _DOT_LINE.search(buffer, start)
        if dot_line is None:
            stop = size - 1 if buffer[-1] == _CR else size
            if stop == at:
                return None
            return self._stretch(start, stop)
        dot, end = dot_line.span()
        if end - dot == _END_OF_DATA_OCTETS:
            return self._last_stretch(start, dot)
        end = buffer.find(_END_OF_DATA, dot)
        if end >= 0:
            return self._last_stretch(start, end).replace(b"\r\n.", b"\r\n")
        if buffer[-1] == _CR:
            stop = size - 2 if buffer.endswith(b"\r\n.\r", start) else size - 1
        else:
            stop = size - 1 if buffer.endswith(b"\r\n.", start) else size
        return self._stretch(start, stop).replace(b"\r\n.", b"\r\n")

    def _last_stretch(self, start: int, end: int) -> bytes:
        stretch = self.buffer[start : end + 2]
        self._use(end + _END_OF_DATA_OCTETS)
        self.data_ended = True
        return stretch

    def _stretch(self, start: int, stop: int) -> bytes:
        stretch = self.buffer[start:stop]
        self._use(stop)
        self.line_start = stretch[-2:] == b"\r\n"
        return stretch

    def chunk(self, octets: int) -> bytes:
        """At most `octets` of what is there, as it came."""
        at = self._at
        taken = self.buffer[at : at + octets]
        self._use(at + len(taken))
        return taken


def _command_limit(opening: bytes) -> int:
    return AUTH_LINE_OCTETS if opening.upper() == b"AUTH " else COMMAND_LINE_OCTETS


class ContentFilter:
    """What a message may consist of, the same for DATA and BDAT, across every border of stretches and chunks.

    `normalise`: a bare CR or LF becomes CRLF and NUL is dropped; otherwise they are a problem. The end of DATA was
    found before, on the octets as they came, so nothing that is made here can end a message.
    """

    __slots__ = ("_carried_cr", "_limit", "_line_octets", "_normalise", "_problems", "octets")

    def __init__(self, limit: int, *, normalise: bool) -> None:
        self._limit = limit
        self._normalise = normalise
        self._carried_cr = False
        self._line_octets = 0
        self._problems: set[ContentProblem] | None = None
        self.octets = 0
        """Content so far, after normalising."""

    @property
    def problem(self) -> ContentProblem | None:
        """The first in the order of ContentProblem, whatever came first; so the splits do not matter."""
        if self._problems is None:
            return None
        return next(problem for problem in ContentProblem if problem in self._problems)

    def add_problem(self, problem: ContentProblem) -> None:
        """Nothing is handed on any more."""
        if self._problems is None:
            self._problems = set()
        self._problems.add(problem)

    def take(self, stretch: bytes) -> bytes:
        """The stretch as it may be kept; empty when there is nothing to keep, or a problem was found."""
        if self._carried_cr:
            stretch = b"\r" + stretch
            self._carried_cr = False
        if stretch[-1:] == b"\r":
            self._carried_cr = True
            stretch = stretch[:-1]
        if _NUL in stretch or has_bare_line_end(stretch):
            stretch = self._odd_stretch(stretch)
        octets = len(stretch)
        self.octets += octets
        if self._line_octets + octets <= CONTENT_LINE_OCTETS:
            self._line_octets = octets - 1 - end if (end := stretch.rfind(b"\n")) >= 0 else self._line_octets + octets
        else:
            self._measure_lines(stretch)
        if self.octets > self._limit:
            self.add_problem(ContentProblem.TOO_BIG)
        return stretch if self._problems is None else b""

    def _odd_stretch(self, stretch: bytes) -> bytes:
        if self._normalise:
            # NUL goes last: a NUL between CR and LF makes two bare line ends of them, at every split.
            return normalise_line_ends(stretch).replace(b"\0", b"")
        if b"\0" in stretch:
            self.add_problem(ContentProblem.NUL)
        if has_bare_line_end(stretch):
            self.add_problem(ContentProblem.BARE_LINE_ENDING)
        return stretch

    def _measure_lines(self, stretch: bytes) -> None:
        # `begin` is where the current line begins, before the stretch when it is negative.
        begin = -self._line_octets
        size = len(stretch)
        while size - begin > CONTENT_LINE_OCTETS:
            # A line may hold CONTENT_LINE_OCTETS before its CRLF.
            end = stretch.rfind(b"\n", max(begin, 0), max(begin + CONTENT_LINE_OCTETS + 2, 0))
            if end < 0:
                if size - begin >= CONTENT_LINE_OCTETS + 2:
                    self.add_problem(ContentProblem.LINE_TOO_LONG)
                break
            begin = end + 1
        end = stretch.rfind(b"\n")
        # After a line that is too long only "not at a line start" has to be remembered.
        self._line_octets = min(size - (end + 1 if end >= 0 else begin), CONTENT_LINE_OCTETS + 1)

    def finish(self) -> bytes:
        """The end of the message: what is missing for the content to end in CRLF."""
        if self._line_octets > CONTENT_LINE_OCTETS:
            self.add_problem(ContentProblem.LINE_TOO_LONG)
        if self._carried_cr:
            self._carried_cr = False
            self._line_octets += 1
            if not self._normalise:
                self.add_problem(ContentProblem.BARE_LINE_ENDING)
                self.octets += 1
        if not self._line_octets:
            return b""
        self._line_octets = 0
        self.octets += 2
        if self.octets > self._limit:
            self.add_problem(ContentProblem.TOO_BIG)
        return b"\r\n" if self._problems is None else b""


def has_bare_line_end(content: bytes) -> bool:
    """True when a CR stands without LF behind it, or a LF without CR before it; also at either end of `content`.

    The decoder notes which line ends it saw, in one pass. Counting them and their pairs takes three times as long.
    """
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(content.decode("latin-1"), final=True)
    return decoder.newlines not in {None, "\r\n"}


def normalise_line_ends(content: bytes) -> bytes:
    """Every CRLF, bare CR and bare LF as CRLF."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
