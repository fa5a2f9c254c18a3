"""One more set for a chain: what we found out about a message that an alias of ours sends on.

RFC 8617 section 5.1: our results, a signature over the message as it leaves, and a seal over all sets up to ours. Only
a chain that was found good, or none, may be sealed: who seals a broken one says nothing that anybody could use.
As in `dkim/sign` everything but the calculation is prepared for the loop, and the calculation may run in a thread.
This module refuses to know whether a message should be sealed, and with whose key.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import msgspec

from staffetta.mailauth.arc.sets import SETS, BadChain, read_sets
from staffetta.mailauth.dkim.canonical import relaxed_field
from staffetta.mailauth.dkim.sign import LINE_OCTETS, SIGNED, SigningKey, Unsigned
from staffetta.message.header import Header, field_from

COVERED: Final = SIGNED | {b"dkim-signature"}
"""Fields that our message signature covers (section 4.1.2): those of DKIM, and the signatures that came along."""

COVERED_FIELDS: Final = 200
"""Most fields that are covered; a message with more is not sealed, since `h=` would outgrow all else."""

_FOLD: Final = b"\r\n\t"


class UnsignedSet(msgspec.Struct, frozen=True, gc=False):
    """A set that lacks nothing but the calculation. `chain` are the earlier sets as they are hashed."""

    key: SigningKey
    results: bytes
    message: bytes
    message_digest: bytes
    seal: bytes
    chain: bytes

    def sign(self) -> bytes:
        """The three fields to put on top of the header, each with its CRLF. May run in a thread."""
        message = Unsigned(((self.key, self.message, self.message_digest),)).sign()
        hashed = hashlib.sha256(self.chain)
        for raw in (self.results, message):
            hashed.update(relaxed_field(field_from(raw)))
        hashed.update(_unsigned_form(self.seal))
        seal = Unsigned(((self.key, self.seal, hashed.digest()),)).sign()
        return seal + message + self.results


def prepare_set(header: Header, results: bytes, body_digest: bytes, key: SigningKey, now: float) -> UnsignedSet | None:
    """The next set for a message; None where none can be added.

    `header` is the one that was examined, and its chain was good or absent; `results` is our Authentication-Results
    field; `body_digest` that of `dkim.sign.new_body_hash`; `now` in seconds since the epoch.
    """
    try:
        sets = read_sets(header)
    except BadChain:
        return None
    covered = [field for field in reversed(header.fields) if field.name in COVERED and field.is_found]
    if len(sets) >= SETS or not header.has(b"from") or len(covered) > COVERED_FIELDS:
        return None
    chain = b"".join(
        [relaxed_field(field) for one in sets for field in (one.results, one.message, one.seal.field)],
    )
    instance, seconds = len(sets) + 1, int(now)
    signer = b"d=%b; s=%b; t=%d;" % (key.domain.encode(), key.selector.encode(), seconds)
    # Once more than it is there, so that nobody can put another From above it.
    names = _folded([*(field.name for field in covered), b"from"])
    message = b"ARC-Message-Signature: i=%d; a=%b; c=relaxed/relaxed;\r\n\t%b\r\n\th=%b;\r\n\tbh=%b;\r\n\tb=" % (
        instance,
        key.algorithm.encode(),
        signer,
        names,
        base64.b64encode(body_digest),
    )
    digest = hashlib.sha256(b"".join(map(relaxed_field, covered)) + _unsigned_form(message)).digest()
    validation = b"pass" if sets else b"none"
    seal = b"ARC-Seal: i=%d; a=%b; cv=%b;\r\n\t%b\r\n\tb=" % (instance, key.algorithm.encode(), validation, signer)
    value = results.partition(b":")[2].lstrip(b" ")
    return UnsignedSet(key, b"ARC-Authentication-Results: i=%d; %b" % (instance, value), message, digest, seal, chain)


def _unsigned_form(field: bytes) -> bytes:
    """A field of ours without the value of `b=`, as it is hashed."""
    return relaxed_field(field_from(field + b"\r\n")).removesuffix(b"\r\n")


def _folded(names: list[bytes]) -> bytes:
    lines: list[bytes] = []
    line = b""
    for name in names:
        if len(line) + len(name) + 4 > LINE_OCTETS:
            lines.append(line)
            line = b""
        line += name + b":"
    lines.append(line[:-1])
    return _FOLD.join(lines)


__all__ = ["COVERED", "COVERED_FIELDS", "UnsignedSet", "prepare_set"]
