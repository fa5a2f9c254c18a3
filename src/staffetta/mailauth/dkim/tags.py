"""The list of `tag=value` that signatures and key records are written in.

RFC 6376 section 3.2; RFC 8616 section 4 (UTF-8 in some values); RFC 8617 uses the same. A list with a tag twice, or
with an octet that has no place in it, is no list. This module refuses to know what any tag means.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

TAGS: Final = 64
"""Most tags in one list. Real ones have ten."""

LIST_OCTETS: Final = 16 * 1024
"""Longest list: a signature with a 4096-bit key and a hundred field names stays under 4 KiB."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class TagError(ValueError):
    """This is no tag list; the message says why, without echoing it."""


def parse_tags(text: bytes) -> dict[str, str]:
    """The tags in their order; values without white space around them, which may stand inside. Folded text is allowed.

    Raises TagError.
    """
    if len(text) > LIST_OCTETS:
        raise TagError(f"longer than {LIST_OCTETS} octets")
    try:
        unfolded = text.replace(b"\r\n", b"").decode("utf-8")
    except UnicodeDecodeError:
        raise TagError("not UTF-8 text") from None
    if _CONTROL.search(unfolded):
        raise TagError("a control character")
    parts = unfolded.split(";")
    if not parts[-1].strip(" \t"):
        parts.pop()
    if len(parts) > TAGS:
        raise TagError(f"more than {TAGS} tags")
    tags: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip(" \t")
        if not equals or not _NAME.fullmatch(name):
            raise TagError("a tag without a proper name or without =")
        if name in tags:
            raise TagError(f"the tag {name[:16]} twice")
        tags[name] = value.strip(" \t")
    return tags


def compact(value: str) -> str:
    """A value without the white space inside."""
    return value.replace(" ", "").replace("\t", "")


def words(value: str) -> list[str]:
    """The parts of a value between colons, without white space around them."""
    return [word.strip(" \t") for word in value.split(":")]


def decode_base64(value: str) -> bytes:
    """The octets of a base64 value; white space anywhere and missing padding are allowed. Raises TagError."""
    text = compact(value)
    if not _BASE64.fullmatch(text):
        raise TagError("not base64")
    text = text.rstrip("=")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        raise TagError("not base64") from None


__all__ = ["LIST_OCTETS", "TAGS", "TagError", "compact", "decode_base64", "parse_tags", "words"]
