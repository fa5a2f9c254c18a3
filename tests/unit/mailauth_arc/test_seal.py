"""Sets of ours, judged by our validator and by dkimpy's; and what is not sealed. RFC 8617 section 5.1."""

from __future__ import annotations

import base64
import hashlib
import time

import dkim as dkimpy
import pytest
from arc_sealer import MESSAGE, NOW, check, record, relaxed_body, seal, zones
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from staffetta.mailauth.arc.seal import COVERED_FIELDS, prepare_set
from staffetta.mailauth.arc.sets import SETS
from staffetta.mailauth.dkim.record import Algorithm
from staffetta.mailauth.dkim.sign import SigningKey
from staffetta.mailauth.results import Word
from staffetta.message.header import Header

RSA = generate_private_key(65537, 2048)
KEY = SigningKey("home.example", "arc", Algorithm.RSA_SHA256, RSA)
YOUNG = SigningKey("home.example", "arc", Algorithm.ED25519_SHA256, Ed25519PrivateKey.generate())
RESULTS = b"Authentication-Results: mx.home.example;\r\n\tspf=pass smtp.mailfrom=a@bank.example;\r\n\tdkim=none\r\n"
ZONES = zones("home.example", key=RSA) | zones("list.example", "alumni.example")


def sealed(message: bytes, key: SigningKey = KEY, now: float = NOW) -> bytes | None:
    head, _, body = message.partition(b"\r\n\r\n")
    digest = hashlib.sha256(relaxed_body(body)).digest()
    unsigned = prepare_set(Header(head + b"\r\n"), RESULTS, digest, key, now)
    return None if unsigned is None else unsigned.sign() + message


@pytest.mark.parametrize("earlier", [(), ("list.example",), ("list.example", "alumni.example")])
def test_a_set_of_ours_holds(earlier: tuple[str, ...]) -> None:
    message = MESSAGE
    for domain in earlier:
        message = seal(message, domain)
    ours = sealed(message)
    assert ours is not None
    result = check(ours, dict(ZONES))
    assert (result.word, result.sealers) == (Word.PASS, (*earlier, "home.example")), result
    assert ours.startswith(
        b"ARC-Seal: i=%d; a=rsa-sha256; cv=%b;\r\n" % (len(earlier) + 1, b"pass" if earlier else b"none")
    )
    assert b"ARC-Authentication-Results: i=%d; mx.home.example;\r\n\tspf=pass" % (len(earlier) + 1) in ours
    # Somebody behind us goes on.
    assert check(seal(ours, "list.example"), dict(ZONES)).word is Word.PASS


def test_another_validator_agrees() -> None:
    ours = sealed(MESSAGE, now=time.time())
    assert ours is not None
    again = sealed(ours, now=time.time())
    assert again is not None
    for message in (ours, again):
        verdict = dkimpy.arc_verify(message, dnsfunc=lambda name, timeout=5: record(RSA).encode())
        assert verdict[0] == dkimpy.CV_Pass, verdict


def test_ed25519() -> None:
    ours = sealed(MESSAGE, YOUNG)
    assert ours is not None
    public = base64.b64encode(YOUNG.private.public_key().public_bytes_raw()).decode()  # type: ignore[union-attr]
    table = {"arc._domainkey.home.example": {"TXT": [f"v=DKIM1; k=ed25519; p={public}"]}}
    assert check(ours, table).word is Word.PASS  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"this is a test", b"this is a jest"),
        (b"Subject: Example", b"Subject: Exampl3"),
        (b"From: Anna", b"From: Eve <eve@bank.example>\r\nFrom: Anna"),
        (b"mx.home.example;", b"mx.away.example;"),
        (b"cv=none", b"cv=pass"),
    ],
)
def test_what_is_changed_behind_us_is_found(old: bytes, new: bytes) -> None:
    ours = sealed(MESSAGE)
    assert ours is not None
    assert old in ours
    assert check(ours.replace(old, new, 1), dict(ZONES)).word is Word.FAIL


@pytest.mark.parametrize(
    "message",
    [
        b"ARC-Seal: i=1; nonsense\r\n" + MESSAGE,
        MESSAGE.replace(b"From:", b"Form:", 1),
        b"Resent-To: <a@b.example>\r\n" * COVERED_FIELDS + MESSAGE,
    ],
)
def test_what_cannot_be_sealed_is_left_as_it_is(message: bytes) -> None:
    assert sealed(message) is None


def test_a_chain_has_an_end() -> None:
    message = MESSAGE
    for _ in range(SETS):
        message = seal(message)
    assert sealed(message) is None
