"""SASLprep: one form for user names and passwords that look the same. RFC 4013, RFC 3454.

Printable ASCII is its own form. What the profile forbids raises SaslprepError: it cannot be a password anywhere.
"""

from __future__ import annotations

import stringprep
import unicodedata


class SaslprepError(ValueError):
    """The text cannot be used as a user name or password; the message does not echo it."""


def saslprep(text: str) -> str:
    """The prepared form of `text`, as a query string (unassigned code points are kept). Raises SaslprepError."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join([" " if stringprep.in_table_c12(one) else one for one in text if not stringprep.in_table_b1(one)])
    normal = unicodedata.normalize("NFKC", mapped)
    if any(_is_prohibited(one) for one in normal):
        raise SaslprepError("a character that SASLprep forbids")
    if any(stringprep.in_table_d1(one) for one in normal):
        mixed = any(stringprep.in_table_d2(one) for one in normal)
        if mixed or not (stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])):
            raise SaslprepError("left-to-right and right-to-left are mixed")
    return normal


def _is_prohibited(one: str) -> bool:
    return (
        stringprep.in_table_c12(one)
        or stringprep.in_table_c21_c22(one)
        or stringprep.in_table_c3(one)
        or stringprep.in_table_c4(one)
        or stringprep.in_table_c5(one)
        or stringprep.in_table_c6(one)
        or stringprep.in_table_c7(one)
        or stringprep.in_table_c8(one)
        or stringprep.in_table_c9(one)
    )
