"""Headers that nobody sane would write: seeds for invariants, bombs for the work they may cost.

The bombs count work (fields split, tokens made, octets kept) where that can be counted; the clock is only a backstop,
generous enough for a busy machine and far below the 2 s that one message may cost.
"""

from __future__ import annotations

import email.utils
import random
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.mail.address import parse_mailbox
from staffetta.message.addresses import ADDRESSES, FIELD_OCTETS, AddressProblem, parse_address_list
from staffetta.message.auth_results import without_ours
from staffetta.message.authorship import identity_facts
from staffetta.message.fixups import SubmissionFixups, submission_header
from staffetta.message.header import HEADER_FIELDS, HEADER_OCTETS, Header
from staffetta.message.phrases import ENCODED_WORDS, decode_words
from staffetta.message.scan import Scan
from staffetta.message.transfer import quoted_printable

MIB = 1024 * 1024
SECONDS = 2.0
MEMORY = 64 * MIB

PARTS = [
    b"From", b"from", b"Sender", b"Bcc", b"Received", b"Message-ID", b"Resent-From", b"__class__", b":", b": ", b" : ",
    b"\r\n", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b"<", b">", b"@", b",", b";", b'"',
    b"\\", b"(", b")", b"[", b"]", b".", b"a", b"a@x.example", b"<b@y.example>", b"=?utf-8?q?a=40x.example?=", b"\xff",
    b"\xc3\xa9", b"undisclosed:;", b"@r.example:", b"Authentication-Results: mx.example.com;",
]  # fmt: skip
lumps = st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join)


@given(lumps)
@settings(max_examples=300, deadline=None)
def test_lookup_is_the_index(block: bytes) -> None:
    header = Header(block)
    assert b"".join(field.raw for field in header.fields) == block
    for name in (b"from", b"sender", b"received", b"bcc", b"message-id"):
        # The fast way (searching) and the thorough one (splitting) find the same fields.
        thorough = [field for field in header.fields if field.name == name and field.is_found]
        assert Header(block).all(name) == thorough
        assert Header(block).count(name) == len(thorough)
    assert Header(block).well_formed == (not header.problems)


@given(lumps, st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_scan_does_not_depend_on_splits(content: bytes, seed: int) -> None:
    whole, split = Scan(), Scan()
    whole.feed(content)
    whole.finish()
    dice = random.Random(seed)
    at = 0
    while at < len(content):
        step = dice.randint(1, 9)
        split.feed(content[at : at + step])
        at += step
    split.finish()
    for one in (whole, split):
        assert one.octets == len(content)
    assert split.header.block == whole.header.block
    assert split.header_octets == whole.header_octets
    assert (split.header_eight_bit, split.body_eight_bit) == (whole.header_eight_bit, whole.body_eight_bit)
    assert whole.header.block + content[whole.header_octets :] == content
    assert b"\r\n\r\n" not in whole.header.block


@given(lumps)
@settings(max_examples=300, deadline=None)
def test_addresses_never_raise_and_never_guess(value: bytes) -> None:
    found = parse_address_list(value)
    for mailbox in found.mailboxes:
        assert parse_mailbox(str(mailbox), smtputf8=True) == mailbox
    if not found.problems:
        # What we hold for clear, another parser reads the same way.
        theirs = [address for _, address in email.utils.getaddresses([value.decode().replace("\r\n", "")])]
        assert [str(mailbox).rpartition("@")[0] for mailbox in found.mailboxes] == [
            address.rpartition("@")[0].strip('"') for address in theirs if address
        ]


@given(lumps)
@settings(max_examples=200, deadline=None)
def test_mending_twice_changes_nothing(block: bytes) -> None:
    fixups = SubmissionFixups("01ARZ3NDEKTSV4RRFFQ69G5FAV", "mx.example.com", 0.0)
    block = block.lstrip(b" \t\r\n").replace(b"\r\n\r\n", b"\r\n") + b"\r\n"
    once = submission_header(Header(block), fixups)
    assert submission_header(Header(once), fixups) == once
    assert not Header(once).has(b"bcc")
    assert not Header(once).disguised(b"bcc")
    clean = without_ours(Header(once), "mx.example.com")
    assert without_ours(Header(clean), "mx.example.com") == clean
    identity_facts(Header(once))


BOMBS: dict[str, Callable[[], bytes]] = {
    "a million fields": lambda: b"a: b\r\n" * 1_000_000,
    "a million received": lambda: b"Received: b\r\n" * 1_000_000,
    "one field of 25 MB": lambda: b"Subject: " + b"x" * 25 * MIB,
    "one From of 25 MB": lambda: b"From: " + b"a@x.example, " * 2_000_000,
    "one name of 25 MB": lambda: b"x" * 25 * MIB + b": y\r\n",
    "one folded field of 25 MB": lambda: b"Subject:" + b"\r\n x" * 6_000_000,
    "folds of white space": lambda: b"From:" + b"\r\n " * 80_000,
    "white space before the colon": lambda: b"From" + b" " * 260_000 + b":\r\n",
    "names without colon": lambda: b"from \r\n" * 37_000,
    "as many fields as allowed": lambda: b"From: a@x.example\r\n" * 2000,
    "as many disguises as allowed": lambda: b"From : (\r\n" * 2000,
    "a hundred thousand encoded words": lambda: b"From: " + b"=?utf-8?q?a=40x.example?= " * 100_000,
    "encoded words up to the limit": lambda: b"From: " + b"=?utf-8?b?YQ==?= " * 15_000,
    "unfinished encoded words": lambda: b"From: " + b"=?a?q?" * 43_000,
    "open comments": lambda: b"From: " + b"(" * 262_000,
    "open quotes": lambda: b"From: " + b'"\\' * 131_000,
    "open angles": lambda: b"From: " + b"<" * 262_000,
    "commas": lambda: b"From: " + b"," * 262_000,
    "colons": lambda: b"From: " + b"a:" * 131_000,
    "groups": lambda: b"From: " + b"a:;," * 65_000,
    "at signs": lambda: b"From: " + b"@" * 262_000,
    "continuations that look like From": lambda: b"X: y" + b"\r\n from:@" * 29_000,
    "signatures that fold From": lambda: b"DKIM-Signature: h=\r\n From:a@\r\n" * 2000,
    "disguises that differ": lambda: b"".join(b"From : %d\r\nFr om : %d\r\n" % (n, n) for n in range(1000)),
    "no field at all": lambda: b"hello\r\n" * 2000,
    "empty names": lambda: b": x\r\n" * 2000,
    "names of attributes": lambda: b"__class__: x\r\n__proto__: y\r\nheaders: z\r\nself: a\r\nget: b\r\n: c\r\n" * 300,
    "octets": lambda: bytes(range(256)) * 1000,
    "address in the deep": lambda: b"From: " + b"(a" * 30_000 + b")" * 30_000 + b"a@x.example",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    content = BOMBS[name]()
    started = time.process_time()
    tracemalloc.start()
    one = Scan()
    for at in range(0, len(content), 65536):
        one.feed(content[at : at + 65536])
    one.finish()
    header = one.header
    facts = identity_facts(header)
    hops, message_id, places = one.hops, one.message_id, one.delivered_to
    submission_header(header, SubmissionFixups("01ARZ3NDEKTSV4RRFFQ69G5FAV", "mx.example.com", 0.0))
    without_ours(header, "mx.example.com")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(header.block) <= HEADER_OCTETS
    assert len(header.fields) <= HEADER_FIELDS
    assert hops <= HEADER_FIELDS
    assert len(facts.from_addresses) <= ADDRESSES * 16
    assert facts.from_problem
    assert len(message_id) <= 250
    assert len(places) <= 100
    assert peak < MEMORY
    assert time.process_time() - started < SECONDS * 5  # tracing makes it several times slower


@pytest.mark.parametrize("name", [name for name in BOMBS if "25 MB" not in name and "million" not in name])
def test_a_list_of_addresses_is_examined_in_part(name: str) -> None:
    value = BOMBS[name]() * 10
    started = time.process_time()
    found = parse_address_list(value)
    assert time.process_time() - started < SECONDS / 4
    assert len(found.mailboxes) <= ADDRESSES
    if len(value) > FIELD_OCTETS:
        assert AddressProblem.TOO_LONG in found.problems


def test_encoded_words_are_decoded_up_to_a_number() -> None:
    text = "=?utf-8?q?=41?= x " * (ENCODED_WORDS * 2)
    assert decode_words(text).count("A") == ENCODED_WORDS


def test_lookups_look_at_every_octet_a_few_times_at_most() -> None:
    """Twice the header, about twice the time: what is quadratic would cost four times as much."""

    def cost(count: int) -> float:
        block = b"from \r\n" * count + b"x: " + b" from\r\n" * count
        best = SECONDS
        for _ in range(5):
            started = time.process_time()
            header = Header(block)
            header.count(b"from")
            header.all(b"from")
            assert not header.well_formed
            best = min(best, time.process_time() - started)
        return best

    assert cost(16_000) < 3.4 * cost(8_000) + 0.01


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_quoted_printable_is_plain(data: bytes) -> None:
    encoded = quoted_printable(data)
    assert encoded.isascii()
    assert encoded.count(b"\r\n") == encoded.count(b"\r") == encoded.count(b"\n")
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
