"""Mail addresses in event lines: shown, masked (`a***@example.org`) or replaced by a keyed hash (`3f2a…@example.org`).

The domain stays readable: it says where trouble is, and it stands in `destination` anyway. A hash is the same for the
same address under the same key, so that lines can still be joined; without the key it cannot be computed (HMAC).
Replies and reasons quote addresses, so free text is searched too; better a word too much masked than one too few.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from staffetta.observe.events import Event

Privacy = Literal["full", "masked", "hashed"]

_HASH_DIGITS: Final = 16
_ADDRESSES: Final = frozenset({"sender", "recipient", "login"})
_FREE_TEXT: Final = frozenset({"reply", "reason", "by", "helo"})
_ADDRESS_IN_TEXT: Final = re.compile(
    r'("[^"@\r\n]{1,64}"|[^\s<>()\[\]{},;:"\'@=]{1,128})@([^\s<>()\[\]{},;:"\'@]{1,255})'
)

_Veil = Callable[[str], str]


def private(privacy: Privacy, key: bytes) -> Callable[[Event], Event]:
    """A function that hides the addresses of an event."""
    veil = _masked if privacy == "masked" else _hashed(key)

    def hide_match(match: re.Match[str]) -> str:
        return veil(match.group())

    def hide_text(text: str) -> str:
        return _ADDRESS_IN_TEXT.sub(hide_match, text) if "@" in text else text

    def hide(event: Event) -> Event:
        changes: dict[str, Any] = {}
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if not value:
                continue
            if name in _ADDRESSES:
                changes[name] = veil(value)
            elif name == "recipients":
                changes[name] = tuple(map(veil, value))
            elif name in _FREE_TEXT:
                changes[name] = hide_text(value)
            elif name == "checks":
                changes[name] = {check: hide_text(text) for check, text in value.items()}
        return msgspec.structs.replace(event, **changes) if changes else event

    return hide


def _masked(address: str) -> str:
    local_part, at, domain = address.rpartition("@")
    if not at:
        return f"{address[:1]}***"
    return f"{local_part[:1]}***@{domain}"


def _hashed(key: bytes) -> _Veil:
    if not key:
        raise ValueError("hashed addresses need a key")

    def veil(address: str) -> str:
        _, at, domain = address.rpartition("@")
        octets = address.lower().encode("utf-8", "surrogatepass")
        digest = hmac.digest(key, octets, "sha256").hex()[:_HASH_DIGITS]
        return f"{digest}{at}{domain}"

    return veil
