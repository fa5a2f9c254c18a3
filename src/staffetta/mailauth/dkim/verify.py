"""Checking the DKIM signatures of one message while its body streams past.

RFC 6376 section 6, RFC 8301, RFC 8463. The header is known when it begins, the body is canonicalised once for each of
the two ways and hashed once for each limit, and the keys are asked for at the end, all together. The bytes are those
that were received: nothing may be added, taken out or written anew before.
This module refuses to know what follows from a signature, and whether its domain has to do with From.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Final

import msgspec
from cryptography.exceptions import InternalError, InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from staffetta.dns.resolver import Lookup, RecordKind, Resolver, Unavailable
from staffetta.mailauth.dkim.canonical import BodyHashes, Canon, canonical_field
from staffetta.mailauth.dkim.record import KeyFault, KeyRecord, PublicKey, is_dear, read_record, record_name
from staffetta.mailauth.dkim.signature import Signature, read_signature, signed_form
from staffetta.mailauth.results import DkimResult, Word
from staffetta.mailauth.turns import Pause, next_turn
from staffetta.message.header import Field, Header

SIGNATURES: Final = 8
"""How many signatures are examined, from the top: each costs a hash of the body and a question."""

AT_ONCE: Final = 2
"""How many signatures are calculated before others have their turn, if their keys are usual."""

RECORDS: Final = 4
"""How many TXT records of one selector are tried. There should be one (RFC 6376 section 3.6.2.2)."""

CLOCK_SKEW_SECONDS: Final = 300.0
"""How far the signer's clock may be ahead of ours."""

FIELD_NAME: Final = b"dkim-signature"

_PADDING: Final = PKCS1v15()
_DIGEST: Final = Prehashed(SHA256())
_ALTERED_BODY: Final = "the body is not the one that was signed"
_ALTERED_HEADER: Final = "the header is not the one that was signed, or another key signed it"


class Verification:
    """One message's signatures. Make it when the header is complete, feed it the body, await `finish`.

    Without signatures everything here costs next to nothing, and `wants_body` is False.
    """

    __slots__ = ("_bodies", "_canonical", "_digests", "_found", "_header", "_read", "_skip", "_unexamined")

    def __init__(self, header: Header) -> None:
        self._header = header
        found = header.all(FIELD_NAME) if header.has(FIELD_NAME) else []
        self._unexamined = max(len(found) - SIGNATURES, 0)
        self._read = [self._checked(read_signature(field)) for field in found[:SIGNATURES]]
        limits: dict[Canon, list[int | None]] = {}
        for one in self._signatures:
            limits.setdefault(one.body_canon, []).append(one.limit)
        self._bodies = {canon: BodyHashes(canon, wanted) for canon, wanted in limits.items()}
        self._digests: dict[Canon, dict[int | None, bytes]] = {}
        self._found: dict[bytes, list[Field]] | None = None
        self._canonical: dict[tuple[bytes, Canon], list[bytes]] = {}
        self._skip = 2

    @property
    def wants_body(self) -> bool:
        """False when the body makes no difference: nothing needs to be fed."""
        return bool(self._bodies)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names under which keys will be asked for, each once: to have them asked for earlier."""
        return tuple(dict.fromkeys(_name_of(one) for one in self._signatures))

    def body(self, data: bytes) -> None:
        """The next octets of the body: what comes after the empty line."""
        for hasher in self._bodies.values():
            hasher.feed(data)

    def after_header(self, data: bytes) -> None:
        """The next octets of what follows the header, with the empty line that ends it: content from
        `Scan.header_octets` on. To be used instead of `body`, not with it."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self.body(data)

    async def finish(self, resolver: Resolver, now: float, pause: Pause = next_turn) -> tuple[DkimResult, ...]:
        """The verdicts in the order of the fields; one more when there were too many signatures. `now` is in seconds
        since the epoch. To be called once, when the body is over. `pause` is awaited before what takes long."""
        self._digests = {canon: hasher.finish() for canon, hasher in self._bodies.items()}
        judged = [self._before_key(one, now) for one in self._read]
        names = tuple(dict.fromkeys(_name_of(one) for one in judged if isinstance(one, Signature)))
        lookups = dict(zip(names, await _ask(resolver, names), strict=True))
        results: list[DkimResult] = []
        for position, one in enumerate(judged):
            if isinstance(one, Signature):
                lookup = lookups[_name_of(one)]
                if position >= AT_ONCE or is_dear(getattr(lookup, "texts", ())[:RECORDS]):
                    await pause()
                results.append(self._with_key(one, lookup))
            else:
                results.append(one)
        if self._unexamined:
            results.append(DkimResult(Word.POLICY, problem=f"{self._unexamined} more signatures were not examined"))
        return tuple(results)

    @property
    def _signatures(self) -> list[Signature]:
        return [one for one in self._read if isinstance(one, Signature)]

    def _checked(self, one: Signature | DkimResult) -> Signature | DkimResult:
        # A From that was put above the signed one would be shown, and the signature would still be right.
        if isinstance(one, Signature) and self._header.count(b"from") > one.signed.count(b"from"):
            return one.result(Word.POLICY, "there is a From field that is not signed")
        return one

    def _before_key(self, one: Signature | DkimResult, now: float) -> Signature | DkimResult:
        """What can be told without the key; the signature itself when nothing speaks against it."""
        if isinstance(one, DkimResult):
            return one
        if one.expires_at is not None and now > one.expires_at:
            return one.result(Word.PERMERROR, "the signature has expired")
        if one.signed_at is not None and one.signed_at > now + CLOCK_SKEW_SECONDS:
            return one.result(Word.POLICY, "the signature is from the future")
        if one.limit is not None and one.limit > self._bodies[one.body_canon].octets:
            return one.result(Word.PERMERROR, "l= is more than the body")
        if not hmac.compare_digest(self._digests[one.body_canon][one.limit], one.body_hash):
            return one.result(Word.FAIL, _ALTERED_BODY)
        return one

    def _with_key(self, one: Signature, lookup: Lookup) -> DkimResult:
        if isinstance(lookup, Unavailable):
            return one.result(Word.TEMPERROR, f"the key is not known now: {lookup.reason}")
        texts = getattr(lookup, "texts", ())
        if not texts:
            return one.result(Word.PERMERROR, "there is no key of this selector")
        digest = hashlib.sha256(self._signed_octets(one)).digest()
        verdicts: list[DkimResult] = []
        for text in texts[:RECORDS]:
            verdict = self._judge(one, read_record(text), digest)
            if verdict.word is Word.PASS:
                return verdict
            verdicts.append(verdict)
        # Of several records the one that is a key says most.
        return next((verdict for verdict in verdicts if verdict.word is Word.FAIL), verdicts[0])

    def _judge(self, one: Signature, record: KeyRecord | KeyFault, digest: bytes) -> DkimResult:
        if isinstance(record, KeyFault):
            result = one.result(Word.POLICY if record.unfit else Word.PERMERROR, record.problem)
        elif record.algorithm is not one.algorithm:
            result = one.result(Word.PERMERROR, "the key is of another type than the signature")
        elif record.strict and one.agent_domain != one.domain:
            result = one.result(Word.PERMERROR, "the key does not allow i= in a subdomain")
        elif not is_signed(record.key, one.signature, digest):
            result = one.result(Word.FAIL, _ALTERED_HEADER)
        else:
            result = one.result(Word.PASS)
        limited = one.limit is not None and one.limit < self._bodies[one.body_canon].octets
        return msgspec.structs.replace(result, key_bits=record.bits, testing=record.testing, body_limited=limited)

    def _signed_octets(self, one: Signature) -> bytes:
        """The header as it was hashed: for each name of `h=` the next field from below (section 5.4.2)."""
        left = {name: self._fields(name, one) for name in set(one.signed)}
        parts = [left[name].pop() for name in one.signed if left[name]]
        parts.append(signed_form(one.field, one.header_canon))
        return b"".join(parts)

    def _fields(self, name: bytes, one: Signature) -> list[bytes]:
        """A new list of the canonical fields called `name`, first to last, without the signature that is checked."""
        known = self._canonical.get((name, one.header_canon))
        if known is None:
            known = [canonical_field(field, one.header_canon) for field in self._instances().get(name, ())]
            self._canonical[name, one.header_canon] = known
        fields = known.copy()
        if name == FIELD_NAME:
            own = canonical_field(one.field, one.header_canon)
            if own in fields:
                fields.remove(own)
        return fields

    def _instances(self) -> dict[bytes, list[Field]]:
        if self._found is None:
            self._found = {}
            for field in self._header.fields:
                if field.is_found:
                    self._found.setdefault(field.name, []).append(field)
        return self._found


def is_signed(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    """Whether `signature` over the SHA-256 `digest` is by `key` (RFC 8017 section 8.2.2; RFC 8463 section 3)."""
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, digest, _PADDING, _DIGEST)
        else:
            key.verify(signature, digest)
    except (InvalidSignature, ValueError, InternalError):  # the last two: numbers that are no key
        return False
    return True


def _name_of(one: Signature) -> str:
    return record_name(one.selector, one.domain)


async def _ask(resolver: Resolver, names: tuple[str, ...]) -> list[Lookup]:
    if len(names) == 1:
        return [await resolver.query(names[0], RecordKind.TXT)]
    return list(await asyncio.gather(*(resolver.query(name, RecordKind.TXT) for name in names)))


__all__ = ["CLOCK_SKEW_SECONDS", "FIELD_NAME", "SIGNATURES", "Verification", "is_signed"]
