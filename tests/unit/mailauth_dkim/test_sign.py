"""Signing: what stands in the field, what it protects, and dkimpy as an independent judge in both directions."""

from __future__ import annotations

import base64
import re
from typing import Any

import dkim as oracle
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dkim_examples import BODY, ED25519, ED25519_8463_PRIVATE, FIELDS, NOW, check, header_and_body, key_zone, words
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.mailauth.dkim.record import Algorithm, record_name, write_record
from staffetta.mailauth.dkim.sign import GUARDED, SIGNED, Signer, SigningKey, new_body_hash
from staffetta.mailauth.dkim.tags import parse_tags
from staffetta.mailauth.dkim.tags import words as parts_of
from staffetta.message.header import Header

MIME = b"""\
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
""".replace(b"\n", b"\r\n")


class Ground:
    """A signer with both keys, and the DNS in which they are published."""

    def __init__(self, private: rsa.RSAPrivateKey, **options: Any) -> None:
        ed25519 = SigningKey("example.com", "s202611e", Algorithm.ED25519_SHA256, ED25519)
        rsa_ = SigningKey("example.com", "s202611r", Algorithm.RSA_SHA256, private)
        self.signer = Signer([ed25519, rsa_], **options)
        self.zone = {}
        for key in self.signer.keys:
            self.zone |= key_zone(write_record(key.private.public_key()), name=record_name(key.selector, key.domain))

    def signed(self, fields: bytes, body: bytes) -> bytes:
        digest = new_body_hash()
        digest.feed(body)
        return self.signer.sign(Header(fields).fields, digest.finish(), NOW) + fields + b"\r\n" + body

    def records(self, name: bytes, timeout: int = 5) -> bytes:
        return self.zone[name.decode().rstrip(".")]["TXT"][0].encode()

    def oracle_says(self, content: bytes) -> list[bool]:
        return [oracle.DKIM(content).verify(idx=at, dnsfunc=self.records) for at in range(len(self.signer.keys))]


@pytest.fixture(scope="module")
def ground(rsa_key: rsa.RSAPrivateKey) -> Ground:
    return Ground(rsa_key)


def tags_of(content: bytes) -> list[dict[str, str]]:
    header, _ = header_and_body(content)
    return [parse_tags(field.raw[field.value_at :]) for field in header.all(b"dkim-signature")]


def test_the_fields(ground: Ground) -> None:
    content = ground.signed(FIELDS + MIME, BODY)
    first, second = tags_of(content)
    assert (first["a"], second["a"]) == ("rsa-sha256", "ed25519-sha256")
    for tags in (first, second):
        assert list(tags) == ["v", "a", "c", "d", "s", "t", "h", "bh", "b"]  # above all, no l=
        assert (tags["v"], tags["c"], tags["d"], tags["t"]) == ("1", "relaxed/relaxed", "example.com", str(int(NOW)))
    assert (first["s"], second["s"]) == ("s202611r", "s202611e")
    header, _ = header_and_body(content)
    for field in header.fields[:2]:
        assert field.raw.startswith(b"DKIM-Signature: v=1; ")
        assert field.raw.endswith(b"\r\n")
        assert all(len(line) <= 78 for line in field.raw.split(b"\r\n"))
    assert header.well_formed


def test_both_are_right_for_us_and_for_the_oracle(ground: Ground) -> None:
    content = ground.signed(FIELDS + MIME, BODY)
    results = check(content, ground.zone)
    assert [(result.word, result.key_bits) for result in results] == [("pass", 2048), ("pass", 256)]
    assert ground.oracle_says(content) == [True, True]


def test_an_expiry(rsa_key: rsa.RSAPrivateKey) -> None:
    ground = Ground(rsa_key, lifetime_seconds=3600)
    content = ground.signed(FIELDS, BODY)
    assert [tags["x"] for tags in tags_of(content)] == [str(int(NOW) + 3600)] * 2
    assert words(content, ground.zone, NOW + 3600) == ["pass", "pass"]
    assert words(content, ground.zone, NOW + 3602) == ["permerror", "permerror"]


@pytest.mark.parametrize("name", sorted(set(GUARDED)))
def test_nobody_can_add_what_is_guarded(ground: Ground, name: bytes) -> None:
    for fields in (FIELDS, FIELDS + MIME + b"Cc: a@example.com\r\nReply-To: b@example.com\r\n"):
        content = ground.signed(fields, BODY)
        added = b"%b: x@example.com\r\n" % name
        assert set(words(added + content, ground.zone)) <= {"fail", "policy"}
        assert set(words(content.replace(fields, fields + added), ground.zone)) <= {"fail", "policy"}


def test_nobody_can_add_a_recipient_to_those_that_are_shown(ground: Ground) -> None:
    content = ground.signed(FIELDS, BODY)
    assert "pass" not in words(b"To: c@example.com\r\n" + content, ground.zone)
    without = FIELDS.replace(b"To: Suzie Q <suzie@shopping.example.net>\r\n", b"")
    content = ground.signed(without, BODY)
    assert words(b"To: undisclosed-recipients:;\r\n" + content, ground.zone) == ["pass", "pass"]


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_nobody_can_change_or_take_out_what_is_signed(ground: Ground, name: bytes) -> None:
    field = b"%b: one\r\n" % name.title()
    fields = field if name == b"from" else FIELDS + field
    content = ground.signed(fields, BODY)
    assert words(content, ground.zone) == ["pass", "pass"]
    assert "pass" not in words(content.replace(field, field.replace(b"one", b"two")), ground.zone)
    assert "pass" not in words(content.replace(field, b""), ground.zone)


def test_what_the_way_adds_does_no_harm(ground: Ground) -> None:
    content = ground.signed(FIELDS, BODY)
    trace = b"Return-Path: <x@example.com>\r\nReceived: from a by b; now\r\nAuthentication-Results: b; none\r\n"
    sender = b"Sender: list@example.org\r\nList-Id: <list.example.org>\r\n"
    assert words(trace + content.replace(FIELDS, FIELDS + sender), ground.zone) == ["pass", "pass"]


def test_nobody_can_write_below_the_body(ground: Ground) -> None:
    assert words(ground.signed(FIELDS, BODY) + b"more\r\n", ground.zone) == ["fail", "fail"]


def test_several_fields_of_one_name_are_signed_from_below(ground: Ground) -> None:
    fields = FIELDS + b"Resent-From: a@example.com\r\nResent-From: b@example.com\r\nReferences: <x>\r\n"
    content = ground.signed(fields, BODY)
    assert parts_of(tags_of(content)[0]["h"]).count("resent-from") == 2
    assert words(content, ground.zone) == ["pass", "pass"]
    assert ground.oracle_says(content) == [True, True]
    assert words(b"Resent-From: c@example.com\r\n" + content, ground.zone) == ["pass", "pass"]


def test_a_field_in_disguise_is_not_signed(ground: Ground) -> None:
    fields = FIELDS + b"Sub\x01ject: x\r\nSubject : y\r\n"
    content = ground.signed(fields, BODY)
    assert parts_of(tags_of(content)[0]["h"]).count("subject") == 3
    assert words(content, ground.zone) == ["pass", "pass"]


def test_many_fields_fold(ground: Ground) -> None:
    fields = FIELDS + b"".join(b"Content-Transfer-Encoding: x%d\r\nList-Unsubscribe-Post: y\r\n" % n for n in range(40))
    content = ground.signed(fields, BODY)
    header, _ = header_and_body(content)
    assert max(len(line) for line in header.block.split(b"\r\n")) <= 78
    assert words(content, ground.zone) == ["pass", "pass"]
    assert ground.oracle_says(content) == [True, True]


def test_preparing_needs_no_private_key(rsa_key: rsa.RSAPrivateKey) -> None:
    ground = Ground(rsa_key)
    digest = new_body_hash()
    digest.feed(BODY)
    unsigned = ground.signer.prepare(Header(FIELDS).fields, digest.finish(), NOW)
    assert unsigned.sign() == unsigned.sign()
    assert words(unsigned.sign() + FIELDS + b"\r\n" + BODY, ground.zone) == ["pass", "pass"]


def test_no_secret_in_a_repr(ground: Ground) -> None:
    assert [repr(key) for key in ground.signer.keys] == [
        "SigningKey(s202611r._domainkey.example.com, rsa-sha256)",
        "SigningKey(s202611e._domainkey.example.com, ed25519-sha256)",
    ]


_names = st.sampled_from(["Subject", "To", "x-Other", "Received", "Reply-To", "References", "LIST-ID"])
_value = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12), max_size=4
).map("\r\n\t ".join)
_fields = st.lists(st.tuples(_names, st.sampled_from([": ", ":", ":\t "]), _value), max_size=6)
_bodies = st.lists(st.text("ab. \tü", max_size=6)).map("\r\n".join)


def written(fields: list[tuple[str, str, str]]) -> bytes:
    return FIELDS + "".join(f"{name}{colon}{value}\r\n" for name, colon, value in fields).encode()


@settings(max_examples=60, deadline=None)
@given(_fields, _bodies)
def test_the_oracle_agrees_with_what_we_sign(ground: Ground, fields: list[tuple[str, str, str]], body: str) -> None:
    # An empty body is where implementations of the standard differ (RFC 6376 section 3.4.4 and its errata).
    content = ground.signed(written(fields), body.encode() + b".\r\n")
    assert words(content, ground.zone) == ["pass", "pass"]
    assert ground.oracle_says(content) == [True, True]


@settings(max_examples=60, deadline=None)
@given(_fields, _bodies, st.sampled_from([b"simple", b"relaxed"]), st.sampled_from([b"simple", b"relaxed"]))
def test_we_agree_with_what_the_oracle_signs(
    ground: Ground, fields: list[tuple[str, str, str]], body: str, header_canon: bytes, body_canon: bytes
) -> None:
    content = written(fields) + b"\r\n" + body.encode() + b".\r\n"
    private = ground.signer.keys[0].private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    kinds = {"canonicalize": (header_canon, body_canon), "identity": b"joe@example.com", "length": len(body) % 2 == 1}
    by_rsa = oracle.sign(content, b"s202611r", b"example.com", private, **kinds)
    seed = base64.b64encode(ED25519.private_bytes_raw())
    kinds["signature_algorithm"] = b"ed25519-sha256"
    by_ed25519 = oracle.sign(content, b"s202611e", b"example.com", seed, **kinds)
    results = check(by_rsa + by_ed25519 + content, ground.zone, NOW * 2)
    assert [(result.word, result.problem) for result in results] == [("pass", "")] * 2


def test_the_key_of_rfc_8463_makes_its_signature() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(ED25519_8463_PRIVATE))
    assert re.fullmatch(
        r"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", write_record(private.public_key())
    )
