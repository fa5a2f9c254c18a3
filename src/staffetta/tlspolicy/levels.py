"""The levels of TLS that a route may ask of a next hop, and what each permits. RFC 3207, 7435, 8314 section 3.3.

This module refuses to know who asked for a level: routes do, later also MTA-STS and DANE.
"""

from __future__ import annotations

from enum import StrEnum


class TlsLevel(StrEnum):
    """Values are those of `[route] tls`."""

    OPPORTUNISTIC = "opportunistic"
    """STARTTLS where offered, nothing verified; where it fails, a new connection in clear."""
    REQUIRE = "require"
    """No mail in clear; the certificate is not looked at."""
    VERIFY = "verify"
    """No mail in clear, and chain and name of the certificate must be right."""
    IMPLICIT = "implicit"
    """TLS from the first octet, verified."""
    OFF = "off"
    """No TLS, even where offered."""

    @property
    def required(self) -> bool:
        """True when nothing may be said in clear beyond what leads to TLS."""
        return self in {TlsLevel.REQUIRE, TlsLevel.VERIFY, TlsLevel.IMPLICIT}

    @property
    def verified(self) -> bool:
        """True when the certificate must be right."""
        return self in {TlsLevel.VERIFY, TlsLevel.IMPLICIT}

    @property
    def may_go_clear(self) -> bool:
        """True when the caller may connect again without TLS after a handshake failed."""
        return self is TlsLevel.OPPORTUNISTIC
