"""Replies of a server, read from bytes at any split, bounded in every direction. RFC 5321 sections 4.2, 4.5.3.1.5.

The text is kept as the peer said it, because it goes into notifications, with one exception: characters that could
break a line or deceive a reader become `?`. What is not a reply raises ReplyError, and the session is over: after
garbage nobody knows which command the next reply would answer.
This module refuses to know commands.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from staffetta.mail.reply import EnhancedStatus, Reply, split_enhanced

LINE_OCTETS: Final = 2048
"""How much of a reply line is kept; RFC 5321 section 4.5.3.1.5 allows 512, real servers send more. The rest is cut."""

REPLY_LINES: Final = 100
"""Most lines of one reply."""

REPLY_OCTETS: Final = 65536
"""Most octets of one reply, what was cut included."""

_CACHED_OCTETS: Final = 48
"""Lines up to this length are remembered: they are the same few in every session."""

_CODES: Final = {b"%d" % code: code for code in range(200, 600)}
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class ReplyError(Exception):
    """What the server sent is not a reply; the message says why, without echoing it."""


class ReplyReader:
    """Give it octets with `feed`, take replies with `next`."""

    __slots__ = ("_at", "_buffer", "_code", "_octets", "_skipped", "_texts")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._skipped = 0
        self._octets = 0
        self._code = 0
        self._texts: list[str] | None = None

    @property
    def pending(self) -> bool:
        """True when octets are left that no reply has used up."""
        return self._at < len(self._buffer) or self._texts is not None

    def feed(self, data: bytes) -> None:
        """More octets from the server."""
        at = self._at
        self._buffer = data if at == len(self._buffer) else self._buffer[at:] + data
        self._at = 0

    def next(self) -> Reply | None:
        """The next complete reply, None when more octets are needed. Raises ReplyError."""
        while True:
            buffer = self._buffer
            at = self._at
            end = buffer.find(b"\n", at)
            if end < 0:
                self._keep_partial_line()
                return None
            self._at = end + 1
            line = buffer[at : end - 1] if end > at and buffer[end - 1] == 13 else buffer[at:end]
            if self._texts is None and len(line) <= _CACHED_OCTETS and line[3:4] == b" ":
                return _single(line)
            reply = self._take(line, end + 1 - at)
            if reply is not None:
                return reply

    def _keep_partial_line(self) -> None:
        size = len(self._buffer) - self._at
        if self._octets + self._skipped + size > REPLY_OCTETS:
            raise ReplyError("a reply is too long")
        # One octet more than is kept, so that a CR at the very end of a full line is still seen as its end.
        if size > LINE_OCTETS + 1:
            self._skipped += size - LINE_OCTETS - 1
            self._buffer = self._buffer[self._at : self._at + LINE_OCTETS + 1]
            self._at = 0

    def _take(self, line: bytes, octets: int) -> Reply | None:
        """One line without its end; the reply when it is the last."""
        self._octets += octets + self._skipped
        self._skipped = 0
        if self._octets > REPLY_OCTETS:
            raise ReplyError("a reply is too long")
        code, last = _code_of(line)
        texts = self._texts
        if texts is None:
            self._code = code
            self._texts = texts = []
        elif code != self._code:
            raise ReplyError("a reply changes its code between lines")
        elif len(texts) >= REPLY_LINES:
            raise ReplyError("a reply has too many lines")
        texts.append(_safe_text(line[4:LINE_OCTETS]))
        if not last:
            return None
        self._texts = None
        self._octets = 0
        return _reply(code, texts)


@lru_cache(maxsize=512)
def _single(line: bytes) -> Reply:
    code, _ = _code_of(line)
    return _reply(code, [_safe_text(line[4:])])


def _code_of(line: bytes) -> tuple[int, bool]:
    code = _CODES.get(line[:3])
    mark = line[3:4]
    if code is None or mark not in {b" ", b"-", b""}:
        raise ReplyError("a line does not begin with a reply code")
    return code, mark != b"-"


def _reply(code: int, texts: list[str]) -> Reply:
    """Take the enhanced status out, where there is one of the code's own class (RFC 2034 section 4)."""
    enhanced, rest = _own_status(code, texts[0])
    if enhanced is None:
        return Reply(code, None, tuple(texts))
    lines = [rest]
    for text in texts[1:]:
        status, rest = _own_status(code, text)
        lines.append(rest if status == enhanced else text)
    return Reply(code, enhanced, tuple(lines))


def _own_status(code: int, text: str) -> tuple[EnhancedStatus | None, str]:
    status, rest = split_enhanced(text)
    return (status, rest) if status is not None and status.kind == code // 100 else (None, text)


def _safe_text(octets: bytes) -> str:
    text = octets.decode("utf-8", "replace")
    if text.isascii() and text.isprintable():
        return text
    return "".join([_safe_character(character) for character in text])


def _safe_character(character: str) -> str:
    if character == "\t":
        return " "
    return "?" if unicodedata.category(character) in _UNSAFE else character
