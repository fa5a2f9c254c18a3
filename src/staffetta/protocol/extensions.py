"""What a server is set up to do, and how it says so in the answer to EHLO.

RFC 5321 section 4.1.1.1; SIZE 1870, PIPELINING 2920, 8BITMIME 6152, SMTPUTF8 6531, CHUNKING 3030 (without BINARYMIME),
ENHANCEDSTATUSCODES 2034, DSN 3461, LIMITS 9422, STARTTLS 3207, AUTH 4954.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

MECHANISMS: Final = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
"""SASL mechanisms in the order in which they are offered."""


class ServerSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True, cache_hash=True):
    """One door's settings of the dialogue. Sizes in octets.

    `normalise`: what happens to bare CR, bare LF and NUL in content: True makes them whole, False refuses the message.
    `errors`: how many mistakes one session may make. `commands`: how many commands, mistakes included.
    """

    hostname: str
    message_size: int = 25 * 1024 * 1024
    recipients: int = 100
    commands: int = 10000
    errors: int = 20
    starttls: bool = False
    auth: bool = False
    mechanisms: tuple[str, ...] = MECHANISMS
    normalise: bool = False


def greeting(settings: ServerSettings) -> bytes:
    """The 220 line; it names no program and no version."""
    return b"220 %b ESMTP\r\n" % settings.hostname.encode("ascii")


@lru_cache(maxsize=64)
def hello_reply(settings: ServerSettings, esmtp: bool, tls: bool, authenticated: bool) -> bytes:
    """The answer to a HELO or EHLO that was accepted, as it goes over the wire."""
    if not esmtp:
        return b"250 %b\r\n" % settings.hostname.encode("ascii")
    lines = [
        settings.hostname,
        "PIPELINING",
        f"SIZE {settings.message_size}",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "ENHANCEDSTATUSCODES",
        "DSN",
        f"LIMITS RCPTMAX={settings.recipients}",
    ]
    if settings.starttls and not tls:
        lines.append("STARTTLS")
    if settings.auth and tls and not authenticated:
        lines.append(f"AUTH {' '.join(settings.mechanisms)}")
    texts = [f"250-{line}\r\n" for line in lines[:-1]]
    texts.append(f"250 {lines[-1]}\r\n")
    return "".join(texts).encode("ascii")
