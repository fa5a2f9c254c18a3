"""The key record in the DNS: reading it without trust, and writing ours.

RFC 6376 section 3.6.1, RFC 8301 section 3.2 (RSA from 1024 bits), RFC 8463 section 4 (Ed25519). A record is whatever
a stranger published: it may be huge, hold a key of another kind, or numbers chosen to make us calculate for long.
This module refuses to know signatures and the DNS.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from staffetta.mailauth.dkim.tags import TagError, decode_base64, parse_tags, words

RECORD_OCTETS: Final = 4096
"""Longest record that is read. One of an 8192-bit key takes 1.5 KiB."""

LEAST_BITS: Final = 1024
"""RFC 8301 section 3.2: shorter RSA keys count for nothing."""

MOST_BITS: Final = 8192
"""Longer RSA keys cost more than anybody gains; RFC 8301 asks for 4096."""

USUAL_BITS: Final = 4096
"""Keys up to here are checked in no time."""

EXPONENT_BITS: Final = 33
"""65537 is usual, and some programs take none above 2**32. A longer one makes verification slow, and nothing better."""

RECORDS_REMEMBERED: Final = 1024

PublicKey = RSAPublicKey | Ed25519PublicKey


class Algorithm(StrEnum):
    """What signs, as in `a=`."""

    RSA_SHA256 = "rsa-sha256"
    ED25519_SHA256 = "ed25519-sha256"

    @property
    def key_type(self) -> str:
        """The word of `k=`."""
        return self.value.partition("-")[0]


class KeyRecord(msgspec.Struct, frozen=True, gc=False):
    """A key that may be used for mail. `strict`: `i=` must name `d=` itself (`t=s`)."""

    algorithm: Algorithm
    key: PublicKey
    bits: int
    testing: bool = False
    strict: bool = False


class KeyFault(msgspec.Struct, frozen=True, gc=False):
    """Why a record gives no key that counts. `unfit`: there is a key, and we do not accept its like."""

    problem: str
    unfit: bool = False
    bits: int = 0
    testing: bool = False


def read_record(text: bytes) -> KeyRecord | KeyFault:
    """The key of a TXT record, its strings joined. What was read lately is remembered by its text."""
    if len(text) > RECORD_OCTETS:
        return KeyFault("the key record is too long")
    return _read(text)


@lru_cache(maxsize=RECORDS_REMEMBERED)
def _read(text: bytes) -> KeyRecord | KeyFault:
    try:
        tags = parse_tags(text)
    except TagError as error:
        return KeyFault(f"the key record is malformed: {error}")
    if tags.get("v", "DKIM1") != "DKIM1":
        return KeyFault("the record is not a DKIM key")
    if "p" not in tags:
        return KeyFault("the key record has no p=")
    flags = words(tags.get("t", ""))
    testing = "y" in flags
    if not tags["p"]:
        return KeyFault("the key is revoked", testing=testing)
    if "h" in tags and "sha256" not in words(tags["h"]):
        return KeyFault("the key is not for sha256", testing=testing)
    if not {"*", "email"} & set(words(tags.get("s", "*"))):
        return KeyFault("the key is not for mail", testing=testing)
    found = _key(tags.get("k", "rsa"), tags["p"])
    if isinstance(found, KeyFault):
        return msgspec.structs.replace(found, testing=testing)
    algorithm, key, bits = found
    return KeyRecord(algorithm, key, bits, testing, "s" in flags)


def _key(kind: str, text: str) -> tuple[Algorithm, PublicKey, int] | KeyFault:
    try:
        octets = decode_base64(text)
        if kind == "ed25519":
            return Algorithm.ED25519_SHA256, Ed25519PublicKey.from_public_bytes(octets), 256
        if kind != "rsa":
            return KeyFault("the key is of an unknown type")
        key = load_der_public_key(octets)
    except (TagError, ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        return KeyFault("the key in the record cannot be read")
    if not isinstance(key, RSAPublicKey):
        return KeyFault("the key in the record is not the RSA key that it should be")
    bits = key.key_size
    if not LEAST_BITS <= bits <= MOST_BITS:
        size = "short" if bits < LEAST_BITS else "long"
        return KeyFault(f"the RSA key is too {size}: {bits} bits", unfit=True, bits=bits)
    if key.public_numbers().e.bit_length() > EXPONENT_BITS:
        return KeyFault("the RSA key has an absurd exponent", unfit=True, bits=bits)
    return Algorithm.RSA_SHA256, key, bits


def is_dear(texts: Sequence[bytes]) -> bool:
    """Whether trying these records takes milliseconds: there are several, or a key of unusual size."""
    return len(texts) > 1 or any(read_record(text).bits > USUAL_BITS for text in texts)


def write_record(key: PublicKey) -> str:
    """The TXT record to publish for a key."""
    if isinstance(key, RSAPublicKey):
        algorithm = Algorithm.RSA_SHA256
        octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        algorithm = Algorithm.ED25519_SHA256
        octets = key.public_bytes_raw()
    return f"v=DKIM1; k={algorithm.key_type}; p={base64.b64encode(octets).decode()}"


def record_name(selector: str, domain: str) -> str:
    """Where the record of a selector stands (RFC 6376 section 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


__all__ = [
    "EXPONENT_BITS",
    "LEAST_BITS",
    "MOST_BITS",
    "RECORD_OCTETS",
    "USUAL_BITS",
    "Algorithm",
    "KeyFault",
    "KeyRecord",
    "PublicKey",
    "is_dear",
    "read_record",
    "record_name",
    "write_record",
]
