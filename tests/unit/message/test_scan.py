"""One look at streaming content: the same answer however the octets are split."""

from __future__ import annotations

import pytest

from staffetta.message.header import HEADER_FIELDS, HEADER_OCTETS, HeaderProblem
from staffetta.message.scan import MESSAGE_ID_CHARACTERS, Scan


def scan(*blocks: bytes) -> Scan:
    one = Scan()
    for block in blocks:
        one.feed(block)
    one.finish()
    return one


def facts(one: Scan) -> tuple[object, ...]:
    return (one.header.block, one.header_octets, one.octets, one.header_eight_bit, one.body_eight_bit, one.problem)


@pytest.mark.parametrize(
    ("content", "block", "eight_bit"),
    [
        (b"A: b\r\n\r\nbody\r\n", b"A: b\r\n", (False, False)),
        (b"A: b\r\n\r\n", b"A: b\r\n", (False, False)),
        (b"A: b\r\n", b"A: b\r\n", (False, False)),
        (b"A: b", b"A: b", (False, False)),
        (b"", b"", (False, False)),
        (b"\r\nbody\r\n\r\nmore", b"", (False, False)),
        (b"\r\n\r\n", b"", (False, False)),
        (b"\r\n\xff", b"", (False, True)),
        (b"\r\r\n\r\nbody", b"\r\r\n", (False, False)),
        (b"A: \xff\r\n\r\nbody", b"A: \xff\r\n", (True, False)),
        (b"A: b\r\n\r\nb\xffdy", b"A: b\r\n", (False, True)),
        (b"A: \xff", b"A: \xff", (True, False)),
        (b"A: b\r\nno colon\r\nB: c\r\n\r\nbody\r\n\r\nbody", b"A: b\r\nno colon\r\nB: c\r\n", (False, False)),
        (b"A: b\n\nC: d\r\n\r\nbody", b"A: b\n\nC: d\r\n", (False, False)),
        (b"A: b\r\n \r\nC: d\r\n\r\nbody", b"A: b\r\n \r\nC: d\r\n", (False, False)),
    ],
)
def test_boundary_at_every_split(content: bytes, block: bytes, eight_bit: tuple[bool, bool]) -> None:
    whole = scan(content)
    assert whole.header.block == block
    assert (whole.header_eight_bit, whole.body_eight_bit) == eight_bit
    assert whole.octets == len(content)
    assert content[whole.header_octets :][:2] in {b"", b"\r\n"}
    for at in range(len(content) + 1):
        assert facts(scan(content[:at], content[at:])) == facts(whole)
    assert facts(scan(*[content[at : at + 1] for at in range(len(content))])) == facts(whole)


def test_eight_bit_far_behind_a_header_in_two_blocks() -> None:
    one = scan(b"A: b\r", b"\n\r\n" + b"x" * (HEADER_OCTETS + 100) + b"\xff")
    assert (one.header_eight_bit, one.body_eight_bit) == (False, True)


def test_the_header_is_known_as_soon_as_it_ends() -> None:
    one = Scan()
    one.feed(b"A: b\r\n\r")
    assert not one.header_complete
    assert one.header.block == b""
    one.feed(b"\nbody")
    assert one.header_complete
    assert one.header.block == b"A: b\r\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"A: " + b"x" * (HEADER_OCTETS - 5) + b"\r\n\r\nbody", None),
        (b"A: " + b"x" * (HEADER_OCTETS - 4) + b"\r\n\r\nbody", HeaderProblem.TOO_BIG),
        (b"A: " + b"x" * HEADER_OCTETS, HeaderProblem.TOO_BIG),
        (b"a:\r\n" * HEADER_FIELDS + b"\r\n", None),
        (b"a:\r\n" * (HEADER_FIELDS + 1) + b"\r\n", HeaderProblem.TOO_MANY_FIELDS),
        (b"\r\na:\r\n" * (HEADER_FIELDS + 1), None),
        (b"a:\r\n" + b" b\r\n" * 3 * HEADER_FIELDS + b"\r\n", None),
    ],
)
def test_limits(content: bytes, problem: HeaderProblem | None) -> None:
    for one in (scan(content), scan(*[content[at : at + 4096] for at in range(0, len(content), 4096)])):
        assert one.problem is problem
        assert one.header_complete
        assert one.octets == len(content)
        if problem:
            assert one.header.block == b""


def test_what_is_kept_of_an_endless_header_is_bounded() -> None:
    one = Scan()
    kept = []
    for _ in range(400):
        one.feed(b"x" * 65536)
        kept.append(len(one._kept or b""))
    assert max(kept) <= HEADER_OCTETS + 4
    assert kept[-1] == 0
    assert one.problem is HeaderProblem.TOO_BIG


def test_hops_count_received_fields_only() -> None:
    block = (
        b"Received: a\r\nRECEIVED: b\r\nReceived : c\r\nX: y\r\n Received: d\r\nReceived-SPF: e\r\n\r\nReceived: f\r\n"
    )
    assert scan(block).hops == 3


@pytest.mark.parametrize(
    ("field", "message_id"),
    [
        (b"Message-ID: <abc@x.example>", "abc@x.example"),
        (b"message-id:<a\r\n b@x>", "a?b@x"),
        (b"Message-Id: no-brackets", "no-brackets"),
        (b'Message-ID: <\x1b[31m"\xff\xe2\x80\xa8>', '?[31m"????'),
        (b"Message-ID: <" + b"x" * 900 + b">", "x" * MESSAGE_ID_CHARACTERS),
        (b"Message-ID:", ""),
        (b"Subject: none", ""),
        (b"Message-ID: <one>\r\nMessage-ID: <two>", "one"),
    ],
)
def test_message_id_is_fit_for_a_log(field: bytes, message_id: str) -> None:
    assert scan(field + b"\r\n\r\n").message_id == message_id


def test_delivered_to() -> None:
    assert scan(b"Delivered-To: a@x.example\r\nTo: b\r\ndelivered-to:\r\n c@y.example\r\n\r\n").delivered_to == (
        "a@x.example",
        "c@y.example",
    )
    assert scan(b"To: b\r\n\r\nDelivered-To: a@x.example\r\n").delivered_to == ()
    assert len(scan(b"Delivered-To: a@x.example\r\n" * 500).delivered_to) == 100
