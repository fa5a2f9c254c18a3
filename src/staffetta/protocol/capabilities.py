"""What a server offers in its reply to EHLO or LHLO, as the client needs it. RFC 5321 section 4.1.1.1.

Keywords: SIZE (RFC 1870), 8BITMIME (6152), SMTPUTF8 (6531), PIPELINING (2920), CHUNKING (3030), DSN (3461),
STARTTLS (3207), AUTH (4954), ENHANCEDSTATUSCODES (2034), LIMITS (9422). Unknown ones are ignored.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.reply import Reply

_NUMBER_DIGITS: Final = 18
"""More digits than any size has (RFC 1870 section 3 allows 20); a longer number is taken for no number."""


class Capabilities(msgspec.Struct, frozen=True, gc=False):
    """One server's offers. `size` 0 is no declared limit, as are `rcpt_max` and `mail_max` 0."""

    name: str = ""
    has_size: bool = False
    size: int = 0
    eight_bit_mime: bool = False
    smtputf8: bool = False
    pipelining: bool = False
    chunking: bool = False
    dsn: bool = False
    starttls: bool = False
    enhanced_status_codes: bool = False
    auth: tuple[str, ...] = ()
    rcpt_max: int = 0
    mail_max: int = 0


NOTHING_OFFERED: Final = Capabilities()
"""What a server offers that only knows HELO, and what we know before EHLO."""

_FLAGS: Final = {
    "8BITMIME": "eight_bit_mime",
    "SMTPUTF8": "smtputf8",
    "PIPELINING": "pipelining",
    "CHUNKING": "chunking",
    "DSN": "dsn",
    "STARTTLS": "starttls",
    "ENHANCEDSTATUSCODES": "enhanced_status_codes",
}


def parse_capabilities(reply: Reply) -> Capabilities:
    """The offers in a positive reply to EHLO. What is malformed is not offered."""
    found: dict[str, bool | int | str] = {}
    auth: list[str] = []
    for line in reply.lines[1:]:
        if not line.isascii():
            continue
        words = line.upper().replace("AUTH=", "AUTH ", 1).split()
        if not words:
            continue
        keyword, arguments = words[0], words[1:]
        if keyword in _FLAGS:
            found[_FLAGS[keyword]] = True
        elif keyword == "SIZE":
            found["has_size"] = True
            found["size"] = _number(arguments[0]) if arguments else 0
        elif keyword == "AUTH":
            auth += [mechanism for mechanism in arguments if mechanism not in auth]
        elif keyword == "LIMITS":
            for argument in arguments:
                name, _, value = argument.partition("=")
                if name in {"RCPTMAX", "MAILMAX"}:
                    found["rcpt_max" if name == "RCPTMAX" else "mail_max"] = _number(value)
    return Capabilities(name=server_name(reply), auth=tuple(auth), **found)  # type: ignore[arg-type]


def server_name(reply: Reply) -> str:
    """The name a server gives itself in its greeting or EHLO reply: the first word, lower case; "" without."""
    word = reply.lines[0].partition(" ")[0]
    return word.lower() if word.isascii() else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS else 0
