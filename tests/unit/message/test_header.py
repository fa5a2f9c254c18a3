"""Fields as received: found as everybody finds them, kept to the octet, oddities named."""

from __future__ import annotations

import pytest

from staffetta.message.header import Header, HeaderProblem, field_from, unfold

PLAIN = b"From: a@x.example\r\nSubject: one\r\n two\r\n\tthree\r\nTo: b@y.example\r\n"


@pytest.mark.parametrize(
    ("block", "problems"),
    [
        (b"", []),
        (PLAIN, []),
        (b"From: no line end", []),
        (b"X:\r\n", []),
        (b"Subject: caf\xc3\xa9 \xe9\r\n", []),
        (b"__class__: x\r\nheaders: y\r\nself: z\r\nget: w\r\n", []),
        (b"From : a@x.example\r\n", [HeaderProblem.SPACE_BEFORE_COLON]),
        (b"From\t:a@x.example\r\n", [HeaderProblem.SPACE_BEFORE_COLON]),
        (b"From\r\n : a@x.example\r\n", [HeaderProblem.ODD_NAME]),
        (b"Fr om: a@x.example\r\n", [HeaderProblem.ODD_NAME]),
        (b"Fr\xc3\xb6m: a@x.example\r\n", [HeaderProblem.ODD_NAME]),
        (b"From a@x.example Tue Nov 24 11:08:42 2026\r\nTo: b\r\n", [HeaderProblem.ODD_NAME]),
        (b": value\r\n", [HeaderProblem.EMPTY_NAME]),
        (b"To: b\r\nno colon here\r\nFrom: a\r\n", [HeaderProblem.NOT_A_FIELD]),
        (b" From: a\r\n", [HeaderProblem.LEADING_SPACE, HeaderProblem.ODD_NAME]),
        (b"To: b\r\n \t\r\nFrom: a\r\n", [HeaderProblem.BLANK_FOLD]),
        (b"To: b\nFrom: a\r\n", [HeaderProblem.BARE_LINE_END]),
        (b"To: b\rFrom: a\r\n", [HeaderProblem.BARE_LINE_END]),
        (b"To: \x01b\r\n", [HeaderProblem.CONTROL]),
        (b"To: \x7fb\r\n", [HeaderProblem.CONTROL]),
        (b"To: b\0\r\n", [HeaderProblem.NUL]),
        (b"T\0o: b\r\n", [HeaderProblem.NUL, HeaderProblem.ODD_NAME]),
        (b"a:\r\n" * 2001, [HeaderProblem.TOO_MANY_FIELDS]),
        (b"a: " + b"x" * 262144 + b"\r\n", [HeaderProblem.TOO_BIG]),
    ],
)
def test_problems(block: bytes, problems: list[HeaderProblem]) -> None:
    header = Header(block)
    assert list(header.problems) == problems
    # The quick look and the thorough one agree, but for size, which only the thorough one sees.
    if not set(problems) & {HeaderProblem.TOO_BIG, HeaderProblem.TOO_MANY_FIELDS}:
        assert Header(block).well_formed == (not problems)


def test_fields_keep_every_octet() -> None:
    fields = Header(PLAIN).fields
    assert [field.name for field in fields] == [b"from", b"subject", b"to"]
    assert fields[1].raw == b"Subject: one\r\n two\r\n\tthree\r\n"
    assert fields[1].value == b"one two\tthree"
    assert b"".join(field.raw for field in fields) == PLAIN


@pytest.mark.parametrize(
    ("block", "name", "values"),
    [
        (PLAIN, b"subject", [b"one two\tthree"]),
        (PLAIN, b"from", [b"a@x.example"]),
        (PLAIN, b"bcc", []),
        (PLAIN, b"su", []),
        (b"FROM:a\r\nfrom: b\r\nFromage: c\r\nFrom \t: d", b"from", [b"a", b"b", b"d"]),
        (b"X: y\r\n From: folded\r\nFrom: real\r\n", b"from", [b"real"]),
        (b"From\r\n : hidden\r\n", b"from", []),
        (b"__class__: x\r\n", b"__class__", [b"x"]),
        (b"To:\r\n", b"to", [b""]),
    ],
)
def test_lookup_agrees_with_the_index(block: bytes, name: bytes, values: list[bytes]) -> None:
    header = Header(block)
    assert [field.value for field in header.all(name)] == values
    assert header.count(name) == len(values)
    assert header.has(name) == bool(values)
    first = header.first(name)
    assert (first.value if first else None) == (values[0] if values else None)
    assert header.value(name) == (values[0] if values else None)


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"From: a\r\n", 0),
        (b"From : a\r\n", 1),
        (b"From\r\n : a\r\n", 1),
        (b"Fr\0om: a\r\n", 1),
        (b"\x01From: a\r\n", 1),
        (b" From: a\r\n", 1),
        (b"From: a\r\nFr om: b\r\nF r o m : c\r\n", 2),
    ],
)
def test_disguises(block: bytes, found: int) -> None:
    assert len(Header(block).disguised(b"from")) == found
    assert Header(block).shows(b"from")


@pytest.mark.parametrize(
    "block", [b"", b"Subject: from: a\r\n", b"X-From: a\r\n", b"X: y\r\n from: b\r\n", b"from\r\n"]
)
def test_what_is_no_field_of_the_name_shows_none(block: bytes) -> None:
    assert not Header(block).shows(b"from")


def test_without_returns_the_same_object_when_nothing_goes() -> None:
    header = Header(PLAIN)
    assert header.without(lambda field: field.name == b"bcc") is PLAIN
    assert header.without(lambda field: field.name == b"subject") == b"From: a@x.example\r\nTo: b@y.example\r\n"


def test_unfold_keeps_white_space() -> None:
    assert unfold(b" a\r\n\tb\r\n") == b" a\tb"


def test_a_line_without_colon_is_a_field_without_name() -> None:
    field = field_from(b"hello\r\n")
    assert (field.name, field.value, field.is_plain) == (b"", b"hello", False)
