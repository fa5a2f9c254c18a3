"""What a check of a domain comes to: findings with a code, their evidence and what to do, and three verdicts.

Text from outside is escaped here, once, so that whoever shows a finding need not think of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

SHOWN_CHARACTERS: Final = 700
"""How much of a record is shown as evidence; an RSA key of 4096 bits fits."""

STRING_OCTETS: Final = 255
"""Longest string of a TXT record, RFC 1035 section 3.3.14."""


class Level(StrEnum):
    """A fault breaks something; a warning allows or risks something; a note is for who wants to know."""

    FAULT = "fault"
    WARNING = "warning"
    NOTE = "note"


class Opinion(StrEnum):
    """The three answers to a question of a verdict."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


class Finding(msgspec.Struct, frozen=True, gc=False):
    """One thing that is so. `record` is the owner and type it is about, `evidence` what stands there, escaped.

    `text` says what it means, `advice` what to do; `publish` is the exact line of a zone file, where there is one.
    """

    code: str
    level: Level
    record: str
    evidence: str
    advice: str
    text: str
    publish: str = ""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """`opinion` is None when the DNS did not say enough to conclude; `sentence` says why it is so."""

    opinion: Opinion | None
    sentence: str


class Posture(msgspec.Struct, frozen=True, gc=False):
    """Everything that was concluded: faults first, then warnings, then notes."""

    spoofable: Verdict
    reachable: Verdict
    bulk: Verdict
    findings: tuple[Finding, ...]


def shown(text: bytes | str) -> str:
    """Text from outside as evidence: one line, what does not print escaped, bounded."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[:SHOWN_CHARACTERS]}..."
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def quoted(texts: tuple[bytes, ...]) -> str:
    """Several TXT records as evidence."""
    return " ".join(f'"{shown(text)}"' for text in texts[:4])


def txt_line(name: str, value: str) -> str:
    """A TXT record as a line of a zone file, in strings that are short enough."""
    strings = [value[at : at + STRING_OCTETS] for at in range(0, len(value), STRING_OCTETS)]
    escaped = [string.replace("\\", "\\\\").replace('"', '\\"') for string in strings]
    return f"{name}. IN TXT " + " ".join(f'"{string}"' for string in escaped)


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


__all__ = ["Finding", "Level", "Opinion", "Posture", "Verdict", "quoted", "shown", "txt_line"]
