"""What a server offers, and what malformed offers come to."""

from __future__ import annotations

import pytest

from staffetta.mail.reply import reply
from staffetta.protocol.capabilities import Capabilities, parse_capabilities

TABLE = [
    ((), {}),
    (("PIPELINING", "8BITMIME", "SMTPUTF8"), {"pipelining": True, "eight_bit_mime": True, "smtputf8": True}),
    (("pipelining", "dsn", "StartTLS"), {"pipelining": True, "dsn": True, "starttls": True}),
    (("CHUNKING", "ENHANCEDSTATUSCODES"), {"chunking": True, "enhanced_status_codes": True}),
    (("SIZE 1000",), {"has_size": True, "size": 1000}),
    (("SIZE",), {"has_size": True}),
    (("SIZE 0",), {"has_size": True}),
    (("SIZE 1_0",), {"has_size": True}),
    (("SIZE -5",), {"has_size": True}),
    (("SIZE 99999999999999999999",), {"has_size": True}),
    (("SIZE \u0661\u0662",), {}),
    (("AUTH PLAIN LOGIN",), {"auth": ("PLAIN", "LOGIN")}),
    (("AUTH=PLAIN LOGIN", "AUTH PLAIN scram-sha-256"), {"auth": ("PLAIN", "LOGIN", "SCRAM-SHA-256")}),
    (("LIMITS RCPTMAX=5 MAILMAX=2 RCPTDOMAINMAX=1",), {"rcpt_max": 5, "mail_max": 2}),
    (("LIMITS RCPTMAX=x MAILMAX",), {}),
    (("PIPELININGX", "X-PIPELINING", "", " "), {}),
]


@pytest.mark.parametrize(("lines", "fields"), TABLE, ids=[repr(lines) for lines, _ in TABLE])
def test_offers(lines: tuple[str, ...], fields: dict[str, object]) -> None:
    expected = Capabilities(name="mx.example", **fields)  # type: ignore[arg-type]
    assert parse_capabilities(reply(250, "", "MX.example hello you", *lines)) == expected
