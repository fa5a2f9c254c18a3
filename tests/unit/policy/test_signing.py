"""For which domain a message is signed: the door, the rights and the From address decide, never the address alone."""

from __future__ import annotations

import pytest

from staffetta.mail.address import parse_mailbox
from staffetta.mail.domain import parse_domain
from staffetta.message.authorship import identity_facts
from staffetta.message.header import Header
from staffetta.policy.alignment import Rights
from staffetta.policy.door import Door, Role
from staffetta.policy.signing import may_be_signed, signing_domain

ANNA = Rights(parse_mailbox("anna@a.example"), domains=frozenset({parse_domain("g.example")}))
OPEN = Door("relay", Role.RELAY)
LISTED = Door("relay", Role.RELAY, senders=frozenset({parse_domain("a.example"), parse_mailbox("boss@b.example")}))
FIXED = Door("relay", Role.RELAY, sender_fixed=parse_mailbox("printer@f.example"))
LOCAL = Door("local", Role.RELAY, local=True)
MASTER = Door("local", Role.RELAY, local=True, any_name=True)
SUBMISSION = Door("submission", Role.SUBMISSION)
MX = Door("mx", Role.MX)

ROWS = [
    # door, rights, From, signed as
    (SUBMISSION, ANNA, b"From: anna@a.example\r\n", "a.example"),
    (SUBMISSION, ANNA, b"From: any@g.example\r\n", "g.example"),
    (SUBMISSION, ANNA, b"From: ben@a.example\r\n", ""),
    (SUBMISSION, ANNA, b"From: anna@b.example\r\n", ""),
    (SUBMISSION, ANNA, b"From: anna@sub.a.example\r\n", ""),
    (SUBMISSION, ANNA, b"From: anna@a.example\r\nFrom: ben@b.example\r\n", ""),
    (SUBMISSION, ANNA, b"From: anna@a.example, ben@b.example\r\n", ""),
    (SUBMISSION, ANNA, b"Subject: nobody\r\n", ""),
    (SUBMISSION, ANNA, b"From: group: anna@a.example;\r\n", ""),
    (OPEN, None, b"From: anna@a.example\r\n", ""),
    (OPEN, ANNA, b"From: anna@a.example\r\n", "a.example"),
    (LISTED, None, b"From: anna@a.example\r\n", "a.example"),
    (LISTED, None, b"From: BOSS@b.example\r\n", "b.example"),
    (LISTED, None, b"From: ben@b.example\r\n", ""),
    (LISTED, None, b"From: anna@[192.0.2.1]\r\n", ""),
    (FIXED, None, b"From: whoever@x.example\r\n", "f.example"),
    (MASTER, None, b"From: root@a.example\r\n", "a.example"),
    (LOCAL, None, b"From: root@a.example\r\n", ""),
    (LOCAL, ANNA, b"From: anna@a.example\r\n", "a.example"),
    (LOCAL, ANNA, b"From: root@a.example\r\n", ""),
    (MX, None, b"From: anna@a.example\r\n", ""),
    (MX, ANNA, b"From: anna@a.example\r\n", ""),
]


@pytest.mark.parametrize(("door", "rights", "header", "expected"), ROWS)
def test_who_is_signed_as_whom(door: Door, rights: Rights | None, header: bytes, expected: str) -> None:
    domain = signing_domain(door, rights, identity_facts(Header(header)))
    assert str(domain or "") == expected
    if expected:
        assert may_be_signed(door, rights)
