"""Names for messages and sessions: 26 characters, ordered by time, no clash between nodes.

48 bits of milliseconds, then 80 bits that start at random and only grow inside one process (Crockford base 32).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_LOW_BITS: Final = 20
_LOW_MASK: Final = (1 << _LOW_BITS) - 1
"""What two pairs of characters hold."""

ID_LENGTH: Final = 26


def is_identity(text: str) -> bool:
    """True when `text` has the shape of an id of ours."""
    return len(text) == ID_LENGTH and all(character in _ALPHABET for character in text)


class IdentitySource:
    """Makes ids. `random_bytes(n)` is asked once; after that the tail counts up, so ids of one source never repeat.

    The tail's low bits leave room for 2**79 ids before it would wrap. Only the ends of both parts change from one id to
    the next, so what stands before them is kept as text: `_prefix` and `_middle`.
    """

    __slots__ = ("_last_millisecond", "_low", "_middle", "_prefix", "_tail")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        tail = int.from_bytes(random_bytes(10), "big") >> 1
        self._low = tail & _LOW_MASK
        self._tail = tail >> _LOW_BITS
        self._middle = _encode(self._tail, 6)
        self._last_millisecond = -1
        self._prefix = ""

    def new(self, now: float) -> str:
        """An id for the moment `now` (seconds since the epoch). Never runs backwards when the clock does."""
        millisecond = int(now * 1000)
        if millisecond > self._last_millisecond:
            self._last_millisecond = millisecond
            self._prefix = _encode(millisecond, 5)
        low = self._low = (self._low + 1) & _LOW_MASK
        if not low:
            self._tail += 1
            self._middle = _encode(self._tail, 6)
        return f"{self._prefix}{self._middle}{_PAIRS[low >> 10]}{_PAIRS[low & 1023]}"


def _encode(value: int, pairs: int) -> str:
    shifts = range(10 * (pairs - 1), -1, -10)
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in shifts])
