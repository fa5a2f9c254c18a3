"""What a person sees of a header text: encoded words decoded, and the addresses it mentions.

RFC 2047 (encoded words). Only for noticing disguises: nothing decoded here is ever written into a message.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from typing import Final

from staffetta.mail.address import AddressError, Mailbox, parse_mailbox

ENCODED_WORDS: Final = 200
"""How many encoded words of one text are decoded; what follows is left as it is."""

MENTIONED_ADDRESSES: Final = 20
"""How many addresses of one text are looked at; see `addresses.ADDRESSES` for what they cost."""

UNREADABLE: Final = "?"
"""Stands for a local part that cannot be one."""

_BETWEEN_WORDS = re.compile(r"(?<=\?=)[ \t]++(?==\?)")
_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9_.:+*\-]{1,60})\?([QqBb])\?([!->@-~]*+)\?=")
_LOCAL: Final = r"[^\x00-\x20\x7f\"'(),:;<>\[\]\\@]"
# Only where a word begins, or each of its characters would be tried as a beginning.
_MENTION = re.compile(rf"(?<!{_LOCAL})({_LOCAL}++)@([A-Za-z0-9.\-_\u0080-\U0010ffff]++)")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_DOTS: Final = str.maketrans("\u3002\uff61", "..")


def decode_words(text: str) -> str:
    """`text` with its encoded words decoded. Never raises; what does not decode stays.

    Charsets are not trusted: UTF-8 is tried, then every octet is taken for a character. Addresses are ASCII in all
    charsets in use, and a charset name must not choose code to run.
    """
    if "=?" not in text:
        return text
    return _ENCODED_WORD.sub(_decode_word, _BETWEEN_WORDS.sub("", text), count=ENCODED_WORDS)


def _decode_word(match: re.Match[str]) -> str:
    charset, encoding, payload = match.groups()
    try:
        if encoding in "Bb":
            octets = binascii.a2b_base64(payload + "=" * (-len(payload) % 4))
        else:
            octets = binascii.a2b_qp(payload, header=True)
    except ValueError:
        return match.group()
    octets = octets.replace(b"\0", b"")
    try:
        # UTF-7 is the one charset in which an address could hide, and some programs still read it.
        return octets.decode("utf-7" if charset.lower() == "utf-7" else "utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def addresses_in(text: str) -> tuple[Mailbox, ...]:
    """Every address that `text` mentions, behind encoded words too, each once, in order; for people's eyes, not for
    syntax: what only looks like an `@` is one, and of an address that cannot be one the domain is what counts."""
    found: dict[Mailbox, None] = {}
    for number, match in enumerate(_MENTION.finditer(_as_seen(text))):
        if number == MENTIONED_ADDRESSES:
            break
        local, domain = match[1].strip("."), match[2].strip(".-_")
        for written in (f"{local}@{domain}", f"{UNREADABLE}@{domain}"):
            try:
                found[parse_mailbox(written, smtputf8=True)] = None
                break
            except AddressError:
                continue
    return tuple(found)


def mentions_too_many(text: str) -> bool:
    """Whether `text` may mention more than `addresses_in` has looked at: then an address can hide behind the others."""
    return text.count("=?") > ENCODED_WORDS or _as_seen(text).count("@") > MENTIONED_ADDRESSES


def _as_seen(text: str) -> str:
    """The text as it looks: encoded words and quoted pairs undone, wide letters narrow, without what is invisible."""
    text = _QUOTED_PAIR.sub(r"\1", decode_words(text))
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text.translate(_DOTS))
    return "".join([one for one in text if one.isascii() or unicodedata.category(one) != "Cf"])
