"""Signing what our own users send: one signature by RSA and one by Ed25519, relaxed/relaxed, over the whole body.

RFC 6376 section 5 and 5.4.1 (which fields), section 8.15 (fields listed once more than they are there, so that nobody
can add one), RFC 8301, RFC 8463. No `l=`: what it leaves out is anybody's to write.

Two parts: `prepare` is plain computing for the event loop, `Unsigned.sign` calculates with the private keys and may
run in a thread. The RSA part leaves the interpreter free meanwhile, but one key does one signature at a time.
This module refuses to know where keys come from and for whom it may sign.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from staffetta.mailauth.dkim.canonical import BodyHash, Canon, relaxed_field
from staffetta.mailauth.dkim.record import Algorithm
from staffetta.message.header import Field

GUARDED: Final = (
    b"from",
    b"subject",
    b"date",
    b"cc",
    b"reply-to",
    b"message-id",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
"""Signed once more than they are there. So is `To`, but not where it is missing: old servers on the way put a
`To: undisclosed-recipients` there."""

SIGNED: Final = frozenset(GUARDED) | {
    b"to",
    b"sender",
    b"in-reply-to",
    b"references",
    b"content-id",
    b"content-disposition",
    b"content-language",
    b"resent-date",
    b"resent-from",
    b"resent-sender",
    b"resent-to",
    b"resent-cc",
    b"resent-message-id",
    b"list-id",
    b"list-help",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"list-subscribe",
    b"list-post",
    b"list-owner",
    b"list-archive",
    b"auto-submitted",
    b"feedback-id",
}
"""Fields that say what a message means, and that nobody on the way has reason to change. Trace fields are not among
them (RFC 6376 section 5.4)."""

LINE_OCTETS: Final = 76
"""Longest line of a signature field, where words allow it."""

_PADDING: Final = PKCS1v15()
_DIGEST: Final = Prehashed(SHA256())
_FOLD: Final = b"\r\n\t"

PrivateKey = RSAPrivateKey | Ed25519PrivateKey


class SigningKey(msgspec.Struct, frozen=True, gc=False):
    """A private key and the name that its record has. Domain and selector are A-labels in lower case."""

    domain: str
    selector: str
    algorithm: Algorithm
    private: PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.selector}._domainkey.{self.domain}, {self.algorithm})"


class _Form(msgspec.Struct, frozen=True, gc=False):
    """The constant beginning of one key's signature field, as it is written and as it is hashed."""

    key: SigningKey
    written: bytes
    hashed: bytes


class Unsigned(msgspec.Struct, frozen=True, gc=False):
    """Signatures that lack nothing but the calculation. `parts`: key, field without the value of `b=`, digest."""

    parts: tuple[tuple[SigningKey, bytes, bytes], ...]

    def sign(self) -> bytes:
        """The fields to put in front of the header, each with its CRLF. May run in a thread."""
        return b"".join([b"%b%b\r\n" % (field, _value(_raw(key, digest))) for key, field, digest in self.parts])


class Signer:
    """Signs for one domain with all of its keys. Holds nothing of a message."""

    __slots__ = ("_forms", "_lifetime")

    def __init__(self, keys: Iterable[SigningKey], lifetime_seconds: int | None = None) -> None:
        """`lifetime_seconds`: how long signatures count (`x=`); None: no limit is written."""
        # RSA on top: what looks at one signature only should find the one that everybody can check.
        ordered = sorted(keys, key=lambda key: key.algorithm is not Algorithm.RSA_SHA256)
        self._forms = tuple(map(_form, ordered))
        self._lifetime = lifetime_seconds

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The keys, in the order of their signatures."""
        return tuple([form.key for form in self._forms])

    def prepare(self, fields: Sequence[Field], body_digest: bytes, now: float) -> Unsigned:
        """Everything but the calculation. `fields` is the header as it will be sent; `body_digest` is what
        `new_body_hash` came to; `now` is in seconds since the epoch."""
        names: list[bytes] = []
        octets: list[bytes] = []
        for field in reversed(fields):
            if field.name in SIGNED and field.is_found:
                names.append(field.name)
                octets.append(relaxed_field(field))
        written_names, hashed_names = _listed(tuple(names))
        shared = hashlib.sha256(b"".join(octets))
        seconds = int(now)
        expiry = b" x=%d;" % (seconds + self._lifetime) if self._lifetime is not None else b""
        times = b"%d;%b" % (seconds, expiry)
        body = base64.b64encode(body_digest)
        parts: list[tuple[SigningKey, bytes, bytes]] = []
        for form in self._forms:
            digest = shared.copy()
            digest.update(b"%b%b h=%b; bh=%b; b=" % (form.hashed, times, hashed_names, body))
            field_octets = b"%b%b\r\n\th=%b;\r\n\tbh=%b;\r\n\tb=" % (form.written, times, written_names, body)
            parts.append((form.key, field_octets, digest.digest()))
        return Unsigned(tuple(parts))

    def sign(self, fields: Sequence[Field], body_digest: bytes, now: float) -> bytes:
        """Both at once: `prepare`, then the calculation."""
        return self.prepare(fields, body_digest, now).sign()


def new_body_hash() -> BodyHash:
    """What hashes a body for a Signer while it streams past."""
    return BodyHash(Canon.RELAXED)


def _form(key: SigningKey) -> _Form:
    lines = [
        b"v=1; a=%b; c=relaxed/relaxed;" % key.algorithm.encode(),
        b"d=%b; s=%b;" % (key.domain.encode(), key.selector.encode()),
        b"t=",
    ]
    return _Form(key, b"DKIM-Signature: " + _FOLD.join(lines), b"dkim-signature:" + b" ".join(lines))


@lru_cache(maxsize=512)
def _listed(names: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """The value of `h=` for signed fields from the last to the first, as written and as hashed."""
    lines: list[bytes] = []
    line = b"h="
    guards = (*GUARDED, b"to") if b"to" in names else GUARDED
    for name in names + guards:
        if len(line) + len(name) + 2 > LINE_OCTETS:
            lines.append(line)
            line = b""
        line += name + b":"
    lines.append(line[:-1])
    return _FOLD.join(lines)[2:], b" ".join(lines)[2:]


def _value(signature: bytes) -> bytes:
    """The value of `b=`, folded. White space in it does not count."""
    text = base64.b64encode(signature)
    return _FOLD.join([text[at : at + 72] for at in range(0, len(text), 72)])


def _raw(key: SigningKey, digest: bytes) -> bytes:
    private: Any = key.private
    if key.algorithm is Algorithm.RSA_SHA256:
        return bytes(private.sign(digest, _PADDING, _DIGEST))
    return bytes(private.sign(digest))


__all__ = ["GUARDED", "SIGNED", "PrivateKey", "Signer", "SigningKey", "Unsigned", "new_body_hash"]
