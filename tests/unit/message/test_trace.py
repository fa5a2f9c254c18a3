"""Trace fields: their form, and that nothing from outside leaves its place."""

from __future__ import annotations

import email.utils
import re

import pytest

from staffetta.mail.address import NULL_PATH, Mailbox, parse_mailbox
from staffetta.message.header import Header
from staffetta.message.trace import (
    Client,
    date_time,
    delivered_to,
    received,
    received_opening,
    return_path,
    with_keyword,
)

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NOW = 1795518522.9
ANNA = parse_mailbox("anna@x.example")


def field(client: Client, recipient: Mailbox | None = ANNA, protocol: str = "ESMTPS") -> str:
    return received(received_opening(client, "mx.example.com"), protocol, ID, recipient, NOW).decode()


def test_the_whole_field() -> None:
    client = Client("mail.y.example", "192.0.2.1", "mail.y.example", "TLSv1.3:TLS_AES_256_GCM_SHA384")
    assert field(client) == (
        "Received: from mail.y.example (mail.y.example [192.0.2.1])\r\n"
        "\tby mx.example.com with ESMTPS\r\n"
        f"\t(TLSv1.3:TLS_AES_256_GCM_SHA384) id {ID}\r\n"
        "\tfor <anna@x.example>;\r\n"
        "\tTue, 24 Nov 2026 11:08:42 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("client", "start"),
    [
        (Client("y.example", "192.0.2.1"), "Received: from y.example ([192.0.2.1])\r\n\tby "),
        (Client("[192.0.2.1]", "2001:db8::1"), "Received: from [192.0.2.1] ([IPv6:2001:db8::1])\r\n\tby "),
        (Client("y.example"), "Received: from y.example\r\n\tby "),
        (Client("", "192.0.2.1"), "Received: from unknown ([192.0.2.1])\r\n\tby "),
        (Client(""), "Received: by mx.example.com with "),
        (Client("y" * 70, "192.0.2.1"), "Received: from " + "y" * 70 + "\r\n\t([192.0.2.1])\r\n\tby "),
        (
            Client("a) (b\r\nX: y", "192.0.2.1", "evil (\x00]:"),
            "Received: from a???b??X:?y (evil????? [192.0.2.1])\r\n",
        ),
        (Client("x" * 9000, "192.0.2.1"), "Received: from " + "x" * 255 + "\r\n"),
        (Client("kelvin\u212a", "192.0.2.1"), "Received: from kelvin? ("),
    ],
)
def test_clients(client: Client, start: str) -> None:
    text = field(client)
    assert text.startswith(start)
    assert [one.name for one in Header(text.encode()).fields] == [b"received"]
    assert Header(text.encode()).well_formed


def test_several_recipients_are_not_told_of_each_other() -> None:
    text = field(Client("y.example", "192.0.2.1"), None)
    assert "for" not in text
    assert text.endswith(f"with ESMTPS id {ID};\r\n\tTue, 24 Nov 2026 11:08:42 +0000\r\n")


def test_lines_stay_short() -> None:
    text = field(Client("mail.y.example", "2001:db8:1111:2222:3333:4444:5555:6666", "mail.y.example"))
    assert max(map(len, text.split("\r\n"))) <= 78


@pytest.mark.parametrize(
    ("esmtp", "tls", "authenticated", "smtputf8", "lmtp", "keyword"),
    [
        (False, False, False, False, False, "SMTP"),
        (True, False, False, False, False, "ESMTP"),
        (True, True, False, False, False, "ESMTPS"),
        (True, False, True, False, False, "ESMTPA"),
        (True, True, True, False, False, "ESMTPSA"),
        (False, True, False, False, False, "ESMTPS"),
        (True, False, False, True, False, "UTF8SMTP"),
        (True, True, True, True, False, "UTF8SMTPSA"),
        (True, False, False, False, True, "LMTP"),
        (True, True, True, False, True, "LMTPSA"),
        (True, True, False, True, True, "UTF8LMTPS"),
    ],
)
def test_with_keywords(esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool, lmtp: bool, keyword: str) -> None:
    assert with_keyword(esmtp=esmtp, tls=tls, authenticated=authenticated, smtputf8=smtputf8, lmtp=lmtp) == keyword


@pytest.mark.parametrize("now", [0, 951782400, 1709164800.5, 1795518522, 4102444799, 253402300799])
def test_dates_as_an_independent_parser_reads_them(now: float) -> None:
    text = date_time(now)
    assert email.utils.parsedate_to_datetime(text).timestamp() == int(now)
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000", text)


def test_return_path_and_delivered_to() -> None:
    assert return_path(NULL_PATH) == b"Return-Path: <>\r\n"
    assert return_path(ANNA) == b"Return-Path: <anna@x.example>\r\n"
    assert delivered_to(parse_mailbox('"a b"@x.example')) == b'Delivered-To: "a b"@x.example\r\n'
