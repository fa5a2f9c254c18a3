"""Questions and responses on the wire: what is sent, what counts as its answer, what the answer says."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from staffetta.dns.resolver import (
    Answer,
    MailExchanger,
    NoSuchName,
    Record,
    RecordKind,
    Service,
    StartOfAuthority,
    TlsAssociation,
    Unavailable,
    is_host_name,
    normal_name,
)
from staffetta.dns.wire import Alias, Match, Question, Reading, Truncated, decode, encode, make_question, match


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("_25._tcp.mx.example.com", "_25._tcp.mx.example.com"),
        ('odd"(but)askable.example', 'odd"(but)askable.example'),
        ("a" * 63 + ".b", "a" * 63 + ".b"),
        (".".join(["a" * 49] * 5) + ".bcd", ".".join(["a" * 49] * 5) + ".bcd"),
        ("", ""),
        (".", ""),
        ("..", ""),
        ("a..b", ""),
        (".a", ""),
        ("a" * 64 + ".b", ""),
        (".".join(["a" * 49] * 5) + ".bcde", ""),
        ("nul\0.example", ""),
        ("new\nline.example", ""),
        ("sp ace.example", ""),
        ("\u212aelvin.example", ""),
        ("müller.example", ""),
    ],
)
def test_names_that_can_be_asked(name: str, normal: str) -> None:
    assert normal_name(name) == normal


@pytest.mark.parametrize(
    ("name", "is_host"),
    [
        (b"mx.example.com", True),
        (b"_dmarc.example.com", True),
        (b"mx-1.example.com", True),
        (b"", False),
        (b"-rf.example.com", False),
        (b"a.-b", False),
        (b"MX.example.com", False),
        (b"a b", False),
        (b"a\0", False),
        (b"0/25.2.0.192.in-addr.arpa", False),
        (b"<b>.example", False),
    ],
)
def test_names_that_may_be_hosts(name: bytes, is_host: bool) -> None:
    assert is_host_name(name) is is_host


def test_a_question_is_what_dnspython_reads() -> None:
    question = make_question("mx.example.com", RecordKind.AAAA)
    message = dns.message.from_wire(encode(question, 0xBEEF))
    assert message.id == 0xBEEF
    assert message.question[0].to_text() == "mx.example.com. IN AAAA"
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert (message.edns, message.payload) == (0, 1232)
    assert dns.message.from_wire(encode(question, 1, edns=False)).edns == -1


def test_mixed_case_changes_letters_only() -> None:
    plain = make_question("abc-123._x.example.com", RecordKind.TXT).section
    assert (
        make_question("abc-123._x.example.com", RecordKind.TXT, b"\xff" * 32).section == plain[:-4].upper() + plain[-4:]
    )
    assert make_question("abc-123._x.example.com", RecordKind.TXT, b"\0" * 32).section == plain
    long = ".".join(["abcdefghij"] * 20)
    mixed = make_question(long, RecordKind.A, bytes(range(0, 256, 8))).section
    assert mixed.lower() == make_question(long, RecordKind.A).section.lower()
    assert mixed != make_question(long, RecordKind.A).section


def _asked(name: str = "example.com", kind: RecordKind = RecordKind.MX) -> tuple[Question, dns.message.Message]:
    question = make_question(name, kind, b"\x20\0" * 16)
    query = dns.message.from_wire(encode(question, 7))
    return question, dns.message.make_response(query, recursion_available=True)


def _add(section: list[dns.rrset.RRset], owner: str, kind: str, *texts: str, ttl: int = 300) -> None:
    section.append(dns.rrset.from_text(owner, ttl, "IN", kind, *texts))


def test_only_a_response_to_the_same_question_matches() -> None:
    question, reply = _asked()
    wire = reply.to_wire()
    assert match(wire, question) == Match.YES
    assert match(wire[:2] + b"\1" + wire[3:], question) == Match.NO  # not a response
    assert match(wire[:2] + bytes((wire[2] | 0x10,)) + wire[3:], question) == Match.NO  # another opcode
    assert match(wire[:5] + b"\0" + wire[6:], question) == Match.NO  # no question
    assert match(wire[:3] + b"\1\0\0" + wire[6:], question) == Match.YES  # FORMERR needs none
    assert match(wire[:3] + b"\1\0\2" + wire[6:], question) == Match.NO
    assert match(wire[:5] + b"\2" + wire[6:], question) == Match.NO
    assert match(wire.lower(), question) == Match.OTHER_CASE
    assert match(wire, make_question("example.org", RecordKind.MX)) == Match.NO
    assert match(wire, make_question("example.com", RecordKind.A)) == Match.NO
    assert match(wire[:20], question) == Match.NO


@pytest.mark.parametrize(
    ("kind", "text", "record"),
    [
        (RecordKind.A, "192.0.2.1", "192.0.2.1"),
        (RecordKind.AAAA, "2001:DB8:0:0::1", "2001:db8::1"),
        (RecordKind.MX, "10 MX.Example.com.", MailExchanger(10, "mx.example.com")),
        (RecordKind.MX, "0 .", MailExchanger(0, "")),
        (RecordKind.TXT, '"v=spf1 " "-all"', b"v=spf1 -all"),
        (RecordKind.TXT, '"\\000\\255"', b"\0\xff"),
        (RecordKind.TXT, '""', b""),
        (RecordKind.PTR, "host.example.com.", "host.example.com"),
        (RecordKind.NS, "ns.example.com.", "ns.example.com"),
        (RecordKind.CNAME, "other.example.com.", "other.example.com"),
        (RecordKind.SRV, "1 2 993 imap.example.com.", Service(1, 2, 993, "imap.example.com")),
        (RecordKind.SRV, "0 0 0 .", Service(0, 0, 0, "")),
        (RecordKind.TLSA, "3 1 1 " + "ab" * 32, TlsAssociation(3, 1, 1, b"\xab" * 32)),
        (RecordKind.SOA, "ns.a. root.b. 1 2 3 4 5", StartOfAuthority("ns.a", "root.b", 1, 2, 3, 4, 5)),
    ],
)
def test_every_kind_of_record(kind: RecordKind, text: str, record: Record) -> None:
    question, reply = _asked(kind=kind)
    _add(reply.answer, "EXAMPLE.com.", kind.name, text)
    assert decode(reply.to_wire(), question) == Answer((record,), 300, canonical_name="example.com")


@pytest.mark.parametrize("kind", [kind for kind in RecordKind if kind != RecordKind.TXT])
@pytest.mark.parametrize("data", [b"", b"\0", b"\xc0\x0c\0\1\2", b"\1"])
def test_records_of_a_wrong_length_are_left_out(kind: RecordKind, data: bytes) -> None:
    question, reply = _asked(kind=kind)
    wire = bytearray(reply.to_wire()[:-11])  # without OPT
    wire[6:12] = b"\0\1\0\0\0\0"
    wire += b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\5" + len(data).to_bytes(2, "big") + data
    reading = decode(bytes(wire), question)
    assert isinstance(reading, Answer)
    if kind == RecordKind.TLSA and len(data) >= 3:
        assert reading.associations == (TlsAssociation(0xC0, 0x0C, 0, b"\1\2"),)
    else:
        assert (reading.records, reading.unusable) == ((), 1)


def _said(reply: dns.message.Message, question: Question) -> Reading:
    return decode(reply.to_wire(), question)


def test_absences() -> None:
    question, reply = _asked()
    _add(reply.authority, "com.", "SOA", "a. b. 1 2 3 4 60", ttl=900)
    assert _said(reply, question) == Answer((), 60, canonical_name="example.com")
    reply.set_rcode(dns.rcode.NXDOMAIN)
    assert _said(reply, question) == NoSuchName(60)
    _add(reply.answer, "example.com.", "MX", "1 mx.example.com.")
    assert _said(reply, question) == NoSuchName(60)
    reply.answer.clear()
    reply.authority.clear()
    assert _said(reply, question) == NoSuchName(5)
    reply.set_rcode(dns.rcode.NOERROR)
    assert _said(reply, question) == Answer((), 5, canonical_name="example.com")


def test_a_referral_is_no_absence() -> None:
    question, reply = _asked()
    _add(reply.authority, "com.", "NS", "ns.com.")
    assert isinstance(_said(reply, question), Unavailable)
    reply.flags |= dns.flags.AA
    assert isinstance(_said(reply, question), Answer)


@pytest.mark.parametrize(("rcode", "word"), [(2, "SERVFAIL"), (4, "NOTIMP"), (5, "REFUSED"), (9, "response code 9")])
def test_failures_are_unavailable_even_with_records(rcode: int, word: str) -> None:
    question, reply = _asked()
    _add(reply.answer, "example.com.", "MX", "1 mx.example.com.")
    reply.set_rcode(dns.rcode.Rcode(rcode))
    assert _said(reply, question) == Unavailable(word)


def test_truncation_is_said_before_anything_is_read() -> None:
    question, reply = _asked()
    _add(reply.answer, "example.com.", "MX", "1 mx.example.com.")
    reply.flags |= dns.flags.TC
    assert _said(reply, question) == Truncated()


def test_aliases_are_followed_in_any_order_with_the_smallest_ttl() -> None:
    question, reply = _asked()
    _add(reply.answer, "c.example.", "MX", "1 mx.example.com.", ttl=90)
    _add(reply.answer, "b.example.", "CNAME", "c.example.", ttl=20)
    _add(reply.answer, "example.com.", "CNAME", "B.example.", ttl=60)
    _add(reply.answer, "elsewhere.example.", "MX", "0 forged.example.")
    assert _said(reply, question) == Answer((MailExchanger(1, "mx.example.com"),), 20, canonical_name="c.example")


def test_an_alias_whose_target_is_not_spoken_of_is_asked_for() -> None:
    question, reply = _asked()
    _add(reply.answer, "example.com.", "CNAME", "0/25.other.example.", ttl=20)
    assert _said(reply, question) == Alias("0/25.other.example", 1, 20, False)
    _add(reply.authority, "com.", "SOA", "a. b. 1 2 3 4 3")
    assert _said(reply, question) == Alias("0/25.other.example", 1, 20, False)
    reply.authority.clear()
    _add(reply.authority, "ther.example.", "SOA", "a. b. 1 2 3 4 3")
    assert _said(reply, question) == Alias("0/25.other.example", 1, 20, False)
    reply.authority.clear()
    _add(reply.authority, "other.example.", "SOA", "a. b. 1 2 3 4 3")
    assert _said(reply, question) == Answer((), 3)


def test_a_circle_of_aliases_is_unavailable() -> None:
    question, reply = _asked()
    _add(reply.answer, "example.com.", "CNAME", "b.example.")
    _add(reply.answer, "b.example.", "CNAME", "example.com.")
    assert isinstance(_said(reply, question), Unavailable)
    question, reply = _asked()
    _add(reply.answer, "example.com.", "CNAME", "example.com.")
    assert isinstance(_said(reply, question), Unavailable)


def test_a_ttl_with_the_top_bit_is_zero() -> None:
    question, reply = _asked(kind=RecordKind.A)
    wire = bytearray(reply.to_wire()[:-11])
    wire[6:12] = b"\0\1\0\0\0\0"
    wire += b"\xc0\x0c\0\1\0\1\x80\0\0\1\0\4\xc0\0\2\1"
    assert decode(bytes(wire), question) == Answer(("192.0.2.1",), 0, canonical_name="example.com")


def test_records_of_another_class_do_not_count() -> None:
    question, reply = _asked(kind=RecordKind.A)
    wire = bytearray(reply.to_wire()[:-11])
    wire[6:12] = b"\0\1\0\0\0\0"
    wire += b"\xc0\x0c\0\1\0\3\0\0\0\1\0\4\xc0\0\2\1"
    assert decode(bytes(wire), question) == Answer((), 5, canonical_name="example.com")


def test_the_ad_bit_is_carried() -> None:
    question, reply = _asked()
    reply.flags |= dns.flags.AD
    reading = _said(reply, question)
    assert isinstance(reading, Answer)
    assert reading.authenticated
