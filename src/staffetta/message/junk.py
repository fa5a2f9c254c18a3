"""The fields that tell a reader, and filters like Sieve, why a message lies among the junk.

There is no RFC for them; `X-Spam-Flag: YES` is what filters look for. What the reason quotes comes from outside, and
every octet of it that has a meaning in a header becomes `?`.
"""

from __future__ import annotations

import re
import textwrap
from typing import Final

REASON_CHARACTERS: Final = 500
"""Longest reason that is written."""

_NOT_PRINTABLE = re.compile(r"[^ -~]")


def junk_fields(rule: str, reason: str) -> bytes:
    """Both fields, CRLF included."""
    text = _NOT_PRINTABLE.sub("?", f"{rule}; {reason}")[:REASON_CHARACTERS]
    lines = textwrap.wrap(text, 60, break_long_words=True, break_on_hyphens=False) or [rule]
    return b"X-Spam-Flag: YES\r\nX-Junk-Reason: %b\r\n" % "\r\n\t".join(lines).encode()
