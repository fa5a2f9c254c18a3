"""The sample messages of an abuse desk: how each is made, and what has to be concluded.

Run as a program it writes them to `tests/vectors/abuse`; a test holds the files to what is made here. Ours are
mx.ours.example and mx2.ours.example; bank.example is impersonated; evil.example sends.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from staffetta.dns.table import Zones
from staffetta.mailauth.dkim.record import Algorithm, write_record
from staffetta.mailauth.dkim.sign import Signer, SigningKey, new_body_hash
from staffetta.message.header import Header
from staffetta.message.trace import date_time

FOLDER = Path(__file__).parent.parent.parent / "vectors" / "abuse"
NOW = 1_795_518_522.0
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOOK_ALIKE = "b\u0430nk.example"
BODY = b"Dear customer,\r\n\r\nplease look at your account.\r\n"

_KEY_RECORD = {"TXT": [write_record(KEY.public_key())]}
ZONES: Zones = {
    "ours.example": {"MX": ["10 mx.ours.example", "20 mx2.ours.example"]},
    "mx.ours.example": {"A": ["203.0.113.10"]},
    "mx2.ours.example": {"A": ["203.0.113.11"]},
    "bank.example": {"TXT": ["v=spf1 ip4:198.51.100.1 -all"], "A": ["198.51.100.80"]},
    "_dmarc.bank.example": {"TXT": ["v=DMARC1; p=reject"]},
    "s1._domainkey.bank.example": _KEY_RECORD,
    "mail.bank.example": {"A": ["198.51.100.1"]},
    "1.100.51.198.in-addr.arpa": {"PTR": ["mail.bank.example"]},
    "evil.example": {"TXT": ["v=spf1 ip4:203.0.113.66 -all"]},
    "s1._domainkey.evil.example": _KEY_RECORD,
    "host-66.evil.example": {"A": ["203.0.113.66"]},
    "66.113.0.203.in-addr.arpa": {"PTR": ["host-66.evil.example"]},
    "list.example": {"TXT": ["v=spf1 ip4:198.51.100.9 -all"]},
    "s1._domainkey.list.example": _KEY_RECORD,
    "relay.example": {"TXT": ["v=spf1 ip4:198.51.100.77 -all"]},
    "s1._domainkey.relay.example": _KEY_RECORD,
    "xn--bnk-6cd.example": {"TXT": ["v=spf1 ip4:203.0.113.66 -all"]},
    "s1._domainkey.xn--bnk-6cd.example": _KEY_RECORD,
}


class Sample(NamedTuple):
    """A message and its conclusion: boundary hop, exit status, and pieces of the closing sentence."""

    name: str
    content: bytes
    boundary: int
    status: int
    sentence: tuple[str, ...]
    codes: tuple[str, ...] = ()


def received(client: str, by: str = "mx.ours.example", seconds: float = 0, protocol: str = "ESMTPS") -> bytes:
    date = date_time(NOW + seconds)
    return (
        f"Received: from {client}\r\n\tby {by} with {protocol} id 4XYZ\r\n\tfor <ben@ours.example>; {date}\r\n".encode()
    )


def letter(author: str, subject: str = "Your account", extra: bytes = b"") -> bytes:
    return (
        extra
        + (
            f"From: {author}\r\nTo: Ben <ben@ours.example>\r\nSubject: {subject}\r\nDate: {date_time(NOW - 60)}\r\n"
            "Message-ID: <1@bank.example>\r\n"
        ).encode()
    )


def signed(block: bytes, domain: str, body: bytes = BODY, lifetime: int | None = None) -> bytes:
    hashed = new_body_hash()
    hashed.feed(body)
    signer = Signer([SigningKey(domain, "s1", Algorithm.ED25519_SHA256, KEY)], lifetime)
    return signer.prepare(Header(block).fields, hashed.finish(), NOW - 50).sign() + block


def path(address: str) -> bytes:
    return f"Return-Path: <{address}>\r\n".encode()


BANK = "mail.bank.example (mail.bank.example [198.51.100.1])"
EVIL = "mail.bank.example (host-66.evil.example [203.0.113.66])"
ANNA = "Anna <anna@bank.example>"
FORGED = received(BANK, seconds=-30)
OUR_RESULTS = b"Authentication-Results: mx.ours.example; dkim=pass header.d=bank.example; dmarc=pass\r\n"


def plain_forgery() -> Sample:
    trace = received(EVIL) + received(BANK, "mail.bank.example", -30)
    content = path("anna@bank.example") + trace + letter(ANNA) + b"\r\n" + BODY
    said = ("by 203.0.113.66 (host-66.evil.example)", "anna@bank.example: not proven", "no DKIM signature")
    return Sample("01-plain-forgery", content, 1, 1, (*said, "SPF fail", "asks that such mail is refused"))


def trace_in_our_name() -> Sample:
    content = path("x@evil.example") + received(EVIL) + OUR_RESULTS + FORGED + letter(ANNA) + b"\r\n" + BODY
    said = ("Handed to mx.ours.example by 203.0.113.66", "not proven", "SPF passes only for", "hop 2 says that mx.ours")
    return Sample("02-trace-in-our-name", content, 1, 1, said, ("forged_received", "forged_results"))


def backup_server() -> Sample:
    own = received("mx2.ours.example (mx2.ours.example [203.0.113.11])", seconds=20)
    trace = own + received(EVIL, "mx2.ours.example") + received(BANK, "mx2.ours.example", -30)
    content = path("x@evil.example") + trace + letter(ANNA) + b"\r\n" + BODY
    said = ("Handed to mx2.ours.example by 203.0.113.66", "not proven")
    return Sample("03-backup-server", content, 2, 1, said, ("forged_received",))


def genuine() -> Sample:
    content = path("anna@bank.example") + received(BANK) + signed(letter(ANNA), "bank.example") + b"\r\n" + BODY
    said = (
        "by 198.51.100.1 (mail.bank.example)",
        "proven by the DKIM signature of bank.example and SPF of bank.example.",
    )
    return Sample("04-genuine", content, 1, 0, said)


def display_name() -> Sample:
    block = signed(letter('"anna@bank.example" <x@evil.example>'), "evil.example")
    content = path("x@evil.example") + received(EVIL) + block + b"\r\n" + BODY
    said = ("claims to be from x@evil.example: proven by", "Beware: From shows anna@bank.example")
    return Sample("05-display-name", content, 1, 1, said, ("other_address_shown",))


def look_alike() -> Sample:
    block = signed(letter(f"Anna <anna@{LOOK_ALIKE}>"), "xn--bnk-6cd.example")
    content = path("anna@xn--bnk-6cd.example") + received(EVIL) + block + b"\r\n" + BODY
    said = ("anna@xn--bnk-6cd.example: proven by", "looks like bank.example")
    return Sample("06-look-alike", content, 1, 1, said, ("look_alike_domain",))


def two_authors() -> Sample:
    block = b"From: Anna <anna@bank.example>\r\n" + signed(letter("x@evil.example"), "evil.example")
    content = path("x@evil.example") + received(EVIL) + block + b"\r\n" + BODY
    said = ("not proven, because From can be read in several ways",)
    return Sample("07-two-authors", content, 1, 1, said, ("unclear_from",))


def altered_body() -> Sample:
    block = signed(letter(ANNA), "bank.example")
    content = path("anna@bank.example") + received(EVIL) + block + b"\r\n" + BODY + b"Send money.\r\n"
    said = ("not proven, because the DKIM signature of bank.example does not verify (the body", "SPF fail")
    return Sample("08-altered-body", content, 1, 1, said)


def filter_inside() -> Sample:
    inside = "localhost (localhost [127.0.0.1])"
    trace = received("mx.ours.example ([127.0.0.1])", seconds=5, protocol="LMTP") + received(inside, seconds=4)
    trace += received("mx.ours.example ([127.0.0.1])", "localhost (mx.ours.example [127.0.0.1])", 2, "ESMTP")
    trace += received(EVIL, seconds=1) + FORGED
    content = path("anna@bank.example") + trace + letter(ANNA) + b"\r\n" + BODY
    said = ("Handed to mx.ours.example by 203.0.113.66", "not proven")
    return Sample("09-filter-inside", content, 4, 1, said, ("forged_received",))


def mailing_list() -> Sample:
    original = signed(letter(ANNA), "bank.example").replace(b"Subject: Your", b"Subject: [list] Your")
    block = signed(b"List-Id: Talk <talk.list.example>\r\n" + original, "list.example")
    hop = received("lists.list.example (lists.list.example [198.51.100.9])")
    content = (
        path("talk-bounces@list.example") + hop + received(BANK, "lists.list.example", -20) + block + b"\r\n" + BODY
    )
    said = ("not proven, because the DKIM signature that verifies is of list.example, not of bank.example",)
    return Sample("10-mailing-list", content, 1, 1, said, ("mailing_list", "envelope_differs"))


def hidden_at_sign() -> Sample:
    word = base64.b64encode("anna@bank.example \u202eelpmaxe".encode()).decode()
    block = signed(letter(f"=?utf-8?B?{word}?= <x@evil.example>"), "evil.example")
    content = path("x@evil.example") + received(EVIL) + block + b"\r\n" + BODY
    # As a mail folder keeps it: with LF, and a line of its own in front.
    content = b"From x@evil.example Tue Nov 24 11:08:42 2026\n" + content.replace(b"\r\n", b"\n")
    said = ("x@evil.example: proven by the DKIM signature of evil.example", "Beware: From")
    codes = ("other_address_shown", "hidden_at_sign", "direction_mark")
    return Sample("11-hidden-at-sign", content, 1, 1, said, codes)


def shared_relay() -> Sample:
    block = signed(letter(ANNA), "relay.example")
    hop = received("out.relay.example (out.relay.example [198.51.100.77])")
    claimed = received("customer (unknown [203.0.113.66])", "out.relay.example", -10, "ESMTPSA")
    content = path("bounce@relay.example") + hop + claimed + block + b"\r\n" + BODY
    said = ("by 198.51.100.77", "not proven", "is of relay.example, not of bank.example", "SPF passes only for")
    return Sample("12-shared-relay", content, 1, 1, said)


MAKERS: tuple[Callable[[], Sample], ...] = (
    plain_forgery,
    trace_in_our_name,
    backup_server,
    genuine,
    display_name,
    look_alike,
    two_authors,
    altered_body,
    filter_inside,
    mailing_list,
    hidden_at_sign,
    shared_relay,
)


def samples() -> list[Sample]:
    return [make() for make in MAKERS]


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in samples():
        (FOLDER / f"{one.name}.eml").write_bytes(one.content)
