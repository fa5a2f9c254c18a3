"""Address lists: a table of what is read, what is in doubt, and what people are shown."""

from __future__ import annotations

import time

import pytest

from staffetta.message.addresses import ADDRESSES, FIELD_OCTETS, AddressProblem, parse_address_list
from staffetta.message.phrases import addresses_in, decode_words

P = AddressProblem


@pytest.mark.parametrize(
    ("value", "mailboxes", "problems", "shown"),
    [
        # Everyday forms.
        ("a@x.example", ["a@x.example"], [], []),
        ("<a@x.example>", ["a@x.example"], [], []),
        ("Anna Smith <a@x.example>", ["a@x.example"], [], []),
        ('"Smith, Anna" <a@x.example>', ["a@x.example"], [], []),
        ('"Anna \\"A\\" Smith" <a@x.example>', ["a@x.example"], [], []),
        ("John Q. Public <a@x.example>", ["a@x.example"], [], []),
        ("a@x.example (Anna)", ["a@x.example"], [], []),
        ("(Anna) a@x.example", ["a@x.example"], [], []),
        ("(a (nested \\) one)) <a@x.example>", ["a@x.example"], [], []),
        ("a@x.example, B <b@y.example>,c@z.example", ["a@x.example", "b@y.example", "c@z.example"], [], []),
        ("=?utf-8?q?M=C3=BCller=2C_Anna?= <a@x.example>", ["a@x.example"], [], []),
        ("Müller <müller@bücher.example>", ["müller@xn--bcher-kva.example"], [], []),
        ("a@[192.0.2.1]", ["a@[192.0.2.1]"], [], []),
        ("A@X.EXAMPLE", ["A@x.example"], [], []),
        ('"anna"@x.example', ["anna@x.example"], [], []),
        ('"a@x.example" <a@x.example>', ["a@x.example"], [], []),
        ('"\\"a@x.example\\"" <A@x.example>', ["A@x.example"], [], []),
        # Nobody.
        ("", [], [P.EMPTY], []),
        ("<>", [], [P.EMPTY], []),
        ("(only a comment)", [], [P.EMPTY], []),
        ("a@x.example,,b@y.example", ["a@x.example", "b@y.example"], [P.EMPTY], []),
        ("a@x.example,", ["a@x.example"], [P.EMPTY], []),
        # Groups.
        ("Team: a@x.example, b@y.example;", ["a@x.example", "b@y.example"], [P.GROUP], []),
        ("undisclosed-recipients:;", [], [P.GROUP], []),
        ("Team: a@x.example; , b@y.example", ["a@x.example", "b@y.example"], [P.GROUP], []),
        ("Team: a@x.example; b@y.example", ["a@x.example"], [P.SYNTAX, P.GROUP], ["b@y.example"]),
        ("Team: a@x.example", ["a@x.example"], [P.SYNTAX, P.GROUP], []),
        ("a@x.example;", ["a@x.example"], [P.SYNTAX], []),
        (":;", [], [P.SYNTAX, P.GROUP], []),
        # Old forms that not everybody reads.
        ("<@r.example,@s.example:a@x.example>", ["a@x.example"], [P.ROUTE], []),
        ("a @ x.example", ["a@x.example"], [P.SPACE], []),
        ("< a@x.example >", ["a@x.example"], [P.SPACE], []),
        ("a@(evil)x.example", ["a@x.example"], [P.COMMENT], []),
        ("<a(c)@x.example>", ["a@x.example"], [P.COMMENT], []),
        ('"a"."b"@x.example', [], [P.SYNTAX], []),
        # Quoting that hides marks.
        ('"a,b"@x.example', ['"a,b"@x.example'], [P.QUOTED_LOCAL_PART], []),
        ('"a\\b"@x.example', ["ab@x.example"], [P.QUOTED_LOCAL_PART], []),
        ('"b@y.example"@x.example', ['"b@y.example"@x.example'], [P.QUOTED_LOCAL_PART], ["b@y.example"]),
        ('"<b@y.example>" <a@x.example>', ["a@x.example"], [P.HIDDEN_ADDRESS], ["b@y.example"]),
        ('"\\" <b@y.example>" <a@x.example>', ["a@x.example"], [P.HIDDEN_ADDRESS], ["b@y.example"]),
        ('"b@y.example> x" <a@x.example>', ["a@x.example"], [P.HIDDEN_ADDRESS], ["b@y.example"]),
        ('"b@y.example\\" x" <a@x.example>', ["a@x.example"], [P.HIDDEN_ADDRESS], ["b@y.example"]),
        ("a@x.example (,<b@y.example>)", ["a@x.example"], [P.HIDDEN_ADDRESS], ["b@y.example"]),
        ("a@x.example (b@y.example)", ["a@x.example"], [P.HIDDEN_ADDRESS], ["b@y.example"]),
        # Display names that claim another address.
        ('"b@y.example" <a@x.example>', ["a@x.example"], [], ["b@y.example"]),
        ("=?utf-8?q?b=40y.example?= <a@x.example>", ["a@x.example"], [], ["b@y.example"]),
        ("=?utf-8?b?YkB5LmV4YW1wbGU=?= <a@x.example>", ["a@x.example"], [], ["b@y.example"]),
        # Malformed.
        ("b@y.example <a@x.example>", ["a@x.example"], [P.SYNTAX], ["b@y.example"]),
        ("<a@x.example>b", [], [P.SYNTAX], ["a@x.example"]),
        ("<a@x.example> <b@y.example>", [], [P.SYNTAX], ["a@x.example", "b@y.example"]),
        ("<a@x.example <b@y.example>", [], [P.SYNTAX, P.SPACE], ["a@x.example", "b@y.example"]),
        ("<a@x.example> b@y.example>", [], [P.SYNTAX], ["a@x.example", "b@y.example"]),
        ("<a@x.example\\,b@y.example>", [], [P.SYNTAX], ["a@x.example", "b@y.example"]),
        ("a b@x.example", [], [P.SYNTAX, P.SPACE], ["b@x.example"]),
        ("a@x.example b", [], [P.SYNTAX, P.SPACE], ["a@x.example"]),
        ("a@b@x.example", [], [P.SYNTAX], ["a@b"]),
        ("a@x..example", [], [P.SYNTAX], []),
        ("anna", [], [P.SYNTAX], []),
        ("=?utf-8?q?a=40x.example?=", [], [P.SYNTAX, P.ENCODED_WORD], ["a@x.example"]),
        ("<=?utf-8?q?a?=@x.example>", ["=?utf-8?q?a?=@x.example"], [P.ENCODED_WORD], ["a@x.example"]),
        ('"unfinished <a@x.example>', [], [P.SYNTAX, P.EMPTY], ["a@x.example"]),
        ("(unfinished a@x.example", [], [P.SYNTAX, P.EMPTY], ["a@x.example"]),
        ("a@x.example) , b@y.example", ["a@x.example"], [P.SYNTAX], ["b@y.example"]),
        ("a@x.example\0", ["a@x.example"], [P.NUL, P.SYNTAX], []),
        ("a\0@x.example", [], [P.NUL, P.SYNTAX], []),
        ("a@x.example\r\x0b", ["a@x.example"], [P.CONTROL, P.SYNTAX], []),
        ("a@1.2.3.4", [], [P.SYNTAX], []),
        ("kelvin@\u212a.example", [], [P.SYNTAX], ["kelvin@k.example"]),
    ],
)
def test_table(value: str, mailboxes: list[str], problems: list[AddressProblem], shown: list[str]) -> None:
    found = parse_address_list(value.encode())
    assert [str(mailbox) for mailbox in found.mailboxes] == mailboxes
    assert list(found.problems) == problems
    assert [str(mailbox) for mailbox in found.shown] == shown


def test_octets_that_are_no_utf8() -> None:
    found = parse_address_list(b"M\xfcller <a@x.example>")
    assert [str(mailbox) for mailbox in found.mailboxes] == ["a@x.example"]
    assert found.problems == (P.NOT_UTF8,)
    assert parse_address_list(b"\xff@x.example").mailboxes == ()


def test_a_field_is_examined_up_to_its_limits() -> None:
    assert P.TOO_LONG in parse_address_list(b"a" * (FIELD_OCTETS + 1)).problems
    many = parse_address_list(b"a@x.example," * (ADDRESSES + 1))
    assert len(many.mailboxes) == ADDRESSES
    assert many.problems == (P.TOO_MANY,)


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?a_b=C3=BC?=", "a bü"),
        ("=?utf-8?q?a?=  =?utf-8?q?b?= c", "ab c"),
        ("=?iso-8859-1?Q?M=FCller?=", "Müller"),
        ("=?utf-8?b?w7w=?=", "ü"),
        ("=?utf-8?b?w7w?=", "ü"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?no charset?q?a?=", "=?no charset?q?a?="),
        ("=?utf-8?q?a=00b?=", "ab"),
        ("=?utf-7?q?+AEA-?=", "@"),
        ("=?utf-7?q?+A?=", "+A"),
        ("=?zlib?b?eJw=?=", "x\x9c"),
    ],
)
def test_encoded_words(text: str, decoded: str) -> None:
    assert decode_words(text) == decoded


def test_mentioned_addresses() -> None:
    assert [str(m) for m in addresses_in("see a@x.example, <b@y.example>. or 'c@z.example' @ d@ @e")] == [
        "a@x.example",
        "b@y.example",
        "c@z.example",
    ]


@pytest.mark.parametrize(
    "name",
    [
        '"ben@b.example"',
        '"ben\\@b.example"',
        '"ben@b.example/x"',
        '"*ben@b.example*"',
        '"ben..x@b.example"',
        '"BEN@B.EXAMPLE."',
        '"ben@b.exa\u200bmple"',
        '"ben@b\u3002example"',
        "ben\uff20b.example",
        '"ben\ufe6bb.example"',
        "ben\uff20\uff42.example",
        "=?utf-8?q?ben=40b.example?=",
        "=?utf-8?q?ben=40b?= =?utf-8?q?.example?=",
        "=?utf-8?q?ben=EF=BC=A0b.example?=",
        "=?utf-7?q?ben+AEA-b.example?=",
        "=?utf-16be?b?AGIAZQBuAEAAYgAuAGUAeABhAG0AcABsAGU=?=",
        '"ben=?utf-8?q?=40b.example?="',
    ],
)
def test_a_name_that_looks_like_an_address_is_one(name: str) -> None:
    found = parse_address_list(f"{name} <anna@a.example>".encode())
    assert [str(mailbox) for mailbox in found.mailboxes] == ["anna@a.example"]
    assert [str(mailbox.domain) for mailbox in found.shown] == ["b.example"], found


@pytest.mark.parametrize("before", ["x@y.example " * 25, "=?utf-8?q?x?= " * 201])
def test_no_address_hides_behind_many(before: str) -> None:
    name = before + ("=?utf-8?q?ben=40b.example?=" if "=?" in before else "ben@b.example")
    written = f"{name} <anna@a.example>" if "=?" in before else f'"{name}" <anna@a.example>'
    assert P.TOO_MANY in parse_address_list(written.encode()).problems


@pytest.mark.parametrize("text", ["a" * 16000, "a.@" * 5000, "\uff20" * 5000, "\\@" * 8000, "@a" * 8000])
def test_mentions_are_found_in_linear_time(text: str) -> None:
    start = time.process_time()
    addresses_in(text)
    assert time.process_time() - start < 0.2
