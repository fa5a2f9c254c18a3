"""Whose name a client may bear, at MAIL and in the header: one row a sentence of policy."""

from __future__ import annotations

import pytest

from staffetta.mail.address import NULL_PATH, Mailbox, parse_mailbox
from staffetta.mail.domain import parse_domain
from staffetta.message.authorship import HeaderIdentity, identity_facts
from staffetta.message.header import Header
from staffetta.policy.alignment import Rights, may_use_header, may_use_sender
from staffetta.policy.door import Client, Door, Role
from staffetta.policy.verdict import Allowed, Refusal

ANNA = Rights(
    parse_mailbox("anna@example.com"),
    frozenset({parse_mailbox("sales@example.com"), parse_mailbox("boss@partner.example")}),
    frozenset({parse_domain("shop.example")}),
)
MX = Door("mx", Role.MX)
SUBMISSION = Door("submission", Role.SUBMISSION)
RELAY = Door("relay", Role.RELAY)
LISTED = Door(
    "printers", Role.RELAY, senders=frozenset({parse_domain("example.com"), parse_mailbox("scan@other.example")})
)
FIXED = Door("scanner", Role.RELAY, sender_fixed=parse_mailbox("scan@example.com"))
LISTED_SUBMISSION = Door("own", Role.SUBMISSION, senders=frozenset({parse_domain("example.com")}))

SENDERS = [
    # a login is itself, its aliases, its grants, its sub-addresses, or nobody
    (SUBMISSION, ANNA, "anna@example.com", "own_name"),
    (SUBMISSION, ANNA, "Anna@EXAMPLE.com", "own_name"),
    (SUBMISSION, ANNA, "anna+list@example.com", "own_name"),
    (SUBMISSION, ANNA, "ANNA+List@example.com", "own_name"),
    (SUBMISSION, ANNA, "sales@example.com", "own_name"),
    (SUBMISSION, ANNA, "boss@partner.example", "own_name"),
    (SUBMISSION, ANNA, "anyone@shop.example", "own_name"),
    (SUBMISSION, ANNA, "<>", "null_path"),
    # and nothing that only looks like it
    (SUBMISSION, ANNA, "bob@example.com", "sender_not_owned"),
    (SUBMISSION, ANNA, "annabel@example.com", "sender_not_owned"),
    (SUBMISSION, ANNA, "anna-list@example.com", "sender_not_owned"),
    (SUBMISSION, ANNA, "ann+a@example.com", "sender_not_owned"),
    (SUBMISSION, ANNA, "anna@partner.example", "sender_not_owned"),
    (SUBMISSION, ANNA, "boss+x@partner.example", "sender_not_owned"),
    (SUBMISSION, ANNA, "anna@sub.shop.example", "sender_not_owned"),
    (SUBMISSION, ANNA, "anna@evilexample.com", "sender_not_owned"),
    (SUBMISSION, ANNA, "anna@example.com.evil.example", "sender_not_owned"),
    (RELAY, ANNA, "bob@example.com", "sender_not_owned"),
    (MX, ANNA, "bob@example.com", "sender_not_owned"),
    (MX, ANNA, "anna@example.com", "own_name"),
    # a door's list holds for logins too
    (LISTED_SUBMISSION, ANNA, "anna@example.com", "own_name"),
    (LISTED_SUBMISSION, ANNA, "boss@partner.example", "sender_not_at_this_door"),
    # from outside nobody bears a name of ours
    (MX, None, "anna@example.com", "local_sender_from_outside"),
    (MX, None, "nobody-there@example.com", "local_sender_from_outside"),
    (MX, None, "someone@elsewhere.example", "door_without_sender_list"),
    (MX, None, "someone@sub.example.com", "door_without_sender_list"),
    (MX, None, "<>", "null_path"),
    # trusted machines say what they like, inside the door's list if there is one
    (RELAY, None, "anna@example.com", "door_without_sender_list"),
    (LISTED, None, "anyone@example.com", "door_sender_list"),
    (LISTED, None, "SCAN@other.example", "door_sender_list"),
    (LISTED, None, "else@other.example", "sender_not_at_this_door"),
    (LISTED, None, "x@sub.example.com", "sender_not_at_this_door"),
    (LISTED, None, "<>", "null_path"),
    # what is rewritten does not count
    (FIXED, None, "root@localhost.invalid", "from_fixed"),
    (FIXED, None, "<>", "from_fixed"),
]


@pytest.mark.parametrize(("door", "rights", "sender", "rule"), SENDERS)
def test_envelope_sender(door: Door, rights: Rights | None, sender: str, rule: str) -> None:
    path = NULL_PATH if sender == "<>" else parse_mailbox(sender)
    local = isinstance(path, Mailbox) and path.domain == parse_domain("example.com")
    client = Client(trusted=door.role is Role.RELAY and rights is None, logged_in=rights is not None)
    verdict = may_use_sender(door, client, rights, path, sender_is_local=local)
    assert verdict.rule == rule
    if isinstance(verdict, Refusal):
        assert (verdict.reply.code, str(verdict.reply.enhanced)) in {(553, "5.7.1"), (550, "5.7.1")}


def test_trust_means_nothing_at_an_mx_door() -> None:
    verdict = may_use_sender(MX, Client(trusted=True), None, parse_mailbox("anna@example.com"), sender_is_local=True)
    assert verdict.rule == "local_sender_from_outside"


HEADERS = [
    (SUBMISSION, ANNA, "From: anna@example.com", "own_name"),
    (SUBMISSION, ANNA, "From: Anna <Anna+x@Example.Com>", "own_name"),
    (SUBMISSION, ANNA, "From: Sales <sales@example.com>\nSender: anna@example.com", "own_name"),
    (SUBMISSION, ANNA, "From: x@shop.example", "own_name"),
    (SUBMISSION, ANNA, "From: bob@example.com", "header_not_owned"),
    (SUBMISSION, ANNA, "From: anna@example.com\nSender: bob@example.com", "header_not_owned"),
    (SUBMISSION, ANNA, "From: anna@example.com\nResent-From: bob@example.com", "header_not_owned"),
    (SUBMISSION, ANNA, "From: anna@example.com\nResent-Sender: bob@example.com", "header_not_owned"),
    (SUBMISSION, ANNA, "From: anna@example.com\nResent-From: sales@example.com", "own_name"),
    (SUBMISSION, ANNA, "Subject: no author", "header_unclear"),
    (SUBMISSION, ANNA, "From: anna@example.com\nFrom: anna@example.com", "header_unclear"),
    (SUBMISSION, ANNA, "From: anna@example.com, sales@example.com", "header_unclear"),
    (SUBMISSION, ANNA, "From: us: anna@example.com;", "header_unclear"),
    (SUBMISSION, ANNA, "From: nobody", "header_unclear"),
    (SUBMISSION, ANNA, "From: anna@example.com\nSender: a@b@c", "header_unclear"),
    (SUBMISSION, ANNA, "From: anna@example.com\nResent-From: a@b@c", "header_unclear"),
    (SUBMISSION, ANNA, "From : anna@example.com\nFrom: bob@example.com", "header_unclear"),
    (LISTED_SUBMISSION, ANNA, "From: boss@partner.example", "header_not_owned"),
    (RELAY, ANNA, "From: bob@example.com", "header_not_owned"),
    (MX, ANNA, "From: bob@example.com", "header_not_owned"),
    (MX, None, "From: anna@example.com", "mx"),
    (MX, None, "Subject: whatever", "mx"),
    (RELAY, None, "From: a@b.example, c@d.example", "door_without_sender_list"),
    (LISTED, None, "From: anyone@example.com", "door_sender_list"),
    (LISTED, None, "From: victim@elsewhere.example", "header_not_owned"),
    (LISTED, None, "From: anyone@example.com\nSender: victim@elsewhere.example", "header_not_owned"),
    (LISTED, None, "Subject: no author", "header_unclear"),
    (FIXED, None, "From: root", "from_fixed"),
    (FIXED, ANNA, "From: root", "from_fixed"),
    (FIXED, ANNA, "From: root\nSender: bob@example.com", "header_not_owned"),
]


def facts(header: str) -> HeaderIdentity:
    return identity_facts(Header(header.replace("\n", "\r\n").encode() + b"\r\n"))


@pytest.mark.parametrize(("door", "rights", "header", "rule"), HEADERS)
def test_header(door: Door, rights: Rights | None, header: str, rule: str) -> None:
    verdict = may_use_header(door, rights, facts(header))
    assert verdict.rule == rule
    if isinstance(verdict, Refusal):
        assert verdict.reply.is_permanent


def test_the_peer_does_not_read_the_operators_reason() -> None:
    verdict = may_use_header(SUBMISSION, ANNA, facts("From: secret-name@example.com"))
    assert isinstance(verdict, Refusal)
    assert "secret-name" in verdict.reason
    assert "secret-name" not in str(verdict.reply)


def test_without_a_separator_there_are_no_sub_addresses() -> None:
    rights = Rights(parse_mailbox("anna@example.com"), separator="")
    assert not rights.covers(parse_mailbox("anna+x@example.com"))
    assert isinstance(may_use_header(SUBMISSION, rights, facts("From: anna@example.com")), Allowed)


def test_the_kelvin_sign_is_not_a_k() -> None:
    rights = Rights(parse_mailbox("kim@example.com"))
    assert rights.covers(parse_mailbox("KIM@example.com"))
    assert not rights.covers(Mailbox("\u212aim", parse_domain("example.com")))


@pytest.mark.parametrize(
    ("door", "rights", "shown", "rule"),
    [
        (SUBMISSION, ANNA, '"bob@example.com" <anna@example.com>', "header_not_owned"),
        (SUBMISSION, ANNA, '"Bob (bob@Example.COM)" <anna@example.com>', "header_not_owned"),
        (SUBMISSION, ANNA, "=?utf-8?q?bob=40example=2Ecom?= <anna@example.com>", "header_not_owned"),
        (SUBMISSION, ANNA, "=?utf-8?b?Ym9iQGV4YW1wbGUuY29t?= <anna@example.com>", "header_not_owned"),
        (LISTED, None, '"scan@example.com" <scan@other.example>', "door_sender_list"),
        (LISTED_SUBMISSION, ANNA, '"bob@example.com" <anna@example.com>', "header_not_owned"),
        # what is one's own, and what is nobody's here, may be shown
        (SUBMISSION, ANNA, '"anna@example.com" <anna@example.com>', "own_name"),
        (SUBMISSION, ANNA, '"sales@example.com" <anna@example.com>', "own_name"),
        (SUBMISSION, ANNA, '"cara@far.example via us" <anna@example.com>', "own_name"),
        (SUBMISSION, ANNA, '"5 euro @home" <anna@example.com>', "own_name"),
        (RELAY, None, '"bob@example.com" <x@far.example>', "door_without_sender_list"),
        (FIXED, ANNA, '"bob@example.com" <anna@example.com>', "from_fixed"),
    ],
)
def test_the_display_name_shows_nobody_elses_address(door: Door, rights: Rights | None, shown: str, rule: str) -> None:
    verdict = may_use_header(door, rights, facts(f"From: {shown}"), {parse_domain("example.com")}.__contains__)
    assert verdict.rule == rule
    if isinstance(verdict, Refusal):
        assert str(verdict.reply) == "550 5.7.1 From shows an address that is not yours to use"
