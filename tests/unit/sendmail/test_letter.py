"""What a program writes to standard input, and what of it is the message."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.message.qualify import elements, qualified, qualified_list
from staffetta.sendmail.letter import Letter, addresses, header_recipients, one_address
from staffetta.sendmail.statuses import Stop


class Drops:
    """A source that gives a few octets at a time."""

    def __init__(self, octets: bytes, sizes: list[int]) -> None:
        self._stream = io.BytesIO(octets)
        self._sizes = sizes

    def read(self, size: int, /) -> bytes:
        return self._stream.read(self._sizes.pop(0) if self._sizes else size)


def read(octets: bytes, *, dot_ends: bool = True, sizes: list[int] | None = None) -> tuple[bytes, bytes]:
    letter = Letter(Drops(octets, list(sizes or [])), dot_ends=dot_ends)
    letter.read_header()
    return letter.header, b"".join(letter.rest())


@pytest.mark.parametrize(
    ("written", "header", "rest"),
    [
        (b"", b"", b""),
        (b"Subject: x\n\nhello\n", b"Subject: x\r\n", b"\r\nhello\r\n"),
        (b"Subject: x\r\n\r\nhello\r\n", b"Subject: x\r\n", b"\r\nhello\r\n"),
        (b"A: b\r\nSubject: x\n\nhello\r\nworld\n", b"A: b\r\nSubject: x\r\n", b"\r\nhello\r\nworld\r\n"),
        (b"Subject: x\n folded\n\thow: it\n\nhello", b"Subject: x\r\n folded\r\n\thow: it\r\n", b"\r\nhello\r\n"),
        (b"Subject: x\n", b"Subject: x\r\n", b""),
        (b"Subject: x", b"Subject: x\r\n", b""),
        (b"hello\nworld\n", b"", b"\r\nhello\r\nworld\r\n"),
        (b" hello\n", b"", b"\r\n hello\r\n"),
        (b"\nhello\n", b"", b"\r\nhello\r\n"),
        (b"Subject: x\nhello world\n", b"Subject: x\r\n", b"\r\nhello world\r\n"),
        (b"From root Tue Nov 24\nSubject: x\n\nhi\n", b"Subject: x\r\n", b"\r\nhi\r\n"),
        (b"From: root\n\nhi\n", b"From: root\r\n", b"\r\nhi\r\n"),
        (b"Subject: x\n\na\n.\nb\n", b"Subject: x\r\n", b"\r\na\r\n"),
        (b"Subject: x\n.\nb\n", b"Subject: x\r\n", b""),
        (b".\nb\n", b"", b""),
        (b"a\n..\n.x\n", b"", b"\r\na\r\n..\r\n.x\r\n"),
        (b"a\n.", b"", b"\r\na\r\n"),
        (b"a\r.\rb", b"", b"\r\na\r\n"),
        (b"nul\0x\n", b"", b"\r\nnulx\r\n"),
    ],
)
def test_where_header_and_message_end(written: bytes, header: bytes, rest: bytes) -> None:
    assert read(written) == (header, rest)
    for size in (1, 2, 3):
        assert read(written, sizes=[size] * len(written)) == (header, rest)


def test_dots_stay_when_they_do_not_end() -> None:
    assert read(b"Subject: x\n\na\n.\nb\n..\n", dot_ends=False)[1] == b"\r\na\r\n.\r\nb\r\n..\r\n"


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(Stop) as stop:
        read(b"X: " + b"y\n " * 200_000)
    assert stop.value.status == 65


@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b".", b"x", b"A: b", b"\0", b" "]), max_size=25).map(b"".join),
    st.lists(st.integers(1, 4), max_size=40),
    st.booleans(),
)
def test_splits_make_no_difference(octets: bytes, sizes: list[int], dot_ends: bool) -> None:
    whole = read(octets, dot_ends=dot_ends)
    assert read(octets, dot_ends=dot_ends, sizes=sizes) == whole
    content = b"".join(whole)
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    assert not dot_ends or b"\r\n.\r\n" not in b"\r\n" + content


@pytest.mark.parametrize(
    ("block", "recipients"),
    [
        (b"To: anna\r\n", ("anna",)),
        (b"To: root (Cron Daemon)\r\n", ("root",)),
        (b'To: Anna <anna@a.example>, ben\r\nCc: "C, D" <c@d.example>\r\n', ("anna@a.example", "ben", "c@d.example")),
        (b"Bcc: secret@a.example\r\nTo: anna\r\nTo: ben\r\n", ("secret@a.example", "anna", "ben")),
        (b"To: friends: anna, ben@b.example;, cc@c.example\r\n", ("anna", "ben@b.example", "cc@c.example")),
        (b"To: undisclosed-recipients:;\r\nBcc: anna\r\n", ("anna",)),
        (b"To: anna,\r\n ben,\r\n\tcc@c.example,\r\n", ("anna", "ben", "cc@c.example")),
        (b"To: anna\r\nResent-To: ben\r\nResent-Bcc: cc\r\n", ("ben", "cc")),
        (b"To: <anna>, <ben@b.example>\r\n", ("anna", "ben@b.example")),
        (b"To: anna, anna, ANNA\r\n", ("anna", "ANNA")),
        (b'To: "a b"\r\n', ('"a b"',)),
        (b"Reply-To: x\r\nSubject: To: y\r\n", ()),
        (b"To: " + b", ".join(b"user%d@a.example" % n for n in range(3000)) + b"\r\n", None),
    ],
)
def test_recipients_in_the_header(block: bytes, recipients: tuple[str, ...] | None) -> None:
    found = header_recipients(block)
    assert found == recipients if recipients is not None else len(found) == 3000


@pytest.mark.parametrize(
    "block",
    [b"To: anna@\r\n", b"To: a b c\r\n", b"To: <anna\r\n", b"To: =?utf-8?q?a?=@x.example\r\n", b"To: a\0b@c.d\r\n"],
)
def test_what_is_no_address_stops_it_all(block: bytes) -> None:
    with pytest.raises(Stop) as stop:
        header_recipients(block)
    assert stop.value.status == 65


def test_addresses_of_the_command_line() -> None:
    assert addresses("anna,ben@b.example") == ("anna", "ben@b.example")
    assert one_address("Anna Ä <anna@a.example>") == "anna@a.example"
    assert one_address("<anna>") == "anna"
    assert one_address("münchen@a.example") == "münchen@a.example"
    for wrong in ("", "a b", "a@b@c", "anna,ben", "x\udcff@a.example", "a\nb"):
        with pytest.raises(Stop):
            one_address(wrong)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (b" root\r\n", b" root@h.example\r\n"),
        (b" root (Cron Daemon)\r\n", b" root@h.example (Cron Daemon)\r\n"),
        (b" (x (y) <z>) root\r\n", b" (x (y) <z>) root@h.example\r\n"),
        (b" Anna Blum <anna>\r\n", b" Anna Blum <anna@h.example>\r\n"),
        (b" Anna <anna > , ben\r\n", b" Anna <anna@h.example > , ben@h.example\r\n"),
        (b' "a, b" <anna@x.example>\r\n', b' "a, b" <anna@x.example>\r\n'),
        (b" friends: anna, ben;\r\n", b" friends: anna@h.example, ben@h.example;\r\n"),
        (b" a,\r\n b,\r\n\tc@d.example\r\n", b" a@h.example,\r\n b@h.example,\r\n\tc@d.example\r\n"),
        (b" Two Words\r\n", b" Two Words\r\n"),
        (b" <>\r\n", b" <>\r\n"),
        (b" @a.example:anna\r\n", b" @a.example:anna@h.example\r\n"),
        (b" (never closed\r\n", b" (never closed\r\n"),
        (b' "never closed\r\n', b' "never closed\r\n'),
        (b" <never\r\n", b" <never\r\n"),
        (b"", b""),
    ],
)
def test_bare_names_get_a_domain(value: bytes, result: bytes) -> None:
    assert qualified_list(value, b"h.example") == result


def test_other_fields_are_not_touched() -> None:
    block = b"Subject: root\r\nX-To: anna\r\nTo: ben@b.example\r\n"
    assert qualified(block, b"h.example") is block
    assert (
        qualified(b"Subject: a\r\n" + block[15:] + b"to : cc\r\n", b"h")
        == b"Subject: a\r\n" + block[15:] + b"to : cc@h\r\n"
    )


@given(
    st.lists(st.sampled_from([b"a", b" ", b",", b"<", b">", b"@", b"(", b")", b'"', b"\\", b":", b";", b"[", b"\r\n "]))
)
def test_qualifying_only_adds(parts: list[bytes]) -> None:
    value = b"".join(parts)
    result = qualified_list(value, b"Q")
    assert result.replace(b"@Q", b"") == value
    assert list(elements(value)) == [] or b"".join(elements(value)) != b""


def test_qualifying_is_linear() -> None:
    for nasty in (
        b"(" * 100_000,
        b'"' + b"\\" * 99_999,
        b"a," * 50_000,
        b"<" * 100_000,
        b"[" * 100_000,
        b"a " * 50_000,
    ):
        qualified_list(nasty, b"Q")
