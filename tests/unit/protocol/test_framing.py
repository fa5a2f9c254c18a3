"""Lines and content against the plainest reference: the same whole, whatever the pieces."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.protocol import framing
from staffetta.protocol.framing import (
    AUTH_LINE_OCTETS,
    COMMAND_LINE_OCTETS,
    CONTENT_LINE_OCTETS,
    ENDLESS_LINE_OCTETS,
    ContentFilter,
    ContentProblem,
    Inbox,
    LineFault,
    has_bare_line_end,
)

OCTETS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\0", b"a", b"bcdefgh", b"\r\n.", b"\r\n.\r\n", b"\x85", b"\xff"]),
    max_size=30,
).map(b"".join)
CUTS = st.lists(st.integers(1, 12), max_size=40)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    found = []
    for cut in cuts:
        if octets:
            found.append(octets[:cut])
            octets = octets[cut:]
    return [*found, octets] if octets else found


def reference(content: bytes, limit: int, line_limit: int, *, normalise: bool) -> tuple[object, ...]:
    """What ContentFilter means, for content that is there as a whole."""
    problems = set()
    if normalise:
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", content).replace(b"\0", b"")
    elif re.search(rb"\r(?!\n)|(?<!\r)\n", content):
        problems.add(ContentProblem.BARE_LINE_ENDING)
    if b"\0" in content:
        problems.add(ContentProblem.NUL)
    if any(len(line) - line.endswith(b"\r") > line_limit for line in content.split(b"\n")):
        problems.add(ContentProblem.LINE_TOO_LONG)
    if content and not content.endswith(b"\n"):
        content += b"\r\n"
    if len(content) > limit:
        problems.add(ContentProblem.TOO_BIG)
    return next((one for one in ContentProblem if one in problems), None), b"" if problems else content


@pytest.mark.parametrize("normalise", [False, True], ids=["strict", "normalise"])
@settings(max_examples=400, deadline=None)
@given(OCTETS, CUTS, st.integers(5, 200))
def test_content(normalise: bool, octets: bytes, cuts: list[int], limit: int) -> None:
    content = ContentFilter(limit, normalise=normalise)
    kept = b""
    for piece in pieces(octets, cuts):
        kept += content.take(piece)
    kept += content.finish()
    problem, expected = reference(octets, limit, CONTENT_LINE_OCTETS, normalise=normalise)
    assert content.problem == problem
    if problem is None:
        assert kept == expected
        assert content.octets == len(expected)


@pytest.mark.parametrize("normalise", [False, True], ids=["strict", "normalise"])
def test_line_length(normalise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a line limit of ten octets, so that every border is met."""
    monkeypatch.setattr(framing, "CONTENT_LINE_OCTETS", 10)

    @settings(max_examples=500, deadline=None)
    @given(
        st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b"a", b"abc", b"a" * 9, b"a" * 10]), max_size=12), CUTS
    )
    def check(parts: list[bytes], cuts: list[int]) -> None:
        octets = b"".join(parts)
        content = ContentFilter(1000, normalise=normalise)
        for piece in pieces(octets, cuts):
            content.take(piece)
        content.finish()
        whole = ContentFilter(1000, normalise=normalise)
        whole.take(octets)
        whole.finish()
        assert content.problem == whole.problem
        if normalise:
            problem, _ = reference(octets, 1000, 10, normalise=normalise)
            assert content.problem == problem

    check()


@pytest.mark.parametrize("width", [0, 1000, 65536, 65537])
@pytest.mark.parametrize(
    ("octets", "problem"), [(CONTENT_LINE_OCTETS, None), (CONTENT_LINE_OCTETS + 1, "line_too_long")]
)
def test_longest_line(octets: int, problem: str | None, width: int) -> None:
    stream = b"a\r\n" + b"x" * octets + b"\r\nb\r\n"
    content = ContentFilter(10**6, normalise=False)
    step = width or len(stream)
    for at in range(0, len(stream), step):
        content.take(stream[at : at + step])
    assert content.problem == problem


@settings(max_examples=500, deadline=None)
@given(OCTETS)
def test_bare_line_ends(octets: bytes) -> None:
    assert has_bare_line_end(octets) == bool(re.search(rb"\r(?!\n)|(?<!\r)\n", octets))


DATA = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"a", b"\r\n.", b"\r\n.\r"]), max_size=20).map(
    b"".join
)


@settings(max_examples=500, deadline=None)
@given(DATA, CUTS)
def test_data(content: bytes, cuts: list[int]) -> None:
    """Only CRLF.CRLF ends it, a dot at the beginning of a line goes, and what follows is untouched."""
    stream = content + b"\r\n.\r\nNOOP\r\n"
    end = (b"\r\n" + stream).index(b"\r\n.\r\n")
    expected = (b"\r\n" + stream)[: end + 2].replace(b"\r\n.", b"\r\n")[2:]
    inbox = Inbox()
    inbox.begin_data()
    found = b""
    for piece in pieces(stream, cuts):
        inbox.receive(piece)
        inbox.gather()
        while not inbox.data_ended and (stretch := inbox.data()) is not None:
            found += stretch
    assert inbox.data_ended
    assert found == expected
    assert inbox.chunk(10**6) == (b"\r\n" + stream)[end + 5 :]


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"NOOP\r\n", ["NOOP"]),
        (b"\r\n\r\n", ["", ""]),
        (b"a\nb\r\nc\r\n", [LineFault.BARE_LF, "c"]),
        (b"a\nb\nc\r\nd\r\n", [LineFault.BARE_LF, LineFault.BARE_LF, "d"]),
        (b"\n\r\na\r\n", [LineFault.BARE_LF, "a"]),
        (b"a\rb\r\n", [LineFault.BARE_CR]),
        (b"a\r\r\n", [LineFault.BARE_CR]),
        (b"a\0b\r\n", [LineFault.NUL]),
        (b"a\tb\r\n", [LineFault.CONTROL]),
        (b"a\x7fb\r\n", [LineFault.CONTROL]),
        ("a\u2028b\r\n".encode(), [LineFault.CONTROL]),
        ("a\x85b\r\n".encode(), [LineFault.CONTROL]),
        (b"a\x85b\r\n", [LineFault.NOT_UTF8]),
        ("aüb\r\n".encode(), ["aüb"]),
        (b"x" * (COMMAND_LINE_OCTETS - 2) + b"\r\na\r\n", ["x" * (COMMAND_LINE_OCTETS - 2), "a"]),
        (b"x" * (COMMAND_LINE_OCTETS - 1) + b"\r\na\r\n", [LineFault.TOO_LONG, "a"]),
        (b"x" * 5000 + b"\na\r\nb\r\n", [LineFault.BARE_LF, "b"]),
        (b"x" * 5000 + b"\r\r\nb\r\n", [LineFault.TOO_LONG, "b"]),
        (b"auth " + b"x" * (AUTH_LINE_OCTETS - 7) + b"\r\na\r\n", ["auth " + "x" * (AUTH_LINE_OCTETS - 7), "a"]),
        (b"auth " + b"x" * (AUTH_LINE_OCTETS - 6) + b"\r\na\r\n", [LineFault.TOO_LONG, "a"]),
        (b"x" * (ENDLESS_LINE_OCTETS - 2) + b"\r\na\r\n", [LineFault.TOO_LONG, "a"]),
        (b"x" * (ENDLESS_LINE_OCTETS - 1) + b"\r\n", [LineFault.ENDLESS]),
    ],
    ids=lambda value: repr(value)[:30],
)
@pytest.mark.parametrize("width", [0, 1, 2, 3, 1000])
def test_lines(octets: bytes, expected: list[str | LineFault], width: int) -> None:
    inbox = Inbox()
    found: list[str | LineFault] = []
    step = width or len(octets)
    for at in range(0, len(octets), step):
        inbox.receive(octets[at : at + step])
        inbox.gather()
        while (line := inbox.line()) is not None:
            found.append(line)
            if line is LineFault.ENDLESS:
                break
        inbox.compact()
        assert inbox.octets <= AUTH_LINE_OCTETS
        if LineFault.ENDLESS in found:
            break
    assert found == expected


def test_many_small_receives_are_cheap() -> None:
    """While an answer is pending, octets may come one by one: they are joined once."""
    inbox = Inbox()
    for _ in range(200_000):
        inbox.receive(b"x")
    assert inbox.octets == 200_000
    inbox.gather()
    assert inbox.chunk(10**6) == b"x" * 200_000
