"""Received fields in the forms of those who write them, and times as they are written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.mail.domain import parse_domain
from staffetta.message.disguise import LOOK_ALIKES, disguised_domain, hidden_marks, looks_like, mixed_words
from staffetta.message.received import Hop, parse_received
from staffetta.message.received_time import parse_time
from staffetta.message.trace import Client, received, received_opening

DATE = "Tue, 24 Nov 2026 11:08:42 +0000"
WHEN = 1_795_518_522.0

FORMS: list[tuple[str, str, dict[str, object]]] = [
    (
        "postfix",
        (
            "from helo.example (rev.example [192.0.2.1]) (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384"
            " (256/256 bits) key-exchange X25519 server-signature RSA-PSS (2048 bits)) (No client certificate"
            " requested) by mx.example (Postfix) with ESMTPS id 4XYZ for <u@example.net>;"
            " Tue, 24 Nov 2026 12:08:42 +0100 (CET)"
        ),
        {"helo": "helo.example", "reverse": "rev.example", "address": "192.0.2.1", "by": "mx.example", "id": "4XYZ"}
        | {"with_": "ESMTPS", "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384", "for_": "u@example.net"},
    ),
    (
        "postfix, no reverse name",
        f"from helo.example (unknown [IPv6:2001:db8::1]) by mx.example (Postfix) with SMTP id 4; {DATE}",
        {"helo": "helo.example", "reverse": "", "address": "2001:db8::1", "tls": "", "with_": "SMTP"},
    ),
    (
        "postfix, local",
        f"by mx.example (Postfix, from userid 1000) id 4XYZ; {DATE}",
        {"by": "mx.example", "address": "", "helo": "", "by_user": True, "id": "4XYZ"},
    ),
    (
        "exim",
        (
            "from rev.example ([192.0.2.1]:4711 helo=helo.example) by mx.example with esmtps (TLS1.3) tls"
            f" TLS_AES_256_GCM_SHA384 (Exim 4.96) (envelope-from <a@b.example>) id 1abc-00-1 for u@example.net; {DATE}"
        ),
        {"helo": "helo.example", "reverse": "rev.example", "address": "192.0.2.1", "envelope_from": "a@b.example"}
        | {"tls": "TLSv1.3 TLS_AES_256_GCM_SHA384", "with_": "esmtps", "for_": "u@example.net"},
    ),
    (
        "exim, no reverse name, null path",
        f"from [192.0.2.1] (helo=helo.example) by mx.example with esmtp (Exim 4.96) (envelope-from <>) id 1a; {DATE}",
        {"helo": "helo.example", "reverse": "", "address": "192.0.2.1", "envelope_from": ""},
    ),
    (
        "exim, helo is the reverse name",
        f"from rev.example ([192.0.2.1]) by mx.example with esmtp (Exim 4.96) id 1a; {DATE}",
        {"helo": "rev.example", "address": "192.0.2.1"},
    ),
    ("exim, local", f"from anna by mx.example with local (Exim 4.96) id 1a; {DATE}", {"by_user": True, "address": ""}),
    (
        "sendmail",
        (
            "from helo.example (user@rev.example [192.0.2.1] (may be forged)) by mx.example (8.15.2/8.15.2) with"
            " ESMTPS id xA (version=TLSv1.2 cipher=ECDHE-RSA-AES256-GCM-SHA384 bits=256 verify=NO) for <u@h>;"
            " Tue, 24 Nov 2026 11:08:42 GMT"
        ),
        {"helo": "helo.example", "reverse": "rev.example", "address": "192.0.2.1", "id": "xA"}
        | {"tls": "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384", "problem": "its writer could not confirm the reverse name"},
    ),
    (
        "sendmail, local",
        f"(from root@localhost) by mx.example (8.15.2/8.15.2/Submit) id xA; {DATE}",
        {"by": "mx.example", "by_user": True},
    ),
    (
        "exchange",
        (
            "from A.eurprd07.prod.outlook.com (2603:10a6:20b:1::1) by B.prod.outlook.com (2603:10a6:20b:2::1) with"
            f" Microsoft SMTP Server (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.20.1; {DATE}"
        ),
        {"helo": "A.eurprd07.prod.outlook.com", "address": "2603:10a6:20b:1::1", "by": "B.prod.outlook.com"}
        | {"with_": "Microsoft SMTP Server", "tls": "TLSv1.2 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "id": "15.20.1"},
    ),
    (
        "exchange, from outside",
        (
            "from helo.example (192.0.2.1) by X.mail.protection.outlook.com (10.1.2.3) with Microsoft SMTP Server"
            f" (version=TLS1_3, cipher=TLS_AES_256_GCM_SHA384) id 15.20.8 via Frontend Transport; {DATE}"
        ),
        {"helo": "helo.example", "address": "192.0.2.1", "via": "Frontend Transport", "id": "15.20.8"},
    ),
    (
        "exchange, mapi",
        f"from X.eurprd07 ([fe80::1]) by X.eurprd07 ([fe80::1%4]) with mapi id 15.20.8; {DATE}",
        {"address": "fe80::1", "with_": "mapi", "by": "X.eurprd07"},
    ),
    (
        "gmail",
        (
            "from helo.example (rev.example. [192.0.2.1]) by mx.google.com with ESMTPS id ab.12 for <u@gmail.com>"
            " (version=TLS1_3 cipher=TLS_AES_128_GCM_SHA256 bits=128/128); Tue, 24 Nov 2026 03:08:42 -0800 (PST)"
        ),
        {"helo": "helo.example", "reverse": "rev.example", "address": "192.0.2.1", "by": "mx.google.com"}
        | {"tls": "TLSv1.3 TLS_AES_128_GCM_SHA256", "for_": "u@gmail.com", "id": "ab.12"},
    ),
    (
        "gmail, inside",
        "by 2002:a05:6a10:1::1 with SMTP id xy; Tue, 24 Nov 2026 03:08:42 -0800 (PST)",
        {"by": "2002:a05:6a10:1::1", "address": "", "with_": "SMTP"},
    ),
    ("qmail, note", "(qmail 1234 invoked from network); 24 Nov 2026 11:08:42 -0000", {"by": "", "by_user": False}),
    ("qmail, user", "(qmail 1234 invoked by uid 500); 24 Nov 2026 11:08:42 -0000", {"by_user": True}),
    (
        "qmail",
        "from unknown (HELO helo.example) (192.0.2.1) by mx.example with SMTP; 24 Nov 2026 11:08:42 -0000",
        {"helo": "helo.example", "reverse": "", "address": "192.0.2.1"},
    ),
    (
        "qmail, ident and TLS",
        (
            "from rev.example (HELO helo.example) (user@192.0.2.1) by mx.example with (DHE-RSA-AES256-SHA encrypted)"
            " SMTP; 24 Nov 2026 11:08:42 -0000"
        ),
        {"helo": "helo.example", "reverse": "rev.example", "address": "192.0.2.1", "tls": "DHE-RSA-AES256-SHA"},
    ),
    (
        "ses",
        (
            "from helo.example (rev.example. [192.0.2.1]) by inbound-smtp.us-east-1.amazonaws.com with SMTP id abc"
            " for u@example.net; Tue, 24 Nov 2026 11:08:42 +0000 (UTC)"
        ),
        {"helo": "helo.example", "reverse": "rev.example", "by": "inbound-smtp.us-east-1.amazonaws.com"},
    ),
    (
        "dovecot",
        f"from mx.example ([127.0.0.1]) by mx.example with LMTP id XX (envelope-from <a@b.example>) for <u@h>; {DATE}",
        {"address": "127.0.0.1", "with_": "LMTP", "envelope_from": "a@b.example"},
    ),
    (
        "literal",
        f"from [10.0.0.1] (rev.example. [192.0.2.1]) by smtp.example with ESMTPSA id 1; {DATE}",
        {"helo": "[10.0.0.1]", "reverse": "rev.example", "address": "192.0.2.1", "tls": "yes"},
    ),
    (
        "a client that calls itself what a server would write",
        f"from bank.example (mail.bank.example [198.51.100.1]) (rev.evil.example [203.0.113.66]) by mx.example; {DATE}",
        {"address": "203.0.113.66", "reverse": "rev.evil.example"},
    ),
    (
        "a client that writes a clause",
        f"from a by mx.ours.example (rev.evil.example [203.0.113.66]) by mx.example; {DATE}",
        {"problem": "the word by stands there twice"},
    ),
]


@pytest.mark.parametrize(("name", "text", "wanted"), FORMS, ids=[name for name, _, _ in FORMS])
def test_forms(name: str, text: str, wanted: dict[str, object]) -> None:
    hop = parse_received(text.encode())
    assert {field: getattr(hop, field) for field in wanted} == wanted
    assert hop.time == WHEN
    assert "problem" in wanted or hop.problem == ""


def test_what_staffetta_writes_is_read_back() -> None:
    client = Client("helo.example", "2001:db8::1", "rev.example", "TLSv1.3:TLS_AES_256_GCM_SHA384")
    raw = received(received_opening(client, "mx.example"), "ESMTPSA", "01JD", None, WHEN)
    hop = parse_received(raw.removeprefix(b"Received: ").replace(b"\r\n", b""))
    assert hop == Hop(
        "helo.example",
        "helo.example",
        "2001:db8::1",
        "rev.example",
        "mx.example",
        "ESMTPSA",
        "",
        "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "01JD",
        time=WHEN,
    )


ODD = [(b"", "it has no time; not in the form of a trace field"), (b"by x; no time", "its time cannot be read")]
ODD += [(b"hello; " + DATE.encode(), "not in the form of a trace field"), (b"by x", "it has no time")]


@pytest.mark.parametrize(("value", "problem"), ODD)
def test_odd_fields_have_a_problem(value: bytes, problem: str) -> None:
    assert parse_received(value).problem == problem


TIMES = [
    ("Tue, 24 Nov 2026 11:08:42 +0000", 0.0),
    ("24 Nov 2026 11:08:42 -0000", 0.0),
    ("Tue, 24 Nov 26 11:08:42 GMT", 0.0),
    ("Tue, 24 Nov 2026 16:38:42 +0530", 0.0),
    ("Tue, 24 Nov 2026 03:08:42 PST", 0.0),
    ("Tuesday, 24-Nov-2026 11:08:42", 0.0),
    ("Tue Nov 24 11:08:42 2026", 0.0),
    ("Tue Nov  24 11:08:42 UTC 2026", 0.0),
    ("Tue, 24 Nov 2026 11:08:42.123456 +0000", 0.0),
    ("Tue, 24 Nov 2026 11:08 +0000", -42.0),
    ("Tue, 24 Nov 2026 11:08:60 +0000", 17.0),
    ("Tue, 24 Nov 2026 11:08:42 XYZ", 0.0),
]


@pytest.mark.parametrize(("text", "difference"), TIMES)
def test_times(text: str, difference: float) -> None:
    assert parse_time(text) == WHEN + difference


NO_TIMES = [
    "",
    "now",
    "Tue, 31 Feb 2026 11:08:42 +0000",
    "Tue, 24 Foo 2026 11:08:42",
    "24 Nov 2026 25:00:00",
    "24 Nov 0 1:00",
]
NO_TIMES += ["24 Nov 2026 11:08:42 +9999", "\u0662\u0664 Nov 2026 11:08:42"]


@pytest.mark.parametrize("text", NO_TIMES)
def test_no_times(text: str) -> None:
    found = parse_time(text)
    assert found is None or text.endswith("+9999")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text('from by with id for;()[]<>"= .1a:', max_size=300).map(str.encode)))
def test_any_octets_are_survived(value: bytes) -> None:
    hop = parse_received(value)
    assert len(hop.by) <= 255
    assert len(hop.for_) <= 255


PIECES = [
    "(",
    ")",
    "a ",
    "from ",
    "; ",
    "[1.2.3.4] ",
    "((a)",
    '"',
    "helo=",
    "envelope-from <",
    "1:",
    "cipher=",
    "(a) ",
    "x@",
]


@pytest.mark.parametrize("piece", PIECES)
def test_work_is_bounded(piece: str) -> None:
    value = piece.encode() * (1_000_000 // len(piece))
    begun = time.process_time()
    parse_received(value)
    assert time.process_time() - begun < 0.2


def test_look_alikes() -> None:
    assert len(LOOK_ALIKES) >= 60
    assert all(seen.isascii() and not chr(letter).isascii() for letter, seen in LOOK_ALIKES.items())
    assert disguised_domain(parse_domain("b\u0430nk.example")) == "bank.example"
    assert disguised_domain(parse_domain("\u0430\u0440\u0440\u04cf\u0435.example")) == "apple.example"
    assert disguised_domain(parse_domain("b\u0430nk\u0436.example")) == "b\u0430nk\u0436.example"
    for plain in ("bank.example", "m\u00fcnchen.example", "\u043f\u043e\u0447\u0442\u0430.example", "\u4f8b.example"):
        assert disguised_domain(parse_domain(plain)) == ""
    assert looks_like("\uff42\uff41\uff4e\uff4b") == "bank"
    assert mixed_words("P\u0430yPal \u041f\u043e\u0447\u0442\u0430 M\u00fcnchen") == ("P\u0430yPal",)
    assert hidden_marks("a\u202eb") == ("direction",)
    assert hidden_marks("a\u200bb\x1b") == ("invisible", "control")
    assert hidden_marks("M\u00fcnchen \U0001f600\ufe0f") == ()
