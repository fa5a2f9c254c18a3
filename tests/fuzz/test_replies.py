"""What no server may do to us: seeds for the reply reader, the transaction core and dot stuffing."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.mail.outcome import Result
from staffetta.mail.reply import Reply, reply
from staffetta.protocol.capabilities import parse_capabilities
from staffetta.protocol.client import READY, Opening, OpeningSettings, Refused
from staffetta.protocol.client_commands import Commands
from staffetta.protocol.content import BareLineEnd, Stuffer, wrap
from staffetta.protocol.replies import ReplyError, ReplyReader
from staffetta.protocol.transaction import CONTENT, DONE, Manner, Transaction
from staffetta.protocol.verdict import LOST
from staffetta.testing.sink_script import Received, faults_of, unstuff

LINES = st.one_of(
    st.sampled_from(
        [
            b"250 Ok\r\n",
            b"250-a\r\n",
            b"250 2.1.0 a\r\n",
            b"250\n",
            b"550 5.1.1 \xff\r\n",
            b"421 \0\r\n",
            b"2",
            b"\r",
            b"\n",
        ]
    ),
    st.binary(max_size=20),
    st.integers(2030, 2060).map(lambda size: b"250-" + b"x" * size + b"\r\n"),
)
STREAMS = st.lists(LINES, max_size=12).map(b"".join)


def read(pieces: list[bytes]) -> list[Reply | str]:
    reader = ReplyReader()
    found: list[Reply | str] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (one := reader.next()) is not None:
                found.append(one)
    except ReplyError:
        found.append("error")
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *[place % (len(data) + 1) for place in places]})
    return [data[start:end] for start, end in pairwise(edges)]


@given(STREAMS, st.lists(st.integers(0, 1 << 16), max_size=20))
def test_replies_do_not_depend_on_the_split(data: bytes, places: list[int]) -> None:
    assert read(cut(data, places)) == read([data])


@given(STREAMS)
def test_replies_octet_by_octet(data: bytes) -> None:
    assert read([data[at : at + 1] for at in range(len(data))]) == read([data])


@given(STREAMS)
def test_kept_text_breaks_no_line(data: bytes) -> None:
    for one in read([data]):
        if isinstance(one, Reply):
            assert 200 <= one.code < 600
            assert one.lines
            for line in one.lines:
                assert not [c for c in line if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


CODES = st.one_of(st.sampled_from([220, 250, 250, 250, 354, 354, 334, 421, 450, 503, 550]), st.integers(200, 599))
REPLIES = st.lists(CODES.map(lambda code: reply(code, "", "x")), max_size=14)
MANNERS = st.builds(Manner, pipelining=st.booleans(), chunking=st.booleans(), lmtp=st.booleans())


@given(REPLIES, MANNERS, st.integers(1, 5), st.integers(1, 3), st.booleans())
@settings(max_examples=400)
def test_a_transaction_always_ends_with_one_outcome_each(
    replies: list[Reply], manner: Manner, count: int, chunks: int, reset: bool
) -> None:
    commands = Commands("MAIL FROM:<>\r\n", ["RCPT TO:<a@b>\r\n"] * count, "ascii")
    transaction = Transaction(commands, manner, reset=reset)
    transaction.begin()
    sent = heard_after_dot = False
    for one in replies:
        while transaction.phase == CONTENT:
            chunks -= 1
            transaction.content_sent(last=chunks <= 0)
            sent = chunks <= 0
        if transaction.phase == DONE:
            break
        heard_after_dot |= sent and 200 <= one.code < 300
        transaction.receive(one)
    if transaction.phase != DONE:
        transaction.fail(LOST)
    outcomes = transaction.outcomes
    assert len(outcomes) == count
    for outcome in outcomes:
        assert outcome is not None
        assert sent or not outcome.in_doubt
        assert (outcome.result is Result.DELIVERED) <= heard_after_dot
        if outcome.result is Result.FAILED:
            assert outcome.reply.is_permanent
        if outcome.in_doubt:
            assert outcome.result is Result.DEFERRED
            assert transaction.closed


TEXTS = st.lists(st.text(max_size=30), min_size=1, max_size=4)
WORDY = st.builds(lambda code, lines: Reply(code, None, tuple(lines)), CODES, TEXTS)


@given(st.lists(WORDY, max_size=12))
def test_an_opening_never_breaks(replies: list[Reply]) -> None:
    opening = Opening(OpeningSettings("relay.example", need_tls=True), secure=False, nonce="n")
    for one in replies:
        parse_capabilities(one)
        try:
            opening.receive(one)
        except Refused:
            return
        assert opening.phase != READY, "a session without TLS"
        if opening.phase:
            return


CONTENT_PIECES = st.lists(
    st.sampled_from([b"\r\n", b".", b"..", b"\r\n.\r\n", b"a", b"\r\n.", b"hello", b"\xff\x80", b".\r\n"]), max_size=20
).map(b"".join)
ANY_PIECES = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"a", b"\r\n", b"\r\n.\r\n"]), max_size=10).map(
    b"".join
)


@given(CONTENT_PIECES, st.lists(st.integers(0, 1 << 10), max_size=12))
def test_what_is_stuffed_comes_out_again(content: bytes, places: list[int]) -> None:
    stuffer = Stuffer()
    wire = b"".join([stuffer.feed(piece) for piece in cut(content, places)]) + stuffer.finish()
    assert wire == wrap(content)
    received = Received(1, b"", [], wire, unstuff(wire), tls=False)
    assert faults_of(received) == []
    assert wire.find(b"\r\n.\r\n") in {len(wire) - 5, -1}
    complete = content if content[-2:] == b"\r\n" or not content else content + b"\r\n"
    assert received.content == complete


@given(ANY_PIECES, st.lists(st.integers(0, 1 << 10), max_size=12))
def test_the_guard_does_not_depend_on_the_split(content: bytes, places: list[int]) -> None:
    def stream() -> bytes | None:
        stuffer = Stuffer()
        try:
            return b"".join([stuffer.feed(piece) for piece in cut(content, places)]) + stuffer.finish()
        except BareLineEnd:
            return None

    def whole() -> bytes | None:
        try:
            return wrap(content)
        except BareLineEnd:
            return None

    assert stream() == whole()
    rest = content.replace(b"\r\n", b"")
    assert (whole() is None) == (b"\r" in rest or b"\n" in rest or b"\0" in rest)
