"""DNS messages: questions encoded, responses decoded, in one pass and without trust.

RFC 1035 section 4 (messages), section 4.1.4 (compression); RFC 6891 (EDNS); RFC 2308 (absences); RFC 2782; RFC 6698.
Decoded by hand because this is on the path of every message: a general library takes 180 microseconds for one answer
where this takes about ten, and parses (and imports code for) record types nobody asked for. `tests/fuzz/test_dns.py`
holds it against dnspython. Only the answer and authority sections are read.
This module refuses to know sockets, retries and time.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from staffetta.dns.rdata import WireError, read_name, read_record
from staffetta.dns.resolver import (
    CHAIN_LENGTH,
    Answer,
    Lookup,
    NoSuchName,
    Record,
    RecordKind,
    StartOfAuthority,
    Unavailable,
    is_host_name,
)

UDP_OCTETS: Final = 1232
"""The datagram we say we take: fits every path unfragmented (DNS flag day 2020)."""

RECORDS: Final = 512
"""Most records looked at in one section: far above any honest answer, low enough that none costs much."""

NO_SOA_TTL_SECONDS: Final = 5
"""How long an absence without SOA counts; RFC 2308 section 5 would not keep it at all."""

_HEADER_OCTETS: Final = 12
_HEADER: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")
_OPT: Final = b"\0" + struct.pack("!HHIH", 41, UDP_OCTETS, 0, 0)
_RD: Final = 0x0100
_AD: Final = 0x0020
_AA: Final = 0x0400
_TC: Final = 0x0200
_QR_AND_OPCODE: Final = 0xF800
_QR: Final = 0x8000
_IN: Final = 1
_RCODES: Final = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}
_CASE_BIT: Final = bytes(0x20 if chr(octet).isascii() and chr(octet).isalpha() else 0 for octet in range(256))


class Question(msgspec.Struct, frozen=True, gc=False):
    """One question as it is sent: `section` is its exact octets in the question section, letters' cases as chosen."""

    name: str
    kind: RecordKind
    section: bytes


class Truncated(msgspec.Struct, frozen=True, gc=False):
    """The TC bit: ask again over TCP."""


class FormatError(msgspec.Struct, frozen=True, gc=False):
    """FORMERR: perhaps the server is older than EDNS."""


class Alias(msgspec.Struct, frozen=True, gc=False):
    """The response leads to another name and says nothing about that one: ask for it. `hops` CNAMEs led there."""

    target: str
    hops: int
    ttl_seconds: int
    authenticated: bool


Reading = Lookup | Truncated | FormatError | Alias


class Match:
    """How a datagram relates to a question."""

    NO = 0
    YES = 1
    OTHER_CASE = 2
    """All is well except that the letters of the name came back in another case than they were sent."""


def make_question(name: str, kind: RecordKind, case_bits: bytes = b"") -> Question:
    """The question for `name` (in `normal_name` form). `case_bits`, random and 32 octets or more, mixes the letters'
    cases, so that a forger has to guess them too."""
    wire = encode_name(name)
    if case_bits:
        length = len(wire)
        letters = int.from_bytes(wire.translate(_CASE_BIT), "big")
        chosen = int.from_bytes((case_bits * (length // len(case_bits) + 1))[:length], "big")
        wire = (int.from_bytes(wire, "big") ^ (letters & chosen)).to_bytes(length, "big")
    return Question(name, kind, wire + kind.to_bytes(2, "big") + b"\0\1")


def encode_name(name: str) -> bytes:
    """The wire form of a name in `normal_name` form; "" is the root."""
    if not name:
        return b"\0"
    return b"".join([bytes((len(label),)) + label for label in name.encode("ascii").split(b".")]) + b"\0"


def encode(question: Question, identifier: int, *, edns: bool = True) -> bytes:
    """The message that asks. RD asks for recursion; AD says that we want to hear of validation (RFC 6840 5.7)."""
    header = _HEADER.pack(identifier, _RD | _AD, 1, 0, 0, 1 if edns else 0)
    return header + question.section + (_OPT if edns else b"")


def identifier_of(packet: bytes) -> int:
    """The id of a message, -1 when it is too short to be one."""
    return packet[0] << 8 | packet[1] if len(packet) >= _HEADER_OCTETS else -1


def match(packet: bytes, question: Question) -> int:
    """Whether `packet`, whose id was looked at, is a response to `question`: a Match."""
    _, flags, questions, _, _, _ = _HEADER.unpack_from(packet)
    if flags & _QR_AND_OPCODE != _QR:
        return Match.NO
    if questions != 1:
        # A server that could not read the question need not repeat it.
        return Match.YES if questions == 0 and flags & 15 == 1 else Match.NO
    echoed = packet[_HEADER_OCTETS : _HEADER_OCTETS + len(question.section)]
    if echoed == question.section:
        return Match.YES
    if echoed[-4:] == question.section[-4:] and echoed[:-4].lower() == question.section[:-4].lower():
        return Match.OTHER_CASE
    return Match.NO


def decode(packet: bytes, question: Question) -> Reading:
    """What a matching response says. Raises WireError when it cannot be read, and nothing else."""
    _, flags, questions, answers, authorities, _ = _HEADER.unpack_from(packet)
    rcode = flags & 15
    if rcode not in (0, 3):
        return FormatError() if rcode == 1 else Unavailable(_RCODES.get(rcode, f"response code {rcode}"))
    if flags & _TC:
        return Truncated()
    if questions != 1:
        raise WireError("no question in the response")
    sections = _Sections(packet, question)
    position = _HEADER_OCTETS + len(question.section)
    position = sections.read_answers(position, min(answers, RECORDS))
    name, hops, ttl = sections.follow(question.name)
    if hops > CHAIN_LENGTH:
        return Unavailable("CNAME chain is a circle or too long")
    authenticated = bool(flags & _AD)
    found = sections.found.get(name)
    if found is not None and rcode == 0:
        return _answer(sections, found, name, ttl, authenticated)
    if answers > RECORDS:
        raise WireError("more records than anybody needs")
    sections.read_authorities(position, min(authorities, RECORDS))
    if rcode == 0 and hops and not sections.speaks_for(name):
        return Alias(name, hops, ttl, authenticated)
    ttl = min(ttl, sections.absence_ttl())
    if rcode == 3:
        return NoSuchName(ttl, authenticated)
    if sections.zone is None and sections.referral and not flags & _AA:
        return Unavailable("lame: the server knows only whom else to ask")
    return Answer((), ttl, authenticated, canonical_name=_shown(name))


def _answer(sections: _Sections, found: list[tuple[int, int, int]], name: str, ttl: int, authenticated: bool) -> Answer:
    records: list[Record] = []
    unusable = 0
    for position, length, record_ttl in found:
        ttl = min(ttl, record_ttl)
        record = read_record(sections.packet, position, length, sections.kind, sections.names)
        if record is None:
            unusable += 1
        else:
            records.append(record)
    return Answer(tuple(records), ttl, authenticated, unusable, _shown(name))


def _shown(name: str) -> str:
    return name if is_host_name(name.encode("ascii")) else ""


_LONGEST_TTL: Final = 0x7FFFFFFF


class _Sections:
    """What a response holds for one question. Positions are kept, and only what is needed is decoded."""

    __slots__ = ("aliases", "found", "kind", "names", "packet", "referral", "soa", "zone")

    def __init__(self, packet: bytes, question: Question) -> None:
        self.packet = packet
        self.kind = question.kind
        self.names: dict[int, tuple[bytes | None, int]] = {}
        self.aliases: dict[str, tuple[str, int]] = {}
        self.found: dict[str, list[tuple[int, int, int]]] = {}
        self.zone: str | None = None
        self.soa = 0
        self.referral = False

    def _record(self, position: int) -> tuple[str | None, int, int, int, int, int]:
        """Owner, type, class, TTL, position of the data and the position after it."""
        owner, position = read_name(self.packet, position, self.names)
        try:
            kind, group, ttl, length = _RECORD.unpack_from(self.packet, position)
        except struct.error as error:
            raise WireError("a record is cut off") from error
        position += _RECORD.size
        if position + length > len(self.packet):
            raise WireError("a record is longer than its message")
        if ttl > _LONGEST_TTL:
            ttl = 0  # RFC 2181 section 8
        return None if owner is None else owner.decode("ascii"), kind, group, ttl, position, position + length

    def read_answers(self, position: int, count: int) -> int:
        """Note aliases and records of the kind asked for; the position after the section."""
        for _ in range(count):
            owner, kind, group, ttl, data, position = self._record(position)
            if owner is None or group != _IN:
                continue
            if kind == self.kind:
                self.found.setdefault(owner, []).append((data, position - data, ttl))
            elif kind == RecordKind.CNAME and owner not in self.aliases:
                target, end = read_name(self.packet, data, self.names)
                if target is not None and end == position:
                    self.aliases[owner] = (target.decode("ascii"), ttl)
        return position

    def follow(self, name: str) -> tuple[str, int, int]:
        """The name where aliases lead, how many they were (one too many for a circle), and the smallest TTL."""
        hops, ttl = 0, _LONGEST_TTL
        while name in self.aliases and name not in self.found and hops <= CHAIN_LENGTH:
            name, alias_ttl = self.aliases[name]
            hops += 1
            ttl = min(ttl, alias_ttl)
        return name, hops, ttl

    def read_authorities(self, position: int, count: int) -> None:
        """Note the SOA of an absence (RFC 2308 section 3), or that there is only a referral."""
        for _ in range(count):
            owner, kind, group, ttl, data, position = self._record(position)
            if owner is None or group != _IN:
                continue
            if kind == RecordKind.NS:
                self.referral = True
            elif kind == RecordKind.SOA and self.zone is None:
                record = read_record(self.packet, data, position - data, RecordKind.SOA, self.names)
                if isinstance(record, StartOfAuthority):
                    self.zone, self.soa = owner, min(ttl, record.minimum)

    def absence_ttl(self) -> int:
        """How long an absence counts, in seconds."""
        return NO_SOA_TTL_SECONDS if self.zone is None else self.soa

    def speaks_for(self, name: str) -> bool:
        """True when the SOA is that of the zone that `name` is in, so that an absence of `name` is proven by it."""
        return self.zone is not None and (not self.zone or name == self.zone or name.endswith("." + self.zone))


__all__ = [
    "UDP_OCTETS",
    "Alias",
    "FormatError",
    "Match",
    "Question",
    "Reading",
    "Truncated",
    "WireError",
    "decode",
    "encode",
    "encode_name",
    "identifier_of",
    "make_question",
    "match",
]
