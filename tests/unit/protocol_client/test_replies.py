"""Replies from bytes: what is kept, what is made safe, what is refused."""

from __future__ import annotations

import pytest

from staffetta.mail.reply import Reply, reply
from staffetta.protocol.replies import LINE_OCTETS, REPLY_LINES, REPLY_OCTETS, ReplyError, ReplyReader


def read(data: bytes) -> list[Reply]:
    reader = ReplyReader()
    reader.feed(data)
    found = []
    while (one := reader.next()) is not None:
        found.append(one)
    return found


GOOD = [
    (b"250 Ok\r\n", reply(250, "", "Ok")),
    (b"250\r\n", reply(250, "", "")),
    (b"250 \r\n", reply(250, "", "")),
    (b"250 2.1.0 Ok\r\n", reply(250, "2.1.0", "Ok")),
    (b"250 2.1.0\r\n", reply(250, "2.1.0", "")),
    (b"250 Ok\n", reply(250, "", "Ok")),  # servers with bare LF exist, and nothing follows from it but the text
    (b"550 5.1.1 <x@y>: no such user\r\n", reply(550, "5.1.1", "<x@y>: no such user")),
    (b"550 4.1.1 wrong class\r\n", reply(550, "", "4.1.1 wrong class")),
    (b"571 5.7.1 odd digit\r\n", reply(571, "5.7.1", "odd digit")),
    (b"550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n", reply(550, "5.7.1", "one", "two", "three")),
    (b"550-5.7.1 one\r\n550 5.7.2 two\r\n", reply(550, "5.7.1", "one", "5.7.2 two")),
    (b"250-a\r\n250\r\n", reply(250, "", "a", "")),
    (b"250 a\rb\r\n", reply(250, "", "a?b")),
    (b"250 a\0b\x1b[2Jc\x7f\r\n", reply(250, "", "a?b?[2Jc?")),
    (b"250 a\tb\r\n", reply(250, "", "a b")),
    ("250 gr\u00fc\u00df\r\n".encode(), reply(250, "", "gr\u00fc\u00df")),
    ("250 a\u2028b\u0085c\u202ed\r\n".encode(), reply(250, "", "a?b?c?d")),
    (b"250 a\xffb\r\n", reply(250, "", "a\ufffdb")),
    (b"250 a\r\r\n", reply(250, "", "a?")),
]


@pytest.mark.parametrize(("data", "expected"), GOOD, ids=[repr(data) for data, _ in GOOD])
def test_reads(data: bytes, expected: Reply) -> None:
    assert read(data) == [expected]
    assert read(data + data) == [expected, expected]


BAD = [
    b"\r\n",
    b"25\r\n",
    b"hello\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"150 no\r\n",
    b"650 no\r\n",
    b"25x no\r\n",
    b" 250 no\r\n",
    b"+25 no\r\n",
    b"1_0 no\r\n",
    b"250x\r\n",
    b"250\tno\r\n",
    "\u0662\u0665\u0660 no\r\n".encode(),
    b"250-a\r\n251 b\r\n",
    b"250-a\r\nb\r\n",
    b"250-a\r\n" * REPLY_LINES + b"250 a\r\n",
    b"250 " + b"x" * REPLY_OCTETS + b"\r\n",
    b"250 " + b"x" * REPLY_OCTETS,
    b"250-" + b"x" * 1000 + b"\r\n" + (b"250-" + b"x" * 1000 + b"\r\n") * 70,
]


@pytest.mark.parametrize("data", BAD, ids=[repr(data[:30]) for data in BAD])
def test_refuses(data: bytes) -> None:
    with pytest.raises(ReplyError):
        read(data)


def test_the_most_that_is_allowed() -> None:
    (one,) = read(b"250-a\r\n" * (REPLY_LINES - 1) + b"250 a\r\n")
    assert len(one.lines) == REPLY_LINES


@pytest.mark.parametrize("extra", [-2, -1, 0, 1, 2, 1000])
def test_long_lines_are_cut_alike_at_any_split(extra: int) -> None:
    data = b"550 " + b"x" * (LINE_OCTETS - 4 + extra) + b"\r\n"
    (whole,) = read(data)
    assert len(whole.lines[0]) == min(LINE_OCTETS - 4, LINE_OCTETS - 4 + extra)
    reader = ReplyReader()
    for at in range(len(data)):
        assert reader.next() is None
        reader.feed(data[at : at + 1])
    assert reader.next() == whole
    assert not reader.pending


def test_an_endless_line_costs_little_memory() -> None:
    reader = ReplyReader()
    reader.feed(b"250 ")
    with pytest.raises(ReplyError):  # noqa: PT012
        for _ in range(100):
            reader.feed(b"x" * 1000)
            assert reader.next() is None
            assert len(reader._buffer) <= LINE_OCTETS + 1


def test_pending_says_what_is_left() -> None:
    reader = ReplyReader()
    assert not reader.pending
    reader.feed(b"250 a\r\n2")
    assert reader.pending
    assert reader.next() is not None
    assert reader.pending
    reader.feed(b"50-b\r\n")
    assert reader.next() is None
    assert reader.pending
    reader.feed(b"250 c\r\n")
    assert reader.next() is not None
    assert not reader.pending
