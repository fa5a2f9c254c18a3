"""The faults of the zone server that are made of octets: forged, spoiled and malformed responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

FAULTS: Final = {
    *(
        "servfail",
        "refused",
        "notimp",
        "formerr",
        "noedns",
        "timeout",
        "flaky",
        "truncate",
        "truncate-always",
        "truncate-forever",
    ),
    *("junk", "cut", "badid", "wrongquestion", "forged-first", "lowercase", "compression", "lame", "loop", "slow"),
    *("manymx", "biganswer", "badnames", "shortrecords"),
}
"""Words that stand alone."""

GENERATED: Final = frozenset(["manymx", "biganswer", "chain", "partial", "loop"])
"""Words that may have a number behind them."""

_HEADER: Final = 12


def _one_less(word: str) -> Callable[[str, int], str]:
    def target(name: str, number: int) -> str:
        rest = name.partition(".")[2]
        return f"{word}-{number - 1}.{rest}" if number > 1 else rest

    return target


HOPS: Final = {word: _one_less(word) for word in ("chain", "partial")}
"""Where the CNAME of a name with this fault and number leads."""


def spoil(fault: str, query: dns.message.Message, wire: bytes) -> tuple[bytes, ...]:
    """The packets that are sent instead of `wire`, which is the right response."""
    end = _question_end(wire)
    wrong_id = (query.id ^ 0x5A5A).to_bytes(2, "big")
    match fault:
        case "junk":
            return (wire[:6] + b"\0\3\0\2\0\1" + wire[_HEADER:end] + bytes((7 * place) & 255 for place in range(90)),)
        case "cut":
            return (wire[: (end + len(wire)) // 2],)
        case "badid":
            return (wrong_id + wire[2:],)
        case "wrongquestion":
            return (_forged(query, "elsewhere.example."),)
        case "forged-first":
            return (wrong_id + _forged(query)[2:], _forged(query, "elsewhere.example."), wire)
        case "lowercase":
            return (wire[:_HEADER] + wire[_HEADER : end - 4].lower() + wire[end - 4 :],)
        case "compression":
            pointer = (0xC000 | end).to_bytes(2, "big")
            return (wire[:6] + b"\0\1\0\0\0\0" + wire[_HEADER:end] + pointer + b"\0\1\0\1\0\0\0\1\0\4\1\2\3\4",)
        case _:
            return (wire,)


def _question_end(wire: bytes) -> int:
    position = _HEADER
    while wire[position]:
        position += 1 + wire[position]
    return position + 5


def _forged(query: dns.message.Message, name: str = "") -> bytes:
    question = query.question[0]
    owner = dns.name.from_text(name) if name else question.name
    reply = dns.message.Message(id=query.id)
    reply.flags = dns.flags.QR | dns.flags.RD | dns.flags.RA
    reply.question.append(dns.rrset.RRset(owner, question.rdclass, question.rdtype))
    texts = {dns.rdatatype.A: "203.0.113.66", dns.rdatatype.MX: "0 mx.forged.example."}
    if question.rdtype in texts:
        reply.answer.append(dns.rrset.from_text(owner, 3600, "IN", question.rdtype, texts[question.rdtype]))
    return reply.to_wire()


def bad_names(name: str) -> list[dns.rdata.Rdata]:
    """MX records whose hosts no mail server has, and one good: `10 good.NAME`."""
    rest = dns.name.from_text(name)
    labels = [b"nul\0", b"sp ace", b"do.t", b'quo"te', b"\xe9\xff", b"new\r\nline", b"-dash", b"<b>"]
    hosts = [dns.name.Name((label, *rest.labels)) for label in labels]
    hosts.append(dns.name.Name((b"good", *rest.labels)))
    return [dns.rdata.from_text("IN", "MX", f"10 {host.to_text()}") for host in hosts]


def short_record(kind: dns.rdatatype.RdataType) -> dns.rdata.Rdata:
    """One octet of data, which is enough for no type but TXT (and there it promises one more)."""
    return dns.rdata.GenericRdata(dns.rdataclass.IN, kind, b"\1")
