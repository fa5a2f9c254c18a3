"""A sealer for tests: it makes sets as RFC 8617 says, or as a row of a table wants them broken.

It canonicalises by regular expressions over the text of RFC 6376, so that it shares no code with what it tests.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from staffetta.dns.resolver import Lookup
from staffetta.dns.table import TableResolver, Texts
from staffetta.mailauth.arc.chain import ArcVerification
from staffetta.mailauth.results import ArcResult
from staffetta.message.header import Header

NOW = 1_790_000_000.0
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))

MESSAGE = (
    b"From: Anna <anna@bank.example>\r\n"
    b"To: list@list.example\r\n"
    b"Date: Thu, 14 Jan 2027 15:00:01 -0800\r\n"
    b"Subject: Example\r\n"
    b"MIME-Version: 1.0\r\n"
    b"\r\n"
    b"Hey  gang,\t\r\n"
    b"this is a test.\r\n"
    b"\r\n\r\n"
)

Key = Ed25519PrivateKey | RSAPrivateKey
Tags = dict[str, str | None]
"""Tags to put in place of the right ones; None takes one out."""


def record(key: Key) -> str:
    if isinstance(key, RSAPrivateKey):
        octets = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; k=rsa; p={base64.b64encode(octets).decode()}"
    return f"v=DKIM1; k=ed25519; p={base64.b64encode(key.public_key().public_bytes_raw()).decode()}"


def zones(*domains: str, key: Key = KEY) -> dict[str, Texts | Lookup]:
    return {f"arc._domainkey.{domain}": {"TXT": [record(key)]} for domain in domains}


def relaxed(raw: bytes) -> bytes:
    name, _, value = raw.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.strip(b" \t").lower() + b":" + value + b"\r\n"


def relaxed_body(body: bytes) -> bytes:
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join([line + b"\r\n" for line in lines])


def fields_of(message: bytes) -> list[bytes]:
    return re.findall(rb"[^\r\n](?:[^\r]|\r\n[ \t])*\r\n", message.partition(b"\r\n\r\n")[0] + b"\r\n")


def sign(key: Key, octets: bytes) -> str:
    if isinstance(key, RSAPrivateKey):
        return base64.b64encode(key.sign(octets, PKCS1v15(), SHA256())).decode()
    return base64.b64encode(key.sign(hashlib.sha256(octets).digest())).decode()


def algorithm_of(key: Key) -> str:
    return "rsa-sha256" if isinstance(key, RSAPrivateKey) else "ed25519-sha256"


def seal(
    message: bytes,
    domain: str = "list.example",
    *,
    instance: int | None = None,
    key: Key = KEY,
    message_tags: Tags | None = None,
    seal_tags: Tags | None = None,
    results: bytes | None = None,
    change: Callable[[list[bytes]], list[bytes]] = lambda fields: fields,
) -> bytes:
    """The message with one more set on top. `change` gets seal, message signature and results, signed already."""
    found = fields_of(message)
    header, body = found, message.partition(b"\r\n\r\n")[2]
    older = [field for field in header if field[:4].lower() == b"arc-"]
    number = instance if instance is not None else 1 + sum(field[:8].lower() == b"arc-seal" for field in header)
    common: Tags = {"i": str(number), "a": algorithm_of(key), "d": domain, "s": "arc", "t": str(int(NOW) - 60)}
    if results is None:
        results = b"ARC-Authentication-Results: i=%d; mx.%b; spf=pass;\r\n\tdmarc=fail\r\n" % (number, domain.encode())
    tags = {
        **common,
        "c": "relaxed/relaxed",
        "h": "from:to:date:subject:arc-authentication-results",
        "bh": base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode(),
        **(message_tags or {}),
    }
    signed: list[bytes] = []
    left = [results, *header]
    for name in (tags["h"] or "").split(":"):
        for field in reversed(left):
            if field.partition(b":")[0].strip().lower().decode() == name.strip().lower():
                left.remove(field)
                signed.append(relaxed(field))
                break
    message_field = written("ARC-Message-Signature", tags, key, b"".join(signed))
    tags = {**common, "cv": "none" if number == 1 else "pass", **(seal_tags or {})}
    below = sorted(map(relaxed, older), key=_in_chain)
    seal_field = written("ARC-Seal", tags, key, b"".join([*below, relaxed(results), relaxed(message_field)]))
    own = change([seal_field, message_field, results])
    return b"".join([*own, *header]) + b"\r\n" + body


def _in_chain(field: bytes) -> tuple[int, int]:
    match = re.search(rb"[ :;]i=([0-9]+)", field)
    kinds = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")
    return int(match[1]) if match else 0, [field.startswith(kind) for kind in kinds].index(True)


def written(name: str, tags: Tags, key: Key, before: bytes) -> bytes:
    parts = [f"{tag}={value}" for tag, value in tags.items() if value is not None and tag != "b"]
    if tags.get("b", "") is None:
        return f"{name}: {'; '.join(parts)}\r\n".encode()
    text = name + ": " + ";\r\n ".join(parts) + ";\r\n b="
    signature = tags.get("b") or sign(key, before + relaxed(text.encode()).removesuffix(b"\r\n"))
    return (text + signature + "\r\n").encode()


def verification(message: bytes, sizes: int = 1 << 20) -> ArcVerification:
    block, separator, body = message.partition(b"\r\n\r\n")
    found = ArcVerification(Header(block + b"\r\n" if separator else message))
    for start in range(0, len(body), sizes):
        found.body(body[start : start + sizes])
    return found


def check(message: bytes, table: dict[str, Texts | Lookup] | TableResolver, sizes: int = 1 << 20) -> ArcResult:
    resolver = table if isinstance(table, TableResolver) else TableResolver(table)
    return asyncio.run(verification(message, sizes).finish(resolver, NOW))
