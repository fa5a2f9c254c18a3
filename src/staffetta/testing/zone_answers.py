"""What the zone server says: from a table and a fault to packets, without sockets. See `staffetta.testing.zone`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rdtypes.util
import dns.rrset
import msgspec

from staffetta.testing.zone_faults import FAULTS, GENERATED, HOPS, bad_names, short_record, spoil

TTL_SECONDS: Final = 60
PARTIAL_TTL_SECONDS: Final = 20
ABSENT_SECONDS: Final = 30
MOST_ALIASES: Final = 20
UDP_OCTETS_WITHOUT_EDNS: Final = 512

Texts = Mapping[str, Sequence[str]]


class Response(msgspec.Struct, frozen=True):
    """Packets to send, in order; `slow`: after a pause."""

    packets: tuple[bytes, ...]
    slow: bool = False


class Zone:
    """A table of names, its faults, and what was asked of it."""

    def __init__(self, zones: Mapping[str, Texts]) -> None:
        self.zones: dict[str, dict[str, list[str]]] = {}
        self.faults: dict[str, str] = {}
        """Faults of whole names, besides those of first labels."""
        self.asked: Counter[tuple[str, str]] = Counter()
        """How often each (name, type) was asked, `("example.com", "MX")`."""
        self.authenticated = False
        for name, texts in zones.items():
            self.put(name, texts)

    def put(self, name: str, texts: Texts) -> None:
        """Replace the records of `name`."""
        self.zones[_key(name)] = {kind: list(records) for kind, records in texts.items()}

    def remove(self, name: str) -> None:
        """Let `name` not exist."""
        del self.zones[_key(name)]

    def fault_of(self, name: str) -> tuple[str, int | None]:
        """The fault of a name and its number, ("", None) for none."""
        word = self.faults.get(name) or name.partition(".")[0]
        if word in FAULTS:
            return word, None
        stem, _, number = word.rpartition("-")
        if stem in GENERATED and number.isascii() and number.isdigit():
            return stem, int(number)
        return "", None

    def texts(self, name: str) -> Texts | None:
        """The records of a name by type; None when it does not exist."""
        found = self._own(name)
        host, _, rest = name.partition(".")
        if found is None and host.startswith("mx-") and self.fault_of(rest)[0] == "manymx":
            return {"A": [f"198.51.1.{int(host[3:]) & 255}"]} if host[3:].isdecimal() else None
        if found is None and name not in self.faults and self.fault_of(name)[0] and rest:
            return self._own(rest)
        return found

    def _own(self, name: str) -> Texts | None:
        if name in self.zones:
            return self.zones[name]
        if any(other.endswith("." + name) for other in self.zones):
            return {}
        above = name
        while "." in above:
            above = above.partition(".")[2]
            if "*." + above in self.zones:
                return self.zones["*." + above]
            if above in self.zones:
                return None
        return None


def respond(zone: Zone, data: bytes, *, over_tcp: bool) -> Response | None:
    """The response to one message; None for silence (over TCP: to close)."""
    try:
        query = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError):
        return None
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        return None
    question = query.question[0]
    name = _key(question.name.to_text())
    kind = dns.rdatatype.to_text(question.rdtype)
    first = not zone.asked[name, kind]
    zone.asked[name, kind] += 1
    fault, _ = zone.fault_of(name)
    if fault in _SILENT or (fault == "flaky" and first) or (fault == "truncate-always" and over_tcp):
        return None
    reply = dns.message.make_response(query, recursion_available=True)
    if zone.authenticated:
        reply.flags |= dns.flags.AD
    if fault in _RCODES and (fault != "noedns" or query.edns >= 0):
        reply.set_rcode(_RCODES[fault])
        return Response((reply.to_wire(),))
    if fault == "lame":
        reply.flags &= ~dns.flags.RA
        reply.authority.append(dns.rrset.from_text("example.", TTL_SECONDS, "IN", "NS", "ns.elsewhere.example."))
        return Response((reply.to_wire(),))
    _fill(zone, reply, question.name, question.rdtype)
    wire = reply.to_wire(max_size=65535)
    limit = 65535 if over_tcp else max(query.payload, UDP_OCTETS_WITHOUT_EDNS)
    if len(wire) > limit or (fault.startswith("truncate") and not over_tcp) or fault == "truncate-forever":
        wire = _truncated(query)
    return Response(spoil(fault, query, wire), fault == "slow")


_SILENT: Final = {"timeout"}
_RCODES: Final = {
    "servfail": dns.rcode.SERVFAIL,
    "refused": dns.rcode.REFUSED,
    "notimp": dns.rcode.NOTIMP,
    "formerr": dns.rcode.FORMERR,
    "noedns": dns.rcode.FORMERR,
}


def _truncated(query: dns.message.Message) -> bytes:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.flags |= dns.flags.TC
    return reply.to_wire()


def _fill(zone: Zone, reply: dns.message.Message, owner: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
    for _ in range(MOST_ALIASES):
        name = _key(owner.to_text())
        fault, number = zone.fault_of(name)
        records = _records(zone, name, kind, fault, number)
        if records:
            rrset = dns.rrset.RRset(owner, dns.rdataclass.IN, kind)
            rrset.update_ttl(TTL_SECONDS)
            for record in records:
                rrset.add(record)
            reply.answer.append(rrset)
            return
        target = _alias(zone, name, fault, number)
        if target is None or kind == dns.rdatatype.CNAME:
            break
        ttl = PARTIAL_TTL_SECONDS if fault == "partial" else TTL_SECONDS
        reply.answer.append(dns.rrset.from_text(owner, ttl, "IN", "CNAME", target + "."))
        owner = dns.name.from_text(target)
        if fault == "partial" or (fault == "loop" and target.startswith("loop.")):
            return
    if zone.texts(_key(owner.to_text())) is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    soa = f"ns.invalid. hostmaster.invalid. 1 3600 600 86400 {ABSENT_SECONDS}"
    reply.authority.append(dns.rrset.from_text(".", ABSENT_SECONDS, "IN", "SOA", soa))


def _alias(zone: Zone, name: str, fault: str, number: int | None) -> str | None:
    if fault == "loop":
        rest = name.partition(".")[2]
        return f"loop-1.{rest}" if number is None else f"loop.{rest}"
    if fault in HOPS:
        return HOPS[fault](name, number or 0)
    aliases = (zone.texts(name) or {}).get("CNAME")
    return _key(aliases[0]) if aliases else None


def _records(
    zone: Zone, name: str, kind: dns.rdatatype.RdataType, fault: str, number: int | None
) -> list[dns.rdata.Rdata]:
    word = dns.rdatatype.to_text(kind)
    if fault == "badnames" and word == "MX":
        return bad_names(name)
    if fault == "shortrecords":
        return [short_record(kind)]
    if fault in _GENERATORS:
        return [_rdata(word, text) for text in _GENERATORS[fault](name, word, number)]
    if fault in HOPS or fault == "loop":
        return []
    return [_rdata(word, text) for text in (zone.texts(name) or {}).get(word, ())]


def _many_mx(name: str, word: str, number: int | None) -> list[str]:
    if word == "MX":
        return [f"{place} mx-{place}.{name}" for place in range(number or 100)]
    return []


def _big(name: str, word: str, number: int | None) -> list[str]:
    count = number or 400
    match word:
        case "A":
            return [f"198.51.{place >> 8}.{place & 255}" for place in range(count)]
        case "AAAA":
            return [f"2001:db8::{place:x}" for place in range(count)]
        case "MX":
            return [f"10 mx-{place}.{name}" for place in range(count)]
        case "TXT":
            return ["x" * (count * 100)]
        case _:
            return []


_GENERATORS: Final[dict[str, Callable[[str, str, int | None], list[str]]]] = {"manymx": _many_mx, "biganswer": _big}
_WHOLE_NAMES: Final = {"MX", "CNAME", "NS", "PTR", "SRV"}


def _rdata(word: str, text: str) -> dns.rdata.Rdata:
    if word == "TXT":
        data = text.encode("utf-8", "surrogateescape")
        strings = [data[start : start + 255] for start in range(0, len(data), 255)] or [b""]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
    if word in _WHOLE_NAMES and not text.endswith("."):
        text += "."
    return dns.rdata.from_text("IN", word, text)


def _key(name: str) -> str:
    return name.lower().rstrip(".")
