"""An SMTP reply: code, enhanced status, text. RFC 5321 section 4.2, RFC 3463, RFC 2034.

The text is for the peer only. The operator's reason is a separate field of the event, never mixed in here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?= |$)")
_NOT_TEXT = re.compile(r"[^\t\x20-\x7e]")
REPLY_TEXT_OCTETS: Final = 500
"""Longest text of one reply line of ours; RFC 5321 section 4.5.3.1.5 allows 512 octets for the whole line."""


class EnhancedStatus(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """`class.subject.detail` of RFC 3463."""

    kind: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.kind}.{self.subject}.{self.detail}"


class Reply(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One reply. `lines` are texts without code, enhanced status or line ends; there is at least one."""

    code: int
    enhanced: EnhancedStatus | None
    lines: tuple[str, ...]

    def __str__(self) -> str:
        """The reply on one line, as it stands in events and in the queue: `550 5.1.1 no such user`."""
        return f"{_beginning(self.code, self.enhanced)} {' '.join(self.lines)}".rstrip()

    @property
    def is_positive(self) -> bool:
        """2yz, or 3yz where that is asked for."""
        return 200 <= self.code < 400

    @property
    def is_transient(self) -> bool:
        """4yz: the same may succeed later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz: the same will fail again."""
        return 500 <= self.code < 600

    def encode(self) -> bytes:
        """The reply as it goes over the wire, CRLF included. What is not printable ASCII becomes `?`."""
        if len(self.lines) == 1:
            text = self.lines[0]
            if text.isascii() and text.isprintable() and len(text) <= REPLY_TEXT_OCTETS:
                return f"{_beginning(self.code, self.enhanced)} {text}\r\n".encode()
        status = f"{self.enhanced} " if self.enhanced else ""
        texts = [status + _NOT_TEXT.sub("?", line)[:REPLY_TEXT_OCTETS] for line in self.lines]
        parts = [f"{self.code}-{text}\r\n" for text in texts[:-1]]
        parts.append(f"{self.code} {texts[-1]}\r\n")
        return "".join(parts).encode("ascii")


@lru_cache(maxsize=1024)
def _beginning(code: int, enhanced: EnhancedStatus | None) -> str:
    """What stands before the text of a reply of one line; there are few of them."""
    return f"{code} {enhanced}" if enhanced else f"{code}"


def reply(code: int, enhanced: str, *lines: str) -> Reply:
    """Shorthand for replies written in code: `reply(550, "5.1.1", "no such user")`; `""` for none."""
    status = None
    if enhanced:
        kind, subject, detail = enhanced.split(".")
        status = EnhancedStatus(int(kind), int(subject), int(detail))
    return Reply(code, status, lines)


def split_enhanced(text: str) -> tuple[EnhancedStatus | None, str]:
    """Take the enhanced status off the front of a reply text, where there is one."""
    match = _ENHANCED.match(text)
    if match is None:
        return None, text
    kind, subject, detail = match.groups()
    return EnhancedStatus(int(kind), int(subject), int(detail)), text[match.end() + 1 :]
