"""Who a client says it is: one row a greeting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from staffetta.dns.hello import check_hello
from staffetta.dns.resolver import Unavailable
from staffetta.dns.reverse import Reverse
from staffetta.dns.table import TableResolver

CLIENT = "192.0.2.7"
NAMES: dict[str, Any] = {
    "mail.far.example": {"A": [CLIENT], "AAAA": ["2001:db8::7"]},
    "gate.far.example": {"A": ["192.0.2.9"]},
    "six.far.example": {"AAAA": ["2001:db8::7"]},
    "dark.far.example": Unavailable("no answer"),
}


@pytest.mark.parametrize(
    ("hello", "client", "expected"),
    [
        ("mail.far.example", CLIENT, "confirmed"),
        ("MAIL.Far.example.", CLIENT, "confirmed"),
        ("mail.far.example", "2001:db8::7", "confirmed"),
        ("mail.far.example", "::ffff:192.0.2.7", "confirmed"),
        ("[192.0.2.7]", CLIENT, "confirmed"),
        ("[IPv6:2001:db8::7]", "2001:db8::7", "confirmed"),
        ("gate.far.example", CLIENT, "other"),
        ("mail.far.example", "192.0.2.8", "other"),
        ("[192.0.2.8]", CLIENT, "other"),
        ("six.far.example", CLIENT, "unknown"),
        ("nobody.example", CLIENT, "unknown"),
        ("dark.far.example", CLIENT, "temperror"),
        ("localhost", CLIENT, "unqualified"),
        ("WIN-3F2", CLIENT, "unqualified"),
        ("mx.home.example", CLIENT, "ours"),
        ("MX.HOME.example.", CLIENT, "ours"),
        ("192.0.2.7", CLIENT, "malformed"),
        ("2001:db8::7", "2001:db8::7", "malformed"),
        ("[192.0.2]", CLIENT, "malformed"),
        ("[", CLIENT, "malformed"),
        ("", CLIENT, "malformed"),
        ("-.example", CLIENT, "malformed"),
        ("a" * 64 + ".example", CLIENT, "malformed"),
        ("a..example", CLIENT, "malformed"),
    ],
)
def test_a_greeting(hello: str, client: str, expected: str) -> None:
    word = asyncio.run(check_hello(TableResolver(NAMES), hello, client, "mx.home.example", Reverse()))
    assert word.value == expected


def test_a_confirmed_reverse_name_is_not_asked_for_again() -> None:
    resolver = TableResolver({})
    reverse = Reverse("mail.far.example", confirmed=True)
    assert asyncio.run(check_hello(resolver, "mail.far.example", CLIENT, "mx.home.example", reverse)) == "confirmed"
    claimed = Reverse("mail.far.example")
    assert asyncio.run(check_hello(resolver, "mail.far.example", CLIENT, "mx.home.example", claimed)) == "unknown"
