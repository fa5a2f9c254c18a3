"""Finding the SMTP reply in what a person pastes: a bare reply, lines of a session, a log line, a notice.

RFC 5321 section 4.2.1 (multi-line replies), RFC 3464 section 2.3.6 (`Diagnostic-Code: smtp; ...`), RFC 3463. Known ways
to quote a reply are those of the logs and notices of Postfix, Exim, Sendmail, qmail and Exchange.
This module refuses to know what a reply means. Work is linear in the text, and the text is cut to a limit.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from staffetta.mail.reply import EnhancedStatus

TEXT_CHARACTERS: Final = 16 * 1024
"""How much of a pasted text is looked at. Replies are a few lines; notices quote one in their first screens."""

REPLY_CHARACTERS: Final = 4000
"""How much of one reply is kept."""

_STATUS: Final = r"[245]\.[0-9]{1,3}\.[0-9]{1,3}"
_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_TYPOGRAPHY: Final = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-", 0xA0: " "}

# A code opens a reply where a line begins, behind a quoting word, or anywhere when an enhanced status follows it.
_AFTER_MARK = re.compile(
    r"(?:\bsaid: |\bto me: |smtp; ?|<<< |\breason: |\]: |\berror: |\bresponse: |\breply: |[(\"'])"
    rf"([2-5][0-9]{{2}})(?=[ -]|\Z)(?:[ -]#?({_STATUS})(?![0-9.]))?",
    re.IGNORECASE,
)
_AT_LINE = re.compile(rf"(?:\A|\n)[ \t]{{0,8}}([2-5][0-9]{{2}})(?=[ \n-]|\Z)(?:[ -]#?({_STATUS})(?![0-9.]))?")
_WITH_STATUS = re.compile(rf"(?<![0-9A-Za-z.:_-])([2-5][0-9]{{2}})[ -]#?({_STATUS})(?![0-9.])")
_LONE_STATUS = re.compile(rf"(?:\bdsn=|\bstatus: ?|[(\[]#|\A)({_STATUS})(?![0-9.])", re.IGNORECASE)
_SOMEWHERE = re.compile(rf"(?<![0-9A-Za-z.:_-])#?({_STATUS})(?![0-9.])")
_TRANSCRIPT = re.compile(r"^<<< ?", re.MULTILINE)
_REPLIED_TO = re.compile(r" ?\(in reply to [A-Za-z ]{1,40} command\)\)?|\(in reply to end of DATA command\)\)?")
_SPACE = re.compile(r"\s+")


class PastedReply(msgspec.Struct, frozen=True, gc=False):
    """A reply as it was found. `code` is None where only an enhanced status stands; `text` is on one line, without
    code and status; `enhanced` is None where there is none."""

    code: int | None
    enhanced: EnhancedStatus | None
    text: str

    def __str__(self) -> str:
        """The reply on one line."""
        parts = [str(self.code) if self.code is not None else "", str(self.enhanced or ""), self.text]
        return " ".join(filter(None, parts))

    @property
    def folded(self) -> str:
        """The text for comparing: ASCII letters in lower case, typographic marks as ASCII has them."""
        return fold(self.text)


def fold(text: str) -> str:
    """Text for comparing; letters beyond ASCII keep their case."""
    return text.translate(_TYPOGRAPHY).translate(_ASCII_LOWER)


def find_reply(pasted: str) -> PastedReply | None:
    """The reply in a pasted text; None when there is none. Total."""
    text = _TRANSCRIPT.sub("", pasted[:TEXT_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n")).strip()
    found = _AT_LINE.match(text) or _AFTER_MARK.search(text) or _AT_LINE.search(text) or _WITH_STATUS.search(text)
    if found is None:
        return _without_code(text)
    code, status = found.groups()
    rest = _body(text[found.end() :], code)
    if status is None:
        inner = _SOMEWHERE.search(rest)
        status = inner[1] if inner and inner[1][0] == code[0] else None
    return PastedReply(int(code), _enhanced(status), rest)


def _without_code(text: str) -> PastedReply | None:
    """Logs and notices of what no server said: only `dsn=4.4.1`, `Status: 5.1.1` or qmail's `(#5.1.1)` tell."""
    found = _LONE_STATUS.search(text)
    return PastedReply(None, _enhanced(found[1]), _clean(text)) if found else None


def _body(rest: str, code: str) -> str:
    """The reply's own text: to the end of the quotation, without the code of each further line."""
    end = _REPLIED_TO.search(rest)
    if end is not None:
        rest = rest[: end.start()]
    lines = rest.split("\n")
    again = re.compile(rf"(?:\A|(?<=\s)){code}[ -](?:#?{_STATUS}(?![0-9.]))?")
    kept = [again.sub(" ", lines[0])]
    for line in lines[1:]:
        if not line.strip():
            break
        kept.append(again.sub(" ", line))
    return _clean(" ".join(kept))


def _clean(text: str) -> str:
    return _SPACE.sub(" ", text).strip(" -\"'")[:REPLY_CHARACTERS]


def _enhanced(status: str | None) -> EnhancedStatus | None:
    return EnhancedStatus(*map(int, status.split("."))) if status else None
