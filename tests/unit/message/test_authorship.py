"""Who a header says it is from: the tricks of spoofers, one row each. An empty problem allows a conclusion."""

from __future__ import annotations

import pytest

from staffetta.message.authorship import DISGUISED, NO_FIELD, SEVERAL_ADDRESSES, SEVERAL_FIELDS, identity_facts
from staffetta.message.header import Header

DKIM = b"DKIM-Signature: v=1; d=x.example; h=To:\r\n From:Subject; i=@x.example;\r\n b=abc\r\n"


@pytest.mark.parametrize(
    ("block", "fields", "addresses", "problem"),
    [
        (b"From: A <a@x.example>\r\nTo: b@y.example\r\n", 1, ["a@x.example"], ""),
        (b"FROM:\r\n a@x.example\r\n", 1, ["a@x.example"], ""),
        (DKIM + b"From: a@x.example\r\n", 1, ["a@x.example"], ""),
        (b"To: b@y.example\r\n", 0, [], NO_FIELD),
        (b"", 0, [], NO_FIELD),
        (b"From: a@x.example\r\nFrom: b@y.example\r\n", 2, ["a@x.example", "b@y.example"], SEVERAL_FIELDS),
        (b"From: a@x.example\r\nX: y\r\nfrom: a@x.example\r\n", 2, ["a@x.example"] * 2, SEVERAL_FIELDS),
        (b"From: a@x.example, b@y.example\r\n", 1, ["a@x.example", "b@y.example"], SEVERAL_ADDRESSES),
        (b"From : a@x.example\r\n", 1, ["a@x.example"], DISGUISED),
        (b"From: a@x.example\r\nFrom : b@y.example\r\n", 2, ["a@x.example", "b@y.example"], DISGUISED),
        (b" From: b@y.example\r\nFrom: a@x.example\r\n", 2, ["a@x.example", "b@y.example"], DISGUISED),
        (b"From: a@x.example\r\nFrom\r\n : b@y.example\r\n", 2, ["a@x.example", "b@y.example"], DISGUISED),
        (b"From: a@x.example\r\nFr\0om: b@y.example\r\n", 2, ["a@x.example", "b@y.example"], DISGUISED),
        (b"Subject: x\r\n From: b@y.example\r\nFrom: a@x.example\r\n", 1, ["a@x.example"], DISGUISED),
        (b"no colon\r\nFrom: a@x.example\r\n", 1, ["a@x.example"], "line_without_colon"),
        (b"To: b\r\n \r\nFrom: a@x.example\r\n", 1, ["a@x.example"], "line_of_white_space"),
        (b"To: b\nFrom: b@y.example\r\nFrom: a@x.example\r\n", 1, ["a@x.example"], "bare_line_ending"),
        (b"From: a@x.example\0\r\n", 1, ["a@x.example"], "nul"),
        (b"From: a@x.example, \r\n", 1, ["a@x.example"], "empty_address"),
        (b"From: Team: a@x.example;\r\n", 1, ["a@x.example"], "group"),
        (b"From: <@r.example:a@x.example>\r\n", 1, ["a@x.example"], "source_route"),
        (b"From: <b@y.example\\,a@x.example>\r\n", 1, [], "malformed_address"),
        (b'From: "b@y.example\\,"@x.example\r\n', 1, ['"b@y.example,"@x.example'], "quoted_local_part"),
        (b"From: b@y.example <a@x.example>\r\n", 1, ["a@x.example"], "malformed_address"),
        (b"From: <a@x.example>b\r\n", 1, [], "malformed_address"),
        (b"From: =?utf-8?q?a=40x.example?=\r\n", 1, [], "malformed_address"),
        (b"From: a@x.example (<b@y.example>)\r\n", 1, ["a@x.example"], "another_address_in_quotes_or_comment"),
        (b"Sender: a@x.example\r\nResent-From: a@x.example\r\n", 0, [], NO_FIELD),
    ],
)
def test_from(block: bytes, fields: int, addresses: list[str], problem: str) -> None:
    facts = identity_facts(Header(block))
    assert facts.from_fields == fields
    assert [str(mailbox) for mailbox in facts.from_addresses] == addresses
    assert facts.from_problem == problem


@pytest.mark.parametrize(
    ("block", "addresses", "problem"),
    [
        (b"", [], ""),
        (b"Sender: s@x.example\r\n", ["s@x.example"], ""),
        (b"Sender: s@x.example\r\nSender: t@x.example\r\n", ["s@x.example", "t@x.example"], SEVERAL_FIELDS),
        (b"Sender: s@x.example, t@x.example\r\n", ["s@x.example", "t@x.example"], SEVERAL_ADDRESSES),
        (b"Sender : s@x.example\r\n", ["s@x.example"], DISGUISED),
        (b"Sender\r\n : s@x.example\r\n", ["s@x.example"], DISGUISED),
        (b"Sender: nobody\r\n", [], "malformed_address"),
    ],
)
def test_sender(block: bytes, addresses: list[str], problem: str) -> None:
    facts = identity_facts(Header(block))
    assert [str(mailbox) for mailbox in facts.sender_addresses] == addresses
    assert facts.sender_problem == problem


@pytest.mark.parametrize(
    ("block", "addresses", "problem"),
    [
        (b"", [], ""),
        (b"Resent-From: a@x.example, b@x.example\r\n", ["a@x.example", "b@x.example"], ""),
        (b"Resent-Sender: s@x.example\r\nResent-From: a@x.example\r\n", ["a@x.example", "s@x.example"], ""),
        (b"Resent-From: a@x.example\r\nResent-From: b@x.example\r\n", ["a@x.example", "b@x.example"], ""),
        (b"Resent-From: a@x.example\r\n" * 17, ["a@x.example"] * 16, SEVERAL_FIELDS),
        (b"Resent-From\t: a@x.example\r\n", ["a@x.example"], DISGUISED),
        (b"Resent-From: G: a@x.example;\r\n", ["a@x.example"], "group"),
    ],
)
def test_resent(block: bytes, addresses: list[str], problem: str) -> None:
    facts = identity_facts(Header(block))
    assert [str(mailbox) for mailbox in facts.resent_addresses] == addresses
    assert facts.resent_problem == problem


def test_display_names_are_told_apart_from_addresses() -> None:
    facts = identity_facts(Header(b'From: "boss@y.example" <a@x.example>\r\n'))
    assert facts.from_problem == ""
    assert [str(mailbox) for mailbox in facts.from_shown] == ["boss@y.example"]
