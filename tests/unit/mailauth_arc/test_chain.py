"""Chains of custody: good ones, and each way in which one can be broken. RFC 8617 section 5.2."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import dkim as dkimpy
import pytest
from arc_sealer import (
    KEY,
    MESSAGE,
    NOW,
    OTHER_KEY,
    check,
    fields_of,
    record,
    seal,
    verification,
    zones,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.dns.resolver import Lookup, Unavailable
from staffetta.dns.table import TableResolver, Texts
from staffetta.mailauth.arc.chain import ArcVerification
from staffetta.mailauth.arc.sets import SETS
from staffetta.mailauth.results import ArcResult, Word
from staffetta.message.header import Header

DOMAINS = ("list.example", "alumni.example", "third.example")
ZONES = zones(*DOMAINS)
ONE = seal(MESSAGE)
TWO = seal(ONE, "alumni.example")
THREE = seal(TWO, "third.example")


def test_no_chain() -> None:
    found = verification(MESSAGE)
    assert not found.wants_body
    assert check(MESSAGE, {}) == ArcResult(Word.NONE)
    assert check(b"", {}) == ArcResult(Word.NONE)


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_good_chains(hops: int) -> None:
    message = (ONE, TWO, THREE)[hops - 1]
    assert check(message, ZONES) == ArcResult(Word.PASS, hops, DOMAINS[:hops])


def test_the_order_of_fields_does_not_matter() -> None:
    """That of seals and message signatures; the results are covered by name, like any other field."""
    fields = fields_of(THREE)
    moved = [field for field in fields if field.startswith((b"ARC-S", b"ARC-M"))]
    kept = [field for field in fields if field not in moved]
    shuffled = b"".join([*kept, *sorted(moved, key=len)]) + b"\r\n" + THREE.partition(b"\r\n\r\n")[2]
    assert fields_of(shuffled) != fields
    assert check(shuffled, ZONES).word is Word.PASS


def test_every_split_of_the_body_is_the_same() -> None:
    for size in (1, 2, 3, 7, 64):
        assert check(TWO, ZONES, size).word is Word.PASS


def test_what_follows_the_header_may_be_fed_with_its_empty_line() -> None:
    block, _, body = TWO.partition(b"\r\n\r\n")
    for size in (1, 3, 100):
        found = ArcVerification(Header(block + b"\r\n"))
        rest = b"\r\n" + body
        for start in range(0, len(rest), size):
            found.after_header(rest[start : start + size])
        assert asyncio.run(found.finish(TableResolver(ZONES), NOW)).word is Word.PASS


def test_a_hop_may_change_what_came_before_it() -> None:
    """The older message signature no longer verifies, and that is what ARC is for."""
    changed = ONE.replace(b"Subject: Example", b"Subject: [list] Example").replace(b"a test", b"a list")
    assert check(changed, ZONES).word is Word.FAIL
    assert check(seal(changed, "alumni.example"), ZONES) == ArcResult(Word.PASS, 2, DOMAINS[:2])


AFTER: dict[str, tuple[bytes, bytes]] = {
    "the body": (b"a test", b"a best"),
    "an octet at the end": (b"\r\n\r\n\r\n", b"\r\n\r\n\r\nx"),
    "From": (b"anna@bank", b"anne@bank"),
    "Subject": (b"Subject: Example", b"Subject: Sample"),
    "the results of the first hop": (b"mx.list.example; spf=pass", b"mx.list.example; spf=fail"),
    "the results of the last hop": (b"mx.alumni.example; spf=pass", b"mx.alumni.example; spf=fail"),
    "the domain of the first seal": (b"d=list.example", b"d=third.example"),
}


@pytest.mark.parametrize(("old", "new"), AFTER.values(), ids=AFTER.keys())
def test_changed_after_the_last_seal(old: bytes, new: bytes) -> None:
    assert old in TWO
    result = check(TWO.replace(old, new, 1), ZONES)
    assert result.word is Word.FAIL
    assert result.problem
    assert result.sealers == ()


Change = Callable[[list[bytes]], list[bytes]]


def without(index: int) -> Change:
    return lambda fields: fields[:index] + fields[index + 1 :]


def twice(index: int) -> Change:
    return lambda fields: [*fields, fields[index]]


# What is wrong with a message of one set, or with its second set.
BROKEN: dict[str, bytes] = {
    # -- the form of sets
    "no seal": seal(MESSAGE, change=without(0)),
    "no message signature": seal(MESSAGE, change=without(1)),
    "no results": seal(MESSAGE, change=without(2)),
    "no seal in the second set": seal(ONE, "alumni.example", change=without(0)),
    "the first set is missing": seal(MESSAGE, instance=2),
    "a set between is missing": seal(ONE, instance=3),
    "two seals": seal(MESSAGE, change=twice(0)),
    "two message signatures": seal(MESSAGE, change=twice(1)),
    "two results": seal(MESSAGE, change=twice(2)),
    "instance 0": seal(MESSAGE, instance=0),
    "instance 51": seal(MESSAGE, instance=51),
    "instance 100": seal(MESSAGE, instance=100),
    "an instance in letters": seal(MESSAGE, seal_tags={"i": "one"}),
    "an instance in other digits": seal(MESSAGE, seal_tags={"i": "\u0661"}),
    "a seal without an instance": seal(MESSAGE, seal_tags={"i": None}),
    "a signature without an instance": seal(MESSAGE, message_tags={"i": None}),
    "results without an instance": seal(MESSAGE, results=b"ARC-Authentication-Results: mx.example; spf=pass\r\n"),
    "results with a late instance": seal(MESSAGE, results=b"ARC-Authentication-Results: mx.example; i=1; x=y\r\n"),
    # -- the seal
    "a seal with h=": seal(MESSAGE, seal_tags={"h": "from"}),
    "a seal with bh=": seal(MESSAGE, seal_tags={"bh": "abcd"}),
    "a seal of SHA-1": seal(MESSAGE, seal_tags={"a": "rsa-sha1"}),
    "a seal of another algorithm": seal(MESSAGE, seal_tags={"a": "rsa-sha256"}),
    "a seal without an algorithm": seal(MESSAGE, seal_tags={"a": None}),
    "a seal without a domain": seal(MESSAGE, seal_tags={"d": None}),
    "a seal of no domain": seal(MESSAGE, seal_tags={"d": "a b"}),
    "a seal without a selector": seal(MESSAGE, seal_tags={"s": None}),
    "a seal with a NUL in its selector": seal(MESSAGE, seal_tags={"s": "arc\0"}),
    "a seal without a signature": seal(MESSAGE, seal_tags={"b": None}),
    "a seal whose signature is rubbish": seal(MESSAGE, seal_tags={"b": "!!!!"}),
    "a seal with another's signature": seal(MESSAGE, seal_tags={"b": "A" * 86}),
    "a seal by another key": seal(MESSAGE, "third.example", key=OTHER_KEY),
    "a seal whose key is not there": seal(MESSAGE, seal_tags={"s": "gone"}),
    "a time that is none": seal(MESSAGE, seal_tags={"t": "now"}),
    # -- what sealers found
    "no cv=": seal(MESSAGE, seal_tags={"cv": None}),
    "an empty cv=": seal(MESSAGE, seal_tags={"cv": ""}),
    "an unknown cv=": seal(MESSAGE, seal_tags={"cv": "maybe"}),
    "cv= in capitals": seal(MESSAGE, seal_tags={"cv": "None"}),
    "a first hop that says pass": seal(MESSAGE, seal_tags={"cv": "pass"}),
    "a second hop that says none": seal(ONE, "alumni.example", seal_tags={"cv": "none"}),
    "a hop that found it broken": seal(ONE, "alumni.example", seal_tags={"cv": "fail"}),
    "a hop after one that found it broken": seal(
        seal(ONE, "alumni.example", seal_tags={"cv": "fail"}), "third.example"
    ),
    # -- the newest message signature
    "h= without From": seal(MESSAGE, message_tags={"h": "to:subject"}),
    "h= with the seal": seal(MESSAGE, message_tags={"h": "from:arc-seal"}),
    "h= with an older seal": seal(ONE, "alumni.example", message_tags={"h": "from:arc-seal"}),
    "an empty h=": seal(MESSAGE, message_tags={"h": ""}),
    "no h=": seal(MESSAGE, message_tags={"h": None}),
    "no bh=": seal(MESSAGE, message_tags={"bh": None}),
    "bh= of another body": seal(MESSAGE, message_tags={"bh": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}),
    "an unknown canonicalisation": seal(MESSAGE, message_tags={"c": "relaxed/strict"}),
    "a signature at a time that is none": seal(MESSAGE, message_tags={"t": "x"}),
    "no canonicalisation, so simple": seal(MESSAGE, message_tags={"c": None}),
    "a part of the body only": seal(MESSAGE, message_tags={"l": "0"}),
    "expired": seal(MESSAGE, message_tags={"x": str(int(NOW) - 1)}),
    "a signature of rubbish": seal(MESSAGE, message_tags={"b": "A" * 86}),
    "a tag twice": seal(
        MESSAGE, change=lambda fields: [fields[0].replace(b"cv=none", b"cv=none; cv=none"), *fields[1:]]
    ),
    "a second From on top": b"From: x@evil.example\r\n" + ONE,
}


@pytest.mark.parametrize("message", BROKEN.values(), ids=BROKEN.keys())
def test_broken(message: bytes) -> None:
    result = check(message, ZONES)
    assert result.word is Word.FAIL
    assert result.problem
    assert result.problem.isprintable()
    assert result.sealers == ()


# What looks odd and is right.
RIGHT: dict[str, bytes] = {
    "unknown tags": seal(MESSAGE, seal_tags={"zz": "1"}, message_tags={"yy": "2"}),
    "no time": seal(MESSAGE, seal_tags={"t": None}, message_tags={"t": None}),
    "names in other case": ONE.replace(b"ARC-Seal:", b"arc-SEAL:"),
    "a name of h= that is not there": seal(MESSAGE, message_tags={"h": "from:from:x-none:subject"}),
    "instance with a zero": seal(MESSAGE, seal_tags={"i": "01"}),
    "not expired": seal(MESSAGE, message_tags={"x": str(int(NOW) + 60)}),
}


@pytest.mark.parametrize("message", RIGHT.values(), ids=RIGHT.keys())
def test_right(message: bytes) -> None:
    assert check(message, ZONES) == ArcResult(Word.PASS, 1, DOMAINS[:1])


def test_an_older_message_signature_need_not_even_be_readable() -> None:
    broken = seal(MESSAGE, message_tags={"bh": None, "h": None})
    assert check(broken, ZONES).word is Word.FAIL
    assert check(seal(broken, "alumni.example"), ZONES).word is Word.PASS


def test_an_unanswered_question_is_neither_pass_nor_fail() -> None:
    for domain in DOMAINS[:2]:
        table = {**ZONES, f"arc._domainkey.{domain}": Unavailable("SERVFAIL")}
        result = check(TWO, table)
        assert result.word is Word.TEMPERROR
        assert "SERVFAIL" in result.problem


def test_nobody_is_asked_for_what_the_bytes_tell() -> None:
    for message in (MESSAGE, TWO.replace(b"a test", b"a best"), BROKEN["no seal"], BROKEN["no cv="]):
        resolver = TableResolver(ZONES)
        check(message, resolver)
        assert not resolver.asked


def test_each_key_is_asked_for_once() -> None:
    message = MESSAGE
    for _ in range(5):
        message = seal(message)
    resolver = TableResolver(ZONES)
    assert check(message, resolver).word is Word.PASS
    assert sum(resolver.asked.values()) == 1


def test_fifty_sets_and_no_more() -> None:
    message = MESSAGE
    for _ in range(SETS):
        message = seal(message)
    start = time.process_time()
    assert check(message, ZONES).word is Word.PASS
    assert time.process_time() - start < 1
    one_more = seal(message)
    assert check(one_more, ZONES).word is Word.FAIL
    fields = b"ARC-Seal: i=1; a=rsa-sha256\r\n" * 5000
    start = time.process_time()
    assert check(fields + MESSAGE, ZONES).word is Word.FAIL
    assert time.process_time() - start < 1


def test_bombs_cost_little() -> None:
    names = ":".join(["from", *[f"x{number}" for number in range(2500)]])
    sealed = seal(MESSAGE, message_tags={"h": names})
    bombs = {
        "thousands of names in h=": sealed,
        "a large header": b"".join([b"X%d: y\r\n" % number for number in range(20_000)]) + sealed,
        "a long fold": b"X0: " + b" \r\n" * 50_000 + b" x\r\n" + sealed,
    }
    for name, message in bombs.items():
        start = time.process_time()
        check(message, ZONES)
        assert time.process_time() - start < 0.5, name


def test_several_records_of_one_selector() -> None:
    table = {"arc._domainkey.list.example": {"TXT": ["rubbish", record(OTHER_KEY), record(KEY)]}}
    assert check(ONE, table).word is Word.PASS


def test_simple_canonicalisation_is_the_default() -> None:
    body = MESSAGE.partition(b"\r\n\r\n")[2].rstrip(b"\r\n") + b"\r\n"
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    message = seal(MESSAGE, message_tags={"c": "relaxed", "bh": digest})
    assert check(message, ZONES).word is Word.PASS
    assert check(message.replace(b"Hey  gang", b"Hey gang"), ZONES).word is Word.FAIL


PIECES = [
    b"i=1",
    b";",
    b" ",
    b"\r\n ",
    b"a=ed25519-sha256",
    b"b=",
    b"AAAA",
    b"cv=none",
    b"cv=pass",
    b"d=a.example",
    b"s=x",
]
PIECES += [b"h=from", b"bh=AAAA", b"c=simple", b"=", b"\xff", b"i=2", b"t=1"]


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"ARC-Seal:", b"ARC-Message-Signature:", b"ARC-Authentication-Results:", b"From:"]),
            st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join) | st.binary(max_size=40),
        ),
        max_size=8,
    )
)
def test_total(fields: list[tuple[bytes, bytes]]) -> None:
    message = b"".join([name + value + b"\r\n" for name, value in fields]) + b"\r\nbody\r\n"
    assert check(message, ZONES).word is not Word.PASS


# -- an independent program


def oracle(message: bytes, key: RSAPrivateKey) -> bool:
    answer = record(key).encode()
    return bool(dkimpy.arc_verify(message, dnsfunc=lambda name, timeout=5: answer)[0] == dkimpy.CV_Pass)


def test_what_another_program_seals() -> None:
    vectors = Path(__file__).parents[2] / "vectors" / "arc"
    message = (vectors / "dkimpy-1.1.8.eml").read_bytes()
    texts = [(vectors / "dkimpy-1.1.8.key").read_text().strip()]
    table: dict[str, Texts | Lookup] = {f"arc._domainkey.{domain}": {"TXT": texts} for domain in DOMAINS}
    assert check(message, table) == ArcResult(Word.PASS, 3, DOMAINS)
    for field in fields_of(message):
        name, _, value = field.partition(b":")
        if name.startswith(b"ARC-") or name in {b"From", b"Subject"}:
            changed = message.replace(field, name + b":" + value.replace(b"a", b"e", 1), 1)
            assert check(changed, table).word is Word.FAIL, name


def test_what_another_program_says_of_the_same_chains(rsa_key: RSAPrivateKey) -> None:
    table = zones(*DOMAINS, key=rsa_key)
    one = seal(MESSAGE, key=rsa_key)
    two = seal(one, "alumni.example", key=rsa_key)
    messages = [one, two, seal(two, "third.example", key=rsa_key)]
    messages += [two.replace(old, new, 1) for old, new in AFTER.values()]
    messages += [
        seal(MESSAGE, key=rsa_key, change=without(1)),
        seal(MESSAGE, key=rsa_key, change=twice(2)),
        seal(MESSAGE, key=rsa_key, seal_tags={"cv": "pass"}),
        seal(one, "alumni.example", key=rsa_key, seal_tags={"cv": "none"}),
        seal(MESSAGE, key=rsa_key, seal_tags={"h": "from"}),
        seal(MESSAGE, key=rsa_key, message_tags={"h": "from:arc-seal"}),
        seal(one.replace(b"a test", b"a list"), "alumni.example", key=rsa_key),
    ]
    verdicts = [(check(message, table).word is Word.PASS, oracle(message, rsa_key)) for message in messages]
    assert [ours for ours, _ in verdicts] == [theirs for _, theirs in verdicts]
    assert {ours for ours, _ in verdicts} == {True, False}
