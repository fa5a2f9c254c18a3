"""Messages and keys that are printed in RFC 6376 and RFC 8463, and the shared ground of these tests."""

from __future__ import annotations

import asyncio
import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from staffetta.dns.resolver import Resolver
from staffetta.dns.table import TableResolver, Zones
from staffetta.mailauth.dkim.canonical import BodyCanon, Canon, relaxed_field
from staffetta.mailauth.dkim.record import write_record
from staffetta.mailauth.dkim.sign import PrivateKey
from staffetta.mailauth.dkim.verify import Verification
from staffetta.mailauth.results import DkimResult
from staffetta.message.header import Header, field_from
from staffetta.message.scan import Scan

NOW = 1_528_700_000.0

BODY = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"

FIELDS = b"""\
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>
""".replace(b"\n", b"\r\n")

RFC_6376 = (
    b"""\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
""".replace(b"\n", b"\r\n")
    + FIELDS
    + b"\r\n"
    + BODY.replace(b"  ", b" ")
)

RFC_8463 = (
    b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
""".replace(b"\n", b"\r\n")
    + FIELDS
    + b"\r\n"
    + BODY
)

RSA_6376 = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt"
    "IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0"
    "fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)
RSA_8463 = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bd"
    "OKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4h"
    "stT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)
ED25519_8463 = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
ED25519_8463_PRIVATE = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="

ZONES: Zones = {
    "brisbane._domainkey.example.com": {"TXT": [f"v=DKIM1; p={RSA_6376}"]},
    "brisbane._domainkey.football.example.com": {"TXT": [f"v=DKIM1; k=ed25519; p={ED25519_8463}"]},
    "test._domainkey.football.example.com": {"TXT": [f"v=DKIM1; k=rsa; p={RSA_8463}"]},
}


def check(
    content: bytes, zones: Zones | Resolver = ZONES, now: float = NOW, piece: int = 1 << 20
) -> tuple[DkimResult, ...]:
    """Verify a message as the relay does: scanned in pieces, the rest fed from where the header ends."""
    scan = Scan()
    for start in range(0, len(content), piece):
        scan.feed(content[start : start + piece])
    scan.finish()
    verification = Verification(scan.header)
    for start in range(scan.header_octets, len(content), piece):
        verification.after_header(content[start : start + piece])
    resolver = zones if hasattr(zones, "query") else TableResolver(zones)
    return asyncio.run(verification.finish(resolver, now))


def words(content: bytes, zones: Zones | Resolver = ZONES, now: float = NOW) -> list[str]:
    """The words of the verdicts."""
    return [result.word.value for result in check(content, zones, now)]


def header_and_body(content: bytes) -> tuple[Header, bytes]:
    """A message in its two parts."""
    block, _, body = content.partition(b"\r\n\r\n")
    return Header(block + b"\r\n"), body


ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PLAIN = FIELDS + b"\r\n" + BODY


def key_zone(*records: str, name: str = "sel._domainkey.example.com") -> dict[str, dict[str, list[str]]]:
    """A zone with the records of a selector; without any, the right one of `ED25519`."""
    return {name: {"TXT": list(records) or [write_record(ED25519.public_key())]}}


def forge(content: bytes = PLAIN, private: PrivateKey = ED25519, **changed: str | None) -> bytes:
    """`content` with a signature in front that has any tags: None takes one out. Right in all that is not changed."""
    header, body = header_and_body(content)
    digest = hashlib.sha256(relaxed_body(body)[: int(changed["l"] or 0) if "l" in changed else None]).digest()
    algorithm = "ed25519-sha256" if isinstance(private, Ed25519PrivateKey) else "rsa-sha256"
    tags: dict[str, str | None] = {"v": "1", "a": algorithm, "c": "relaxed/relaxed", "d": "example.com", "s": "sel"}
    tags |= {"h": "from:to:subject:date", "bh": base64.b64encode(digest).decode()} | changed
    text = "; ".join(f"{name}={value}" for name, value in tags.items() if value is not None and name != "b")
    unsigned = field_from(f"DKIM-Signature: {text}; b=".encode("utf-8", "surrogateescape"))
    parts: list[bytes] = []
    left = list(header.fields)
    for name in (tags["h"] or "").split(":"):
        for field in reversed(left):
            if field.name == name.strip().lower().encode():
                parts.append(relaxed_field(field))
                left.remove(field)
                break
    octets = b"".join(parts) + relaxed_field(unsigned).removesuffix(b"\r\n")
    if isinstance(private, Ed25519PrivateKey):
        signature = private.sign(hashlib.sha256(octets).digest())
    else:
        signature = private.sign(octets, PKCS1v15(), SHA256())
    value = changed["b"] if "b" in changed else base64.b64encode(signature).decode()
    return unsigned.raw + (value or "").encode() + b"\r\n" + content


def relaxed_body(body: bytes) -> bytes:
    """The canonical body."""
    canon = BodyCanon(Canon.RELAXED)
    return canon.feed(body) + canon.finish()
