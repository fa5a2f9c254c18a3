"""MAIL and RCPT as they leave, by what the server offers."""

from __future__ import annotations

from typing import Any

import pytest

from staffetta.mail.address import NULL_PATH, parse_mailbox
from staffetta.mail.envelope import Body, Notify, Return, Sender
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.protocol.capabilities import Capabilities
from staffetta.protocol.client_commands import Commands, ContentFacts, plan, xtext
from staffetta.spool.contract import WaitingRecipient

ANNA = parse_mailbox("anna@sender.example")
GRETA = parse_mailbox("gr\u00e9ta@sender.example", smtputf8=True)
EVERYTHING = Capabilities(has_size=True, size=1000, eight_bit_mime=True, smtputf8=True, dsn=True)
NOTHING = Capabilities()


def to(text: str, **more: Any) -> WaitingRecipient:
    return WaitingRecipient("id", 0, parse_mailbox(text, smtputf8=True), "x", **more)


MAIL = [
    (Sender(ANNA), None, NOTHING, "MAIL FROM:<anna@sender.example>\r\n"),
    (Sender(NULL_PATH), None, NOTHING, "MAIL FROM:<>\r\n"),
    (Sender(NULL_PATH), None, EVERYTHING, "MAIL FROM:<> SIZE=500\r\n"),
    (Sender(ANNA), True, EVERYTHING, "MAIL FROM:<anna@sender.example> SIZE=500 BODY=8BITMIME\r\n"),
    (Sender(ANNA), False, EVERYTHING, "MAIL FROM:<anna@sender.example> SIZE=500\r\n"),
    (Sender(ANNA), True, NOTHING, "MAIL FROM:<anna@sender.example>\r\n"),
    (Sender(ANNA, body=Body.EIGHT_BIT_MIME), None, NOTHING, "MAIL FROM:<anna@sender.example>\r\n"),
    (Sender(ANNA, body=Body.EIGHT_BIT_MIME), False, NOTHING, "MAIL FROM:<anna@sender.example>\r\n"),
    (Sender(ANNA, body=Body.EIGHT_BIT_MIME), True, NOTHING, "5.6.3"),
    (
        Sender(ANNA, smtputf8=True),
        True,
        EVERYTHING,
        "MAIL FROM:<anna@sender.example> SIZE=500 BODY=8BITMIME SMTPUTF8\r\n",
    ),
    (Sender(ANNA, smtputf8=True), None, NOTHING, "5.6.7"),
    (Sender(ANNA, smtputf8=True), False, NOTHING, "MAIL FROM:<anna@sender.example>\r\n"),
    (Sender(GRETA), False, NOTHING, "5.6.7"),
    (Sender(GRETA), False, EVERYTHING, "MAIL FROM:<gr\u00e9ta@sender.example> SIZE=500 SMTPUTF8\r\n"),
    (
        Sender(ANNA, ret=Return.HEADERS, envid="a+b=c d"),
        False,
        EVERYTHING,
        "MAIL FROM:<anna@sender.example> SIZE=500 RET=HDRS ENVID=a+2Bb+3Dc+20d\r\n",
    ),
    (Sender(ANNA, ret=Return.FULL, envid="x"), False, NOTHING, "MAIL FROM:<anna@sender.example>\r\n"),
    (Sender(ANNA, envid="a\r\nRCPT TO:<x@y>"), False, EVERYTHING, "MAIL FROM:<anna@sender.example> SIZE=500\r\n"),
    (Sender(ANNA, envid="a\0b"), False, EVERYTHING, "MAIL FROM:<anna@sender.example> SIZE=500\r\n"),
    (Sender(ANNA), False, Capabilities(size=499), "5.3.4"),
    (Sender(ANNA), False, Capabilities(size=500), "MAIL FROM:<anna@sender.example>\r\n"),
]


@pytest.mark.parametrize(("sender", "eight_bit", "offers", "expected"), MAIL)
def test_mail(sender: Sender, eight_bit: bool | None, offers: Capabilities, expected: str) -> None:
    found = plan(sender, [to("bob@rcpt.example")], ContentFacts(500, eight_bit), offers)
    if expected.startswith("MAIL"):
        assert isinstance(found, Commands)
        assert found.mail == expected
    else:
        assert isinstance(found, Outcome)
        assert (found.result, found.scope, str(found.reply.enhanced)) == (Result.FAILED, Scope.MESSAGE, expected)
        assert not found.remote


RCPT = [
    (to("bob@b.example"), EVERYTHING, "RCPT TO:<bob@b.example>\r\n"),
    (to('"a b"@b.example'), EVERYTHING, 'RCPT TO:<"a b"@b.example>\r\n'),
    (to("bob@[192.0.2.1]"), EVERYTHING, "RCPT TO:<bob@[192.0.2.1]>\r\n"),
    (to("bob@b.example", notify=(Notify.NEVER,)), EVERYTHING, "RCPT TO:<bob@b.example> NOTIFY=NEVER\r\n"),
    (
        to("bob@b.example", notify=(Notify.SUCCESS, Notify.DELAY)),
        EVERYTHING,
        "RCPT TO:<bob@b.example> NOTIFY=SUCCESS,DELAY\r\n",
    ),
    (to("bob@b.example", notify=(Notify.NEVER,)), NOTHING, "RCPT TO:<bob@b.example>\r\n"),
    (
        to("bob@b.example", orcpt="rfc822;b+x=y@b.example"),
        EVERYTHING,
        "RCPT TO:<bob@b.example> ORCPT=rfc822;b+2Bx+3Dy@b.example\r\n",
    ),
    (to("bob@b.example", orcpt="rfc822;a\r\nDATA"), EVERYTHING, "RCPT TO:<bob@b.example>\r\n"),
    (to("bob@b.example", orcpt="rf c822;a@b"), EVERYTHING, "RCPT TO:<bob@b.example>\r\n"),
    (to("bob@b.example", orcpt="nothing"), EVERYTHING, "RCPT TO:<bob@b.example>\r\n"),
    (
        to("bob@b.example", orcpt="utf-8;gr\u00e9ta@b.example"),
        EVERYTHING,
        "RCPT TO:<bob@b.example> ORCPT=utf-8;gr\\x{E9}ta@b.example\r\n",
    ),
]


@pytest.mark.parametrize(("recipient", "offers", "expected"), RCPT)
def test_rcpt(recipient: WaitingRecipient, offers: Capabilities, expected: str) -> None:
    found = plan(Sender(ANNA), [recipient], ContentFacts(5, False), offers)
    assert isinstance(found, Commands)
    assert found.recipients == [expected]


def test_xtext() -> None:
    assert xtext("plain@x") == "plain@x"
    assert xtext("a=b+c") == "a+3Db+2Bc"
