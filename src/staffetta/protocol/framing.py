"""Where a command line, a message and a chunk end: the only place of the server side that looks for line ends.

RFC 5321 sections 2.3.8 (only CRLF ends a line), 4.1.1.4 (only CRLF.CRLF ends DATA), 4.5.2 (transparency),
4.5.3.1 (sizes); RFC 3030 (BDAT counts octets). What comes out does not depend on how the octets were split.
This module refuses to know commands and replies.
"""

from __future__ import annotations

from enum import StrEnum
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
_NOT_LINE_ENDS: Final = bytes(set(range(256)) - {0, 10, 13})
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
        "_buffer",
        "_dropped",
        "_later",
        "_later_octets",
        "_tainted",
        "data_ended",
        "line_start",
        "opening",
    )

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._later: list[bytes] | None = None
        self._later_octets = 0
        self._dropped = 0
        self._tainted = False
        self.opening = b""
        """The first octets of the line that had a fault."""
        self.line_start = True
        self.data_ended = False

    def receive(self, data: bytes) -> None:
        """Append. Cheap, however often it is called before anything is used."""
        if self._at == len(self._buffer):
            self._buffer = data
            self._at = 0
        elif self._later is None:
            self._later = [data]
            self._later_octets = len(data)
        else:
            self._later.append(data)
            self._later_octets += len(data)

    @property
    def octets(self) -> int:
        """How much is waiting."""
        return len(self._buffer) - self._at + self._later_octets

    def gather(self) -> None:
        """Make all that was received available to the next call of `line`, `data` or `chunk`."""
        if self._later is not None:
            self._buffer = b"".join([self._buffer[self._at :], *self._later])
            self._at = 0
            self._later = None
            self._later_octets = 0

    def compact(self) -> None:
        """Let go of what was used, so that an idle connection keeps nothing."""
        if self._at:
            self._buffer = self._buffer[self._at :]
            self._at = 0

    def clear(self) -> None:
        """Forget everything that waits."""
        self._buffer = b""
        self._at = 0
        self._later = None
        self._later_octets = 0

    def peek(self) -> int:
        """The next octet, -1 when there is none."""
        return self._buffer[self._at] if self._at < len(self._buffer) else -1

    # Command lines.

    def line(self, limit: int = 0) -> str | LineFault | None:
        """The next line without its CRLF, all printable; a fault; None when more octets are needed.

        `limit` is in octets with the CRLF; 0 is that of commands (longer for AUTH). A bare LF is answered at once, so
        that a client that knows no CR is not left waiting, but the line goes on to its CRLF and is never executed.
        """
        buffer, at = self._buffer, self._at
        if at == len(buffer):
            return None
        end = buffer.find(b"\n", at)
        if end < 0:
            return self._unfinished_line(limit)
        size = end + 1 - at
        self._at = end + 1
        if self._dropped or self._tainted or size > COMMAND_LINE_OCTETS or size == 1 or buffer[end - 1] != _CR:
            fault = self._odd_line(at, end, limit)
            if fault is not None:
                return fault
            if self._tainted:
                self._tainted = False
                return self.line(limit)
        try:
            text = buffer[at : end - 1].decode()
        except UnicodeDecodeError:
            self._remember_opening(at, end - 1)
            return LineFault.NOT_UTF8
        if text.isprintable():
            return text
        self._remember_opening(at, end - 1)
        if "\0" in text:
            return LineFault.NUL
        return LineFault.BARE_CR if "\r" in text else LineFault.CONTROL

    def _remember_opening(self, at: int, end: int) -> None:
        self.opening = self._buffer[at : min(at + OPENING_OCTETS, end)]

    def _odd_line(self, at: int, end: int, limit: int) -> LineFault | None:
        """A line end was found, but something is unusual about the line before it."""
        dropped, self._dropped = self._dropped, 0
        size = dropped + end + 1 - at
        if not dropped:
            self._remember_opening(at, end)
        if end == at or self._buffer[end - 1] != _CR:
            self._tainted = True
            return LineFault.ENDLESS if size > ENDLESS_LINE_OCTETS else LineFault.BARE_LF
        if size > ENDLESS_LINE_OCTETS:
            return LineFault.ENDLESS
        if self._tainted:
            return None
        return LineFault.TOO_LONG if size > (limit or self._command_limit(at)) else None

    def _unfinished_line(self, limit: int) -> LineFault | None:
        size = len(self._buffer) - self._at
        if self._dropped + size >= ENDLESS_LINE_OCTETS:
            return LineFault.ENDLESS
        if not self._dropped and size < (limit or self._command_limit(self._at)):
            return None
        if size > 1:
            if not self._dropped:
                self._remember_opening(self._at, len(self._buffer))
            # The last octet stays: it may be the CR of the CRLF to come.
            self._dropped += size - 1
            self._buffer = self._buffer[-1:]
            self._at = 0
        return None

    def _command_limit(self, at: int) -> int:
        return AUTH_LINE_OCTETS if self._buffer[at : at + 5].upper() == b"AUTH " else COMMAND_LINE_OCTETS

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
        buffer, at = self._buffer, self._at
        size = len(buffer)
        if at == size:
            return None
        start = at
        if self.line_start and buffer[at] == _DOT:
            if buffer.startswith(b".\r\n", at):
                self._at = at + 3
                self.data_ended = True
                return b""
            if size - at == 1 or (size - at == 2 and buffer[at + 1] == _CR):
                return None
            start += 1
        dot = buffer.find(b"\r\n.", start)
        if dot < 0:
            stop = size - 1 if buffer[-1] == _CR else size
            if stop == at:
                return None
            return self._stretch(start, stop)
        if buffer.startswith(b"\r\n", dot + 3):
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
        self._at = end + 5
        self.data_ended = True
        return self._buffer[start : end + 2]

    def _stretch(self, start: int, stop: int) -> bytes:
        self._at = stop
        stretch = self._buffer[start:stop]
        self.line_start = stretch[-2:] == b"\r\n"
        return stretch

    def chunk(self, octets: int) -> bytes:
        """At most `octets` of what is there, as it came."""
        at = self._at
        taken = self._buffer[at : at + octets]
        self._at = at + len(taken)
        return taken


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
        # As many CRs and LFs (and NULs) as there are in all the CRLF pairs: then there are no others.
        if len(stretch.translate(None, _NOT_LINE_ENDS)) != 2 * stretch.count(b"\r\n"):
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
        pairs = stretch.count(b"\r\n")
        if stretch.count(b"\n") != pairs or stretch.count(b"\r") != pairs:
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


def normalise_line_ends(content: bytes) -> bytes:
    """Every CRLF, bare CR and bare LF as CRLF."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
