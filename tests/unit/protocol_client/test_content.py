"""The last guard, and dots: in one piece and at every split."""

from __future__ import annotations

import itertools

import pytest

from staffetta.protocol.content import BareLineEnd, LineGuard, Stuffer, wrap

GOOD = [
    (b"", b".\r\n"),
    (b"a", b"a\r\n.\r\n"),
    (b"a\r\n", b"a\r\n.\r\n"),
    (b"\r\n", b"\r\n.\r\n"),
    (b".", b"..\r\n.\r\n"),
    (b".\r\n", b"..\r\n.\r\n"),
    (b"..\r\n", b"...\r\n.\r\n"),
    (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
    (b"a\r\n.\r\n.\r\n.b.\r\n", b"a\r\n..\r\n..\r\n..b.\r\n.\r\n"),
    (b"a.\r\n", b"a.\r\n.\r\n"),
    (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
    (b"\x80\xff\x01\r\n", b"\x80\xff\x01\r\n.\r\n"),
]
BAD = [
    b"a\n.\r\n",
    b"\ra\n",
    b"x\ry\nz\r\n",
    b"\n",
    b"\r",
    b"a\r",
    b"a\r\n\r",
    b"\r\r\n",
    b"\n\r",
    b"a\r\n\n.\r\n",
    b"a\n.\r\n",
    b"\ra\n",
    b"x\ry\nz\r\n",
    b"a\r.\r\n",
    b"\0",
    b"a\0\r\n",
]


def stuffed(pieces: list[bytes]) -> bytes:
    stuffer = Stuffer()
    return b"".join([stuffer.feed(piece) for piece in pieces]) + stuffer.finish()


def splits(content: bytes) -> list[list[bytes]]:
    pairs = [[content[:at], content[at:]] for at in range(len(content) + 1)]
    return [*pairs, [content[at : at + 1] for at in range(len(content))]]


@pytest.mark.parametrize(("content", "wire"), GOOD)
def test_stuffs(content: bytes, wire: bytes) -> None:
    assert wrap(content) == wire
    for pieces in splits(content):
        assert stuffed(pieces) == wire, pieces


@pytest.mark.parametrize("content", BAD)
def test_refuses(content: bytes) -> None:
    with pytest.raises(BareLineEnd):
        wrap(content)
    for pieces in splits(content):
        with pytest.raises(BareLineEnd):
            stuffed(pieces)


@pytest.mark.parametrize("content", BAD)
def test_nothing_of_a_bad_chunk_comes_out(content: bytes) -> None:
    stuffer = Stuffer()
    wire = b""
    with pytest.raises(BareLineEnd):  # noqa: PT012
        for octet in content:
            wire += stuffer.feed(bytes([octet]))
        wire += stuffer.finish()
    assert b"\0" not in wire
    assert b"\n" not in wire.replace(b"\r\n", b"")


def test_guard_supplies_the_last_line_end() -> None:
    guard = LineGuard()
    guard.check(b"a")
    assert guard.finish() == b"\r\n"
    guard.check(b"\r")
    guard.check(b"\n")
    assert guard.finish() == b""


def judged_octet_by_octet(content: bytes) -> bytes | None:
    """The wire form, None for what must not leave: written without a search."""
    wire = b""
    for at, octet in enumerate(content):
        before = content[at - 1] if at else None
        behind = content[at + 1] if at + 1 < len(content) else None
        if octet == 0 or (octet == 10 and before != 13) or (octet == 13 and behind != 10):
            return None
        if octet == 46 and before in {None, 10}:
            wire += b"."
        wire += content[at : at + 1]
    return wire + (b".\r\n" if wire[-1:] in {b"", b"\n"} else b"\r\n.\r\n")


def test_every_short_content_is_judged_as_octet_by_octet() -> None:
    for length in range(7):
        for octets in itertools.product(b"\r\n.\0a", repeat=length):
            content = bytes(octets)
            try:
                wire = wrap(content)
            except BareLineEnd:
                wire = None
            assert wire == judged_octet_by_octet(content), content
