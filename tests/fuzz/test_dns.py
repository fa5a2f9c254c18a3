"""The DNS decoder against hostile packets: it raises WireError or reads, in bounded time, and never disagrees with
dnspython about a packet that both accept."""

from __future__ import annotations

import random
import time

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.dns.resolver import Answer, MailExchanger, NoSuchName, Record, RecordKind, Unavailable, is_host_name
from staffetta.dns.wire import (
    RECORDS,
    Alias,
    FormatError,
    Match,
    Question,
    Reading,
    Truncated,
    WireError,
    decode,
    encode,
    identifier_of,
    make_question,
    match,
)

KINDS = tuple(RecordKind)
NAMES = ("example.com", "mx.example.com", "a.b.c.d.example.com", "_25._tcp.mx.example.com", "x.org")
TEXTS = {
    "A": ["192.0.2.1", "198.51.100.7"],
    "AAAA": ["2001:db8::1", "::1"],
    "MX": ["10 mx.example.com.", "20 mx.other.example.", "0 ."],
    "TXT": ['"v=spf1 -all"', '"one" "two"', '""'],
    "PTR": ["host.example.com."],
    "NS": ["ns.example.com."],
    "CNAME": ["x.org."],
    "SRV": ["1 2 25 mx.example.com."],
    "TLSA": ["3 1 1 " + "ab" * 32],
    "SOA": ["ns.example.com. host.example.com. 1 2 3 4 5"],
}


def read(packet: bytes, question: Question) -> Reading | None:
    """None for what is refused. Anything but a WireError is a finding."""
    if identifier_of(packet) < 0 or match(packet, question) == Match.NO:
        return None
    try:
        return decode(packet, question)
    except WireError:
        return None


def honest(chance: random.Random) -> tuple[Question, bytes]:
    kind = chance.choice(KINDS)
    name = chance.choice(NAMES)
    question = make_question(name, kind, chance.randbytes(32))
    reply = dns.message.make_response(dns.message.from_wire(encode(question, chance.randrange(65536))))
    owner = name + "."
    chain = chance.sample([other for other in NAMES if other != name], chance.randrange(3))
    for target in [other + "." for other in chain if kind != RecordKind.CNAME]:
        reply.answer.append(dns.rrset.from_text(owner, chance.randrange(99), "IN", "CNAME", target))
        owner = target
    if chance.random() < 0.8:
        texts = chance.sample(TEXTS[kind.name], chance.randint(1, len(TEXTS[kind.name])))
        reply.answer.append(dns.rrset.from_text(owner, chance.randrange(1, 9999), "IN", kind.name, *texts))
    elif chance.random() < 0.8:
        reply.authority.append(dns.rrset.from_text("com.", 7, "IN", "SOA", TEXTS["SOA"][0]))
    if chance.random() < 0.2:
        reply.set_rcode(dns.rcode.Rcode(chance.randrange(6)))
    if chance.random() < 0.1:
        reply.flags |= chance.choice((dns.flags.TC, dns.flags.AD, dns.flags.AA))
    chance.shuffle(reply.answer)
    return question, reply.to_wire()


def mutate(packet: bytes, chance: random.Random) -> bytes:
    data = bytearray(packet)
    for _ in range(chance.randint(1, 6)):
        start = 12 if chance.random() < 0.9 else 2
        place = chance.randrange(start, len(data)) if len(data) > start else 0
        match chance.randrange(7):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                data[place] ^= 1 << chance.randrange(8)
            case 2:
                del data[place : place + chance.randint(1, 8)]
            case 3:
                data[place:place] = chance.randbytes(chance.randint(1, 8))
            case 4:
                data[place : place + 2] = (0xC000 | chance.randrange(len(data) + 3)).to_bytes(2, "big")
            case 5:
                data[place : place + 1] = chance.choice((b"\0", b"\xff", b"\x3f", b"\x40", b"\xc0"))
            case 6:
                section = chance.choice((6, 8, 10))
                data[section : section + 2] = chance.choice((0, 1, 2, 3, 65535)).to_bytes(2, "big")
        if len(data) < 14:
            break
    return bytes(data)


def safe(record: Record) -> bool:
    """What the resolver promises of records: nothing in a name that could mean something elsewhere."""
    if isinstance(record, str):
        address = all(character in "0123456789abcdef:." for character in record)
        return address or is_host_name(record.encode("ascii"))
    if isinstance(record, MailExchanger):
        return not record.host or is_host_name(record.host.encode("ascii"))
    return True


def oracle(packet: bytes, question: Question) -> set[str] | None:
    """What dnspython says the records at the end of the chain are, as comparable text; None when it refuses."""
    try:
        message = dns.message.from_wire(packet, ignore_trailing=True)
        if message.question[0].rdclass != 1 or message.rcode() != 0 or message.flags & dns.flags.TC:
            return None
        if question.kind == RecordKind.CNAME:
            name = dns.name.from_text(question.name)
            found = message.get_rrset(message.answer, name, dns.rdataclass.IN, dns.rdatatype.CNAME)
        else:
            found = dns.message.QueryMessage.resolve_chaining(message).answer  # type: ignore[arg-type]
    except (dns.exception.DNSException, ValueError, IndexError, AttributeError):
        return None
    return None if found is None else {rdata.to_digestable().hex() for rdata in found}


def digest(record: Record, kind: RecordKind) -> str | None:
    text = None
    if isinstance(record, str):
        text = record if kind in (RecordKind.A, RecordKind.AAAA) else record + "."
    elif isinstance(record, MailExchanger):
        text = f"{record.preference} {record.host}."
    return None if text is None else dns.rdata.from_text("IN", kind.name, text).to_digestable().hex()


@pytest.mark.parametrize("seed", range(20))
def test_honest_answers_are_read_as_dnspython_reads_them(seed: int) -> None:
    chance = random.Random(seed)
    compared = 0
    for _ in range(60):
        question, packet = honest(chance)
        reading = read(packet, question)
        assert reading is not None, packet.hex()
        expected = oracle(packet, question)
        if isinstance(reading, Answer) and reading.records and expected:
            compared += 1
            digests = {digest(record, question.kind) for record in reading.records} - {None}
            assert digests <= expected, packet.hex()
            assert len(reading.records) + reading.unusable == len(expected)
    assert compared > 5


@pytest.mark.parametrize("seed", range(40))
def test_mutated_answers_are_read_or_refused(seed: int) -> None:
    chance = random.Random(1000 + seed)
    for _ in range(150):
        question, packet = honest(chance)
        broken = mutate(packet, chance)
        reading = read(broken, question)
        if isinstance(reading, Answer):
            assert all(safe(record) for record in reading.records), broken.hex()
            expected = oracle(broken, question)
            if expected is not None and reading.records and question.kind in (RecordKind.A, RecordKind.MX):
                assert {digest(record, question.kind) for record in reading.records} <= expected, broken.hex()
        elif isinstance(reading, Alias):
            assert make_question(reading.target, question.kind).section
        else:
            assert reading is None or isinstance(reading, NoSuchName | Unavailable | Truncated | FormatError)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(KINDS), st.binary(min_size=12, max_size=12))
def test_any_octets_after_the_question(tail: bytes, kind: RecordKind, header: bytes) -> None:
    question = make_question("example.com", kind)
    read(header + question.section + tail, question)
    read(b"\1\2\x81\x80\0\1" + header[:4] + b"\0\0" + question.section + tail, question)
    read(tail, question)


def _packet(question: Question, answers: int, body: bytes) -> bytes:
    return b"\1\2\x81\x80\0\1" + answers.to_bytes(2, "big") + b"\0\0\0\0" + question.section + body


def _ladder(question: Question, rungs: int) -> tuple[bytes, bytes]:
    """A record of no interest whose data are the name `a` and `rungs` pointers, each to what is before it; and a
    pointer to the highest."""
    foot = 12 + len(question.section) + 11
    places = [foot] + [foot + 3 + 2 * rung for rung in range(rungs)]
    data = b"\1a\0" + b"".join([(0xC000 | place).to_bytes(2, "big") for place in places[:-1]])
    return b"\0\0\x63\0\1\0\0\0\1" + len(data).to_bytes(2, "big") + data, (0xC000 | places[-1]).to_bytes(2, "big")


@pytest.mark.parametrize(("rungs", "usable"), [(0, True), (1, True), (126, True), (127, False), (5000, False)])
def test_pointers_are_followed_only_so_far(rungs: int, usable: bool) -> None:
    question = make_question("example.com", RecordKind.MX)
    ladder, top = _ladder(question, rungs)
    exchanger = b"\xc0\x0c\0\x0f\0\1\0\0\0\1\0\4\0\1" + top
    answer = decode(_packet(question, 2, ladder + exchanger), question)
    assert isinstance(answer, Answer)
    assert answer.records == ((MailExchanger(1, "a"),) if usable else ())
    assert answer.unusable == (0 if usable else 1)


def test_ladders_of_pointers_cost_little() -> None:
    question = make_question("example.com", RecordKind.MX)
    ladder, top = _ladder(question, 8000)
    exchanger = b"\xc0\x0c\0\x0f\0\1\0\0\0\1\0\4\0\1" + top
    began = time.process_time()
    answer = decode(_packet(question, 2000, ladder + exchanger * 1999), question)
    assert time.process_time() - began < 0.4  # without the bound: more than two seconds
    assert isinstance(answer, Answer)
    assert answer.unusable == RECORDS - 1


def test_a_name_that_points_to_itself_is_refused() -> None:
    question = make_question("example.com", RecordKind.A)
    here = (0xC000 | (12 + len(question.section))).to_bytes(2, "big")
    with pytest.raises(WireError):
        decode(_packet(question, 1, here + b"\0\1\0\1\0\0\0\1\0\4\1\2\3\4"), question)


def test_names_longer_than_a_name_can_be_are_refused() -> None:
    question = make_question("example.com", RecordKind.A)
    rest = b"\0\1\0\1\0\0\0\1\0\4\1\2\3\4"
    fits = b"\x3f" + b"a" * 63 + (b"\x3f" + b"b" * 63) * 2 + b"\x3d" + b"c" * 61 + b"\0"
    assert len(fits) == 255
    assert isinstance(decode(_packet(question, 1, fits + rest), question), Answer)
    with pytest.raises(WireError):
        decode(
            _packet(question, 1, b"\x3f" + b"a" * 63 + (b"\x3f" + b"b" * 63) * 2 + b"\x3e" + b"c" * 62 + b"\0" + rest),
            question,
        )


@pytest.mark.parametrize(("octets", "fits"), [(1, True), (53, True), (54, False), (63, False)])
def test_names_put_together_by_pointers_are_no_longer_than_others(octets: int, fits: bool) -> None:
    question = make_question("example.com", RecordKind.A)
    rest = b"\0\1\0\1\0\0\0\1\0\4\1\2\3\4"
    pointer = (0xC000 | (12 + len(question.section))).to_bytes(2, "big")
    body = bytes((octets,)) + b"b" * octets + b"\0" + rest + (b"\x31" + b"a" * 49) * 4 + pointer + rest
    if fits:
        assert isinstance(decode(_packet(question, 2, body), question), Answer)
    else:
        with pytest.raises(WireError):
            decode(_packet(question, 2, body), question)


@pytest.mark.parametrize("octet", [0x40, 0x41, 0x80, 0xBF])
def test_labels_of_unknown_kinds_are_refused(octet: int) -> None:
    question = make_question("example.com", RecordKind.A)
    with pytest.raises(WireError):
        decode(_packet(question, 1, bytes((octet, 12)) + b"\0\1\0\1\0\0\0\1\0\4\1\2\3\4"), question)
