"""The opening dialogue, step by step: `S:` is a reply, `C:` what the client writes, `=` what comes of it."""

from __future__ import annotations

import base64

import pytest

from staffetta.mail.reply import Reply
from staffetta.protocol.client import HANDSHAKE, READY, Opening, OpeningSettings, Refused
from staffetta.protocol.client_sasl import Credentials
from staffetta.protocol.replies import ReplyReader

CLEAR = OpeningSettings("relay.example", want_tls=False)
MAYBE = OpeningSettings("relay.example")
MUST = OpeningSettings("relay.example", need_tls=True)
LMTP = OpeningSettings("relay.example", want_tls=False, lmtp=True, detect_loop=False)
LOGIN = OpeningSettings("relay.example", need_tls=True, credentials=Credentials("anna", "pw"))
LOGIN_CLEAR = OpeningSettings("relay.example", want_tls=False, credentials=Credentials("anna", "pw"))
PLAIN = "AUTH PLAIN " + base64.b64encode(b"\0anna\0pw").decode()

HELLO = ["S:220 mx.b", "C:EHLO relay.example"]
STARTTLS = [*HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS"]
SECURE = [*STARTTLS, "S:220 go", "T:EHLO relay.example"]
LOGIN_ASKS = ["S:250-x", "S:250 AUTH LOGIN", "C:AUTH LOGIN"]
PLAIN_SAYS = ["S:250-x", "S:250 AUTH PLAIN", f"C:{PLAIN}"]

DIALOGUES = {
    "plain": (CLEAR, [*HELLO, "S:250-mx.b", "S:250 DSN", "= ready"]),
    "helo": (CLEAR, [*HELLO, "S:502 5.5.1 what", "C:HELO relay.example", "S:250 mx.b", "= ready"]),
    "helo refused": (CLEAR, [*HELLO, "S:550 no", "C:HELO relay.example", "S:550 5.7.1 no", "= failed host ehlo 550"]),
    "greeting 4yz": (CLEAR, ["S:450 4.3.2 later", "= deferred host greeting 450"]),
    "greeting 421": (CLEAR, ["S:421 4.3.2 later", "= deferred host greeting 421"]),
    "greeting 554": (CLEAR, ["S:554 5.7.1 not you", "= failed host greeting 554"]),
    "greeting 521": (CLEAR, ["S:521 no mail here", "= failed host greeting 521"]),
    "greeting 250": (CLEAR, ["S:250 hello", "= deferred host greeting 451"]),
    "greeting 354": (CLEAR, ["S:354 hello", "= deferred host greeting 451"]),
    "ehlo 421": (CLEAR, [*HELLO, "S:421 bye", "= deferred host ehlo 421"]),
    "ehlo 450": (CLEAR, [*HELLO, "S:450 later", "= deferred host ehlo 450"]),
    "ehlo 220": (CLEAR, [*HELLO, "S:220 again", "= deferred host ehlo 451"]),
    "ehlo 334": (CLEAR, [*HELLO, "S:334 what", "= deferred host ehlo 451"]),
    "loop in greeting": (CLEAR, ["S:220 Relay.Example ESMTP", "= failed host greeting 554 5.4.6"]),
    "loop in ehlo": (CLEAR, [*HELLO, "S:250 RELAY.example", "= failed host ehlo 554 5.4.6"]),
    "loop in helo": (
        CLEAR,
        [*HELLO, "S:500 x", "C:HELO relay.example", "S:250 relay.example", "= failed host ehlo 554 5.4.6"],
    ),
    "almost a loop": (CLEAR, ["S:220 relay.example.org", "C:EHLO relay.example", "S:250 mx.relay.example", "= ready"]),
    "lmtp": (LMTP, ["S:220 relay.example", "C:LHLO relay.example", "S:250 relay.example", "= ready"]),
    "lmtp has no helo": (LMTP, ["S:220 x", "C:LHLO relay.example", "S:500 what", "= failed host ehlo 500"]),
    "tls": (
        MAYBE,
        [
            *HELLO,
            "S:250-x",
            "S:250-CHUNKING",
            "S:250 STARTTLS",
            "C:STARTTLS",
            "S:220 go",
            "T:EHLO relay.example",
            "S:250-x",
            "S:250 STARTTLS",
            "= ready",
        ],
    ),
    "tls not offered": (MAYBE, [*HELLO, "S:250 x", "= ready"]),
    "tls not offered but needed": (MUST, [*HELLO, "S:250 x", "= deferred host starttls 454"]),
    "helo only, tls needed": (
        MUST,
        [*HELLO, "S:500 x", "C:HELO relay.example", "S:250 x", "= deferred host starttls 454"],
    ),
    "tls refused": (MAYBE, [*STARTTLS, "S:454 not now", "= ready"]),
    "tls refused for good": (MAYBE, [*STARTTLS, "S:502 not here", "= ready"]),
    "tls refused with 421": (MAYBE, [*STARTTLS, "S:421 bye", "= deferred host starttls 421"]),
    "tls answered with 250": (MAYBE, [*STARTTLS, "S:250 sure", "= deferred host starttls 451"]),
    "tls refused but needed": (MUST, [*STARTTLS, "S:454 not now", "= deferred host starttls 454"]),
    "tls refused for good but needed": (MUST, [*STARTTLS, "S:502 no", "= deferred host starttls 502"]),
    "login": (LOGIN, [*SECURE, *PLAIN_SAYS, "S:235 2.7.0 ok", "= ready"]),
    "login is asked for": (
        LOGIN,
        [*SECURE, *LOGIN_ASKS, "S:334 not base64", "C:YW5uYQ==", "S:334 UGFzc3dvcmQ6", "C:cHc=", "S:235 ok", "= ready"],
    ),
    "login too early": (LOGIN, [*SECURE, *LOGIN_ASKS, "S:235 come in", "= deferred host auth 454"]),
    "login wrong": (LOGIN, [*SECURE, *PLAIN_SAYS, "S:535 5.7.8 wrong", "= deferred host auth 535"]),
    "login not in this way": (
        LOGIN,
        [
            *SECURE,
            "S:250-x",
            "S:250 AUTH LOGIN PLAIN",
            f"C:{PLAIN}",
            "S:504 not that",
            "C:AUTH LOGIN",
            "S:535 no",
            "= deferred host auth 535",
        ],
    ),
    "login offered in clear only": (
        LOGIN,
        [
            *HELLO,
            "S:250-x",
            "S:250-AUTH PLAIN",
            "S:250 STARTTLS",
            "C:STARTTLS",
            "S:220 go",
            "T:EHLO relay.example",
            "S:250 x",
            "= deferred host auth 454",
        ],
    ),
    "login in clear": (LOGIN_CLEAR, [*HELLO, "S:250-x", "S:250 AUTH PLAIN", "= deferred host auth 454"]),
    "plain asks": (LOGIN, [*SECURE, *PLAIN_SAYS, "S:334 ", "= deferred host auth 451"]),
    "scram is not taken on trust": (
        LOGIN,
        [
            *SECURE,
            "S:250-x",
            "S:250 AUTH SCRAM-SHA-256 PLAIN",
            "C:AUTH SCRAM-SHA-256 biwsbj1hbm5hLHI9bm9uY2U=",
            "S:235 2.7.0 welcome",
            "= deferred host auth 454",
        ],
    ),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(name: str) -> None:
    settings, lines = DIALOGUES[name]
    opening = Opening(settings, secure=False, nonce="nonce")
    reader = ReplyReader()
    wrote = b""
    end = ""
    for line in lines:
        kind, text = line[:2], line[2:]
        if kind == "S:":
            assert wrote == b"", f"{wrote!r} is not in the dialogue"
            reader.feed(text.encode() + b"\r\n")
            reply: Reply | None = reader.next()
            if reply is not None:
                try:
                    wrote = opening.receive(reply)
                except Refused as refused:
                    one = refused.outcome
                    end = f" {one.result} {one.scope} {one.stage} {one.reply}"
        elif kind == "T:":
            assert (opening.phase, wrote) == (HANDSHAKE, b"")
            wrote = opening.secured()
            assert not opening.capabilities.starttls
            assert wrote == text.encode() + b"\r\n"
            wrote = b""
        elif kind == "C:":
            assert wrote == text.encode() + b"\r\n"
            wrote = b""
        elif text == "ready":
            assert (opening.phase, wrote, end) == (READY, b"", "")
        else:
            assert end[1:].startswith(text), end


def test_offers_before_tls_are_forgotten() -> None:
    opening = Opening(MAYBE, secure=False, nonce="")
    reader = ReplyReader()
    reader.feed(b"220 x\r\n250-x\r\n250-CHUNKING\r\n250-PIPELINING\r\n250 STARTTLS\r\n220 go\r\n250-x\r\n250 DSN\r\n")
    for _ in range(3):
        opening.receive(reader.next())  # type: ignore[arg-type]
    opening.secured()
    opening.receive(reader.next())  # type: ignore[arg-type]
    assert opening.capabilities.dsn
    assert not opening.capabilities.chunking
    assert not opening.capabilities.pipelining
