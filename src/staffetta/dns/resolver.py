"""What anybody may ask the DNS, and the three answers there are: an Answer, NoSuchName, or Unavailable.

RFC 1034 and 1035; RFC 2308 (no such name, no such type); RFC 2181 section 8 (TTL).
Never confuse Unavailable with the other two: it means "we do not know", and mail that depends on it waits.
This module refuses to know how the answer is had: see `live` and `table`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol

import msgspec

LABEL_OCTETS: Final = 63
"""Longest label, RFC 1035 section 2.3.4."""

NAME_OCTETS: Final = 253
"""Longest name in text, without the last dot: 255 octets on the wire (RFC 1035 section 2.3.4)."""

CHAIN_LENGTH: Final = 8
"""Most CNAMEs followed for one question. A chain that is longer, or a circle, is Unavailable: it is a mistake of the
zone that its owner can mend while mail waits (RFC 1034 section 3.6.2 calls it an error, not an absence)."""

_HOST_OCTETS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_."


class RecordKind(IntEnum):
    """The record types this house asks for, with their numbers on the wire."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    TLSA = 52


class MailExchanger(msgspec.Struct, frozen=True, order=True, gc=False):
    """MX. `host` is "" for the root, as in the null MX `0 .` (RFC 7505)."""

    preference: int
    host: str


class Service(msgspec.Struct, frozen=True, order=True, gc=False):
    """SRV, RFC 2782. `target` is "" for the root: the service is decidedly not available."""

    priority: int
    weight: int
    port: int
    target: str


class TlsAssociation(msgspec.Struct, frozen=True, gc=False):
    """TLSA, RFC 6698. `data` may be empty or of a wrong length: the reader judges."""

    usage: int
    selector: int
    matching_type: int
    data: bytes


class StartOfAuthority(msgspec.Struct, frozen=True, gc=False):
    """SOA, RFC 1035 section 3.3.13. Times in seconds; `minimum` is how long absences may be remembered (RFC 2308)."""

    primary: str
    mailbox: str
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


Record = str | bytes | MailExchanger | Service | TlsAssociation | StartOfAuthority
"""One record: `str` is the canonical address of A and AAAA, or the name of NS, CNAME and PTR; `bytes` is a TXT with its
strings joined (RFC 7208 section 3.3). Names are ASCII in lower case without the last dot, made of letters, digits,
`-`, `_` and dots only: whatever else the DNS can carry never gets this far."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The name exists. `records` empty: it has none of this type (RFC 2308 section 2.2).

    `ttl_seconds` is the smallest on the way, as received. `authenticated`: a validating resolver on this machine said
    so (the AD bit, RFC 4035 section 3.2.3). `unusable` counts records of this type that were left out because they
    are malformed or name something that cannot be a host: the name does have the type, but nothing to use.
    `canonical_name` is where CNAMEs led.
    """

    records: tuple[Record, ...]
    ttl_seconds: int
    authenticated: bool = False
    unusable: int = 0
    canonical_name: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The records of A, AAAA, NS, CNAME and PTR answers."""
        return tuple([record for record in self.records if isinstance(record, str)])

    @property
    def texts(self) -> tuple[bytes, ...]:
        """The records of a TXT answer."""
        return tuple([record for record in self.records if isinstance(record, bytes)])

    @property
    def exchangers(self) -> tuple[MailExchanger, ...]:
        """The records of an MX answer."""
        return tuple([record for record in self.records if isinstance(record, MailExchanger)])

    @property
    def associations(self) -> tuple[TlsAssociation, ...]:
        """The records of a TLSA answer."""
        return tuple([record for record in self.records if isinstance(record, TlsAssociation)])


class NoSuchName(msgspec.Struct, frozen=True, gc=False):
    """NXDOMAIN: nothing of any type, now (RFC 8020: nor below)."""

    ttl_seconds: int = 0
    authenticated: bool = False


class Unavailable(msgspec.Struct, frozen=True, gc=False):
    """We do not know: SERVFAIL, silence, refusal, nonsense. Temporary. `reason` is for the operator."""

    reason: str


Lookup = Answer | NoSuchName | Unavailable


class Resolver(Protocol):
    """Asks the DNS. Never raises for what the world does."""

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        """The records of `name`; CNAMEs are followed unless they are what is asked for.

        A name that the DNS cannot hold (empty or over-long labels, non-ASCII) is NoSuchName, with nothing asked.
        """

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        """What `query` would say without asking anybody; None when it would have to ask."""


def normal_name(name: str) -> str:
    """`name` in lower case and without the last dot; "" for what the DNS cannot hold, and for the root.

    Any printable ASCII except a space may stand in a label here: questions made of foreign input (SPF macros) must be
    askable, and are harmless.
    """
    if not name.isascii():
        return ""
    text = name.lower()
    text = text.removesuffix(".")
    if not text or len(text) > NAME_OCTETS or not text.isprintable() or " " in text:
        return ""
    for label in text.split("."):
        if not label or len(label) > LABEL_OCTETS:
            return ""
    return text


def is_host_name(name: bytes) -> bool:
    """True for lower-case names of letters, digits, hyphens and underscores whose labels do not start with `-`."""
    return bool(name) and not name.translate(None, _HOST_OCTETS) and not name.startswith(b"-") and b".-" not in name
