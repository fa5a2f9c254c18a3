"""What a person sees of a header text: encoded words decoded, and the addresses it mentions.

RFC 2047 (encoded words). Only for noticing disguises: nothing decoded here is ever written into a message.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from staffetta.mail.address import AddressError, Mailbox, parse_mailbox

ENCODED_WORDS: Final = 200
"""How many encoded words of one text are decoded; what follows is left as it is."""

MENTIONED_ADDRESSES: Final = 20
"""How many addresses of one text are looked at; see `addresses.ADDRESSES` for what they cost."""

_BETWEEN_WORDS = re.compile(r"(?<=\?=)[ \t]++(?==\?)")
_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9_.:+*\-]{1,60})\?([QqBb])\?([!->@-~]*+)\?=")
_APART = re.compile(r"[\x00-\x20\x7f\"'(),:;<>\[\]\\]+")


def decode_words(text: str) -> str:
    """`text` with its encoded words decoded. Never raises; what does not decode stays.

    Charsets are not trusted: UTF-8 is tried, then every octet is taken for a character. Addresses are ASCII in all
    charsets in use, and a charset name must not choose code to run.
    """
    if "=?" not in text:
        return text
    return _ENCODED_WORD.sub(_decode_word, _BETWEEN_WORDS.sub("", text), count=ENCODED_WORDS)


def _decode_word(match: re.Match[str]) -> str:
    _, encoding, payload = match.groups()
    try:
        if encoding in "Bb":
            octets = binascii.a2b_base64(payload + "=" * (-len(payload) % 4))
        else:
            octets = binascii.a2b_qp(payload, header=True)
    except ValueError:
        return match.group()
    octets = octets.replace(b"\0", b"")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def addresses_in(text: str) -> tuple[Mailbox, ...]:
    """Every address that `text` mentions, behind encoded words too, each once, in order; for people's eyes, not for
    syntax."""
    found: dict[Mailbox, None] = {}
    candidates = [word for word in _APART.split(decode_words(text)) if "@" in word[1:-1]]
    for word in candidates[:MENTIONED_ADDRESSES]:
        try:
            found[parse_mailbox(word.strip("."), smtputf8=True)] = None
        except AddressError:
            continue
    return tuple(found)
