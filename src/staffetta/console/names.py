"""The names under which the console's port may be asked.

A page in a browser can lead any name of its owner to 127.0.0.1 (DNS rebinding), and the browser then asks us with that
name in Host. So a name is answered only when it is ours. An address is always one: no DNS stands behind it that
somebody could turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from staffetta.mail.network import address_number

LOCALHOST = "localhost"


class Standing(Enum):
    """What a name may ask for: everything, only what mail programs ask, nothing."""

    OWN = auto()
    DISCOVERY = auto()
    STRANGER = auto()


class Names(msgspec.Struct, frozen=True):
    """`own` beside addresses and localhost; `discovery` are names that a reverse proxy passes on for mail programs.

    `single_words`: names without a dot are ours too, as containers call one another. For ports that others reach
    anyway; no name that strangers can own in the DNS is of that kind.
    """

    own: frozenset[str]
    discovery: frozenset[str] = frozenset()
    single_words: bool = False

    def standing(self, host: str) -> Standing:
        """What a request to `host` may ask; without Host (HTTP/1.0, which no browser speaks) everything."""
        if not host or host == LOCALHOST or host in self.own or address_number(host) is not None:
            return Standing.OWN
        if host in self.discovery:
            return Standing.DISCOVERY
        if self.single_words and "." not in host and ":" not in host:
            return Standing.OWN
        return Standing.STRANGER


def discovery_names(domains: Iterable[str]) -> frozenset[str]:
    """Where mail programs look: `autoconfig.D`, `autodiscover.D` and D itself."""
    return frozenset(name for domain in domains for name in (domain, f"autoconfig.{domain}", f"autodiscover.{domain}"))
