"""What a program's message lacks that only this machine can know: who wrote it, when, and the domain of bare names.

RFC 5322 section 3.6 (From and Date are required), RFC 2047 (a name beyond ASCII).
"""

from __future__ import annotations

import base64
import re

import msgspec

from staffetta.mail.address import Mailbox
from staffetta.message.header import Header
from staffetta.message.qualify import qualified
from staffetta.message.trace import date_time

_WORD_OCTETS = 42
"""Octets of text in one encoded word, which may have 75 characters."""

_NAME_CHARACTERS = 200
_WORDS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
"""Names that may stand as they are (RFC 5322 section 3.2.5)."""


class Writer(msgspec.Struct, frozen=True):
    """Who wrote the message, when (seconds since the epoch), and on which machine."""

    mailbox: Mailbox
    full_name: str
    written_at: float
    hostname: str


def completed(block: bytes, writer: Writer) -> bytes:
    """The header block with From and Date where they are missing and no bare names; all else as it was."""
    block = qualified(block, writer.hostname.encode())
    header = Header(block)
    front = b""
    if not header.has(b"from") and not header.disguised(b"from"):
        front += b"From: " + _named(writer).encode() + b"\r\n"
    if not header.has(b"date"):
        front += b"Date: " + date_time(writer.written_at).encode() + b"\r\n"
    return front + block


def _named(writer: Writer) -> str:
    name = "".join(one for one in writer.full_name if one.isprintable()).strip()[:_NAME_CHARACTERS]
    if not name:
        return str(writer.mailbox)
    if _WORDS.fullmatch(name):
        return f"{name} <{writer.mailbox}>"
    if name.isascii():
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}" <{writer.mailbox}>'
    return f"{_encoded(name)} <{writer.mailbox}>"


def _encoded(name: str) -> str:
    words: list[str] = []
    part = ""
    for character in name:
        if len((part + character).encode("utf-8", "replace")) > _WORD_OCTETS:
            words.append(part)
            part = ""
        part += character
    words.append(part)
    return "\r\n ".join(f"=?UTF-8?B?{base64.b64encode(word.encode('utf-8', 'replace')).decode()}?=" for word in words)
