"""Canonical forms: the RFC's examples, a slow model written from the text, and every split."""

from __future__ import annotations

import hashlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.mailauth.dkim.canonical import BLOCK_OCTETS, BodyCanon, BodyHash, Canon, canonical_field
from staffetta.message.header import field_from

BODIES: dict[bytes, tuple[bytes, bytes]] = {  # body: simple, relaxed
    b"": (b"\r\n", b""),
    b"\r\n": (b"\r\n", b""),
    b"\r\n\r\n\r\n": (b"\r\n", b""),
    b" \r\n": (b" \r\n", b""),
    b" ": (b" \r\n", b""),
    b" C \r\nD \t E\r\n\r\n\r\n": (b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),  # RFC 6376 section 3.4.5
    b"a": (b"a\r\n", b"a\r\n"),
    b"a\r\n": (b"a\r\n", b"a\r\n"),
    b"a\r\n\r\n\r\nb": (b"a\r\n\r\n\r\nb\r\n", b"a\r\n\r\n\r\nb\r\n"),
    b"a\r\n \t\r\n\t\r\n": (b"a\r\n \t\r\n\t\r\n", b"a\r\n"),
    b"a\t \t b\r\n": (b"a\t \t b\r\n", b"a b\r\n"),
    b"\r\n\r\na\r\n": (b"\r\n\r\na\r\n", b"\r\n\r\na\r\n"),
    b"a\n\n": (b"a\n\n\r\n", b"a\n\n\r\n"),
    b"a\r": (b"a\r\r\n", b"a\r\r\n"),
    b"a\r\r\n": (b"a\r\r\n", b"a\r\r\n"),
    b"a \r": (b"a \r\r\n", b"a \r\r\n"),
    b"\r\n\n\r\n\r\n": (b"\r\n\n\r\n", b"\r\n\n\r\n"),
    b"\r\r\n\r\n\n\r\n\r\n": (b"\r\r\n\r\n\n\r\n", b"\r\r\n\r\n\n\r\n"),
}


def model(body: bytes, canon: Canon) -> bytes:
    """RFC 6376 sections 3.4.3 and 3.4.4, sentence by sentence."""
    if canon is Canon.RELAXED:
        body = b"\r\n".join(re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n"))
    while body.endswith(b"\r\n"):
        body = body[:-2]
    return body + b"\r\n" if body or canon is Canon.SIMPLE else b""


def streamed(pieces: list[bytes], canon: Canon) -> bytes:
    body = BodyCanon(canon)
    return b"".join(body.feed(piece) for piece in pieces) + body.finish()


@pytest.mark.parametrize("body", BODIES)
def test_bodies_whole_and_at_every_split(body: bytes) -> None:
    for canon, wanted in zip(Canon, BODIES[body], strict=True):
        assert model(body, canon) == wanted
        assert streamed([bytes([octet]) for octet in body], canon) == wanted
        for first in range(len(body) + 1):
            assert streamed([body[:first], body[first:]], canon) == wanted
            for second in range(first, len(body) + 1):
                assert streamed([body[:first], body[first:second], body[second:]], canon) == wanted


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab \t\r\n", max_size=8)), st.sampled_from(Canon))
def test_any_splits_of_any_body(pieces: list[str], canon: Canon) -> None:
    octets = [piece.encode() for piece in pieces]
    assert streamed(octets, canon) == model(b"".join(octets), canon)


@pytest.mark.parametrize("filler", [b"\r\n", b" ", b"\t \r\n", b"\r", b"\n"])
@pytest.mark.parametrize("canon", Canon)
def test_blocks_are_not_seen(filler: bytes, canon: Canon) -> None:
    for over in (-1, 0, 1):
        body = b"a" * (BLOCK_OCTETS + over) + filler * (BLOCK_OCTETS + 3) + b"b \r\n\r\n"
        assert streamed([body], canon) == model(body, canon)


@pytest.mark.parametrize("filler", [b"\r\n", b" ", b" \t", b"\r", b"\n", b" \r\n", b"a \r\n", b"\r\r\n", b"  a"])
@pytest.mark.parametrize("canon", Canon)
def test_no_body_is_slow(filler: bytes, canon: Canon) -> None:
    data = filler * (2_000_000 // len(filler))
    began = time.process_time()
    digest = BodyHash(canon)
    digest.feed(data)
    digest.feed(b"x")
    digest.finish()
    assert time.process_time() - began < 0.5


def test_pieces_stay_small_when_many_empty_lines_were_not_the_last() -> None:
    body = BodyCanon(Canon.SIMPLE)
    for _ in range(100):
        assert body.feed(b"\r\n" * 10_000) == b""
    sizes = [len(piece) for piece in body.pieces(b"x")]
    assert sum(sizes) == 2_000_001
    assert max(sizes) <= BLOCK_OCTETS


@pytest.mark.parametrize(
    ("limit", "kept", "octets"), [(None, b"a b\r\n", 5), (0, b"", 5), (3, b"a b", 5), (5, b"a b\r\n", 5)]
)
def test_length_limits(limit: int | None, kept: bytes, octets: int) -> None:
    digest = BodyHash(Canon.RELAXED, limit)
    for octet in b"a  b\r\n\r\n":
        digest.feed(bytes([octet]))
    assert digest.finish() == hashlib.sha256(kept).digest()
    assert digest.octets == octets


@pytest.mark.parametrize(
    ("raw", "relaxed"),
    [
        (b"A: X\r\n", b"a:X\r\n"),  # RFC 6376 section 3.4.5
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
        (b"Subject:\r\n\r\n", b"subject:\r\n"),
        (b"SUBJect: AbC\r\n", b"subject:AbC\r\n"),
        (b"a:b:  c\r\n", b"a:b: c\r\n"),
        (b"a: \xc3\x84 \r\n", b"a:\xc3\x84\r\n"),
        (b"a:1\r\n \r\n 2", b"a:1 2\r\n"),
        (b"no colon\r\n", b":no colon\r\n"),
    ],
)
def test_fields(raw: bytes, relaxed: bytes) -> None:
    field = field_from(raw)
    assert canonical_field(field, Canon.RELAXED) == relaxed
    assert canonical_field(field, Canon.SIMPLE) == raw
