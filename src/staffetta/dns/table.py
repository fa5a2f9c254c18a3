"""A resolver that knows a table and asks nobody: for tests, and for whoever wants to try a decision.

The table reads as in `staffetta.testing.zone`: `{"example.com": {"MX": ["10 mx.example.com"], "A": ["192.0.2.1"]}}`.
A name may also map to a lookup, which is then the answer to everything: `{"broken.example": Unavailable("SERVFAIL")}`.
`*.example.com` stands for every name below that has no entry (RFC 4592, without its finer points).
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from staffetta.dns.resolver import (
    CHAIN_LENGTH,
    Answer,
    Lookup,
    MailExchanger,
    NoSuchName,
    Record,
    RecordKind,
    Service,
    StartOfAuthority,
    TlsAssociation,
    Unavailable,
    normal_name,
)

TTL_SECONDS: Final = 60

Texts = Mapping[str, Sequence[str]]
"""Records of one name: the type's name to the texts of its records."""

Zones = Mapping[str, Texts]


class TableResolver:
    """Answers from a table; `asked` counts the questions."""

    def __init__(self, table: Mapping[str, Texts | Lookup], *, authenticated: bool = False) -> None:
        self.authenticated = authenticated
        self.asked: Counter[tuple[str, RecordKind]] = Counter()
        self._names: dict[str, dict[RecordKind, tuple[Record, ...]] | Lookup] = {}
        for name, entry in table.items():
            self.put(name, entry)

    def put(self, name: str, entry: Texts | Lookup) -> None:
        """Change what is said of `name`."""
        if isinstance(entry, Answer | NoSuchName | Unavailable):
            self._names[normal_name(name)] = entry
        else:
            self._names[normal_name(name)] = {
                RecordKind[kind]: tuple([parse_record(RecordKind[kind], text) for text in texts])
                for kind, texts in entry.items()
            }

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        """The records of `name`."""
        normal = normal_name(name)
        self.asked[normal, kind] += 1
        for _ in range(CHAIN_LENGTH + 1):
            entry = self._entry(normal)
            if not isinstance(entry, dict):
                return entry
            records = entry.get(kind, ())
            alias = entry.get(RecordKind.CNAME)
            if records or not alias:
                return Answer(records, TTL_SECONDS, self.authenticated, canonical_name=normal)
            normal = str(alias[0])
        return Unavailable("CNAME chain is a circle or too long")

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        """Always None, so that every question is counted."""

    def _entry(self, name: str) -> dict[RecordKind, tuple[Record, ...]] | Lookup:
        entry = self._names.get(name)
        if entry is not None:
            return entry
        if any(other.endswith("." + name) for other in self._names):
            return {}
        above = name
        while "." in above:
            above = above.partition(".")[2]
            wild = self._names.get("*." + above)
            if wild is not None:
                return wild
            if above in self._names:
                break
        return NoSuchName(TTL_SECONDS, self.authenticated)


def parse_record(kind: RecordKind, text: str) -> Record:
    """The record that `text` writes; TXT as it is, the others as in a zone file with whole names. Raises ValueError."""
    match kind:
        case RecordKind.A:
            return str(ipaddress.IPv4Address(text))
        case RecordKind.AAAA:
            return str(ipaddress.IPv6Address(text))
        case RecordKind.TXT:
            return text.encode("utf-8", "surrogateescape")
        case RecordKind.MX:
            preference, host = text.split(" ")
            return MailExchanger(int(preference), normal_name(host))
        case RecordKind.SRV:
            priority, weight, port, target = text.split(" ")
            return Service(int(priority), int(weight), int(port), normal_name(target))
        case RecordKind.TLSA:
            usage, selector, matching_type, data = text.split(" ")
            return TlsAssociation(int(usage), int(selector), int(matching_type), bytes.fromhex(data))
        case RecordKind.SOA:
            primary, mailbox, *times = text.split(" ")
            serial, refresh, retry, expire, minimum = map(int, times)
            return StartOfAuthority(normal_name(primary), normal_name(mailbox), serial, refresh, retry, expire, minimum)
        case RecordKind.NS | RecordKind.CNAME | RecordKind.PTR:
            return normal_name(text)
