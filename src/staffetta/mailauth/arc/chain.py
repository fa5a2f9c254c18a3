"""Checking the ARC chain of one message while its body streams past.

RFC 8617 section 5.2: the form of all sets, the newest message signature with the body, and every seal. Older message
signatures need not verify, since whoever sealed after them may have changed the message.
A valid chain says who handled the message. It says nothing about whether they are honest: that is for `policy` to know.
The bytes are those that were received. What can be told without a key is told before anybody is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Final

from staffetta.dns.resolver import Answer, Lookup, RecordKind, Resolver, Unavailable
from staffetta.mailauth.arc.sets import (
    ArcSet,
    BadChain,
    MessageSignature,
    Seal,
    read_message_signature,
    read_sets,
)
from staffetta.mailauth.dkim.canonical import BodyHash, Canon, canonical_field, relaxed_field
from staffetta.mailauth.dkim.record import KeyRecord, is_dear, read_record, record_name
from staffetta.mailauth.dkim.signature import signed_form
from staffetta.mailauth.dkim.verify import is_signed
from staffetta.mailauth.results import ArcResult, Word
from staffetta.mailauth.turns import Pause, next_turn
from staffetta.message.header import Field, Header

RECORDS: Final = 4
"""How many TXT records of one selector are tried; there should be one."""

AT_ONCE: Final = 4
"""How many seals are calculated before others have their turn, if their keys are usual."""

NO_CHAIN: Final = ArcResult(Word.NONE)


class _NotKnownNow(Exception):
    """A key could not be asked for."""


class ArcVerification:
    """One message's chain. Make it when the header is complete, feed it the body, await `finish`.

    Without a chain, or with one that is broken by its form, everything costs next to nothing.
    """

    __slots__ = ("_body", "_header", "_message", "_problem", "_sets", "_skip")

    def __init__(self, header: Header) -> None:
        self._header = header
        self._sets: tuple[ArcSet, ...] = ()
        self._message: MessageSignature | None = None
        self._body: BodyHash | None = None
        self._problem = ""
        self._skip = 2
        try:
            self._sets = read_sets(header)
            if self._sets:
                self._message = self._newest(read_message_signature(self._sets[-1].message))
                self._body = BodyHash(self._message.body_canon)
        except BadChain as error:
            self._problem = str(error)

    def _newest(self, message: MessageSignature) -> MessageSignature:
        if message.limit is not None:
            raise BadChain("the newest message signature covers only a part of the body")
        if self._header.count(b"from") > message.signed.count(b"from"):
            # As with DKIM: a From put above the signed one would be shown, and the signature would still be right.
            raise BadChain("there is a From field that the newest message signature does not cover")
        return message

    @property
    def wants_body(self) -> bool:
        """False when the body makes no difference: nothing needs to be fed."""
        return self._body is not None

    def body(self, data: bytes) -> None:
        """The next octets of the body: what comes after the empty line."""
        if self._body is not None:
            self._body.feed(data)

    def after_header(self, data: bytes) -> None:
        """The next octets of what follows the header, with the empty line that ends it. To be used instead of `body`,
        not with it."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self.body(data)

    async def finish(self, resolver: Resolver, now: float, pause: Pause = next_turn) -> ArcResult:
        """The verdict; `now` is in seconds since the epoch. To be called once, when the body is over. `pause` is
        awaited before what takes long."""
        if self._message is None or self._body is None:
            return ArcResult(Word.FAIL, problem=self._problem) if self._problem else NO_CHAIN
        newest = len(self._sets)
        if not hmac.compare_digest(self._body.finish(), self._message.body_hash):
            return ArcResult(Word.FAIL, newest, problem="the body is not the one that was signed last")
        if self._message.expires_at is not None and now > self._message.expires_at:
            return ArcResult(Word.FAIL, newest, problem="the newest message signature has expired")
        keys = await _ask(resolver, [self._message, *[one.seal for one in self._sets]])
        try:
            if _is_dear(self._message, keys):
                await pause()
            self._check_message(self._message, keys)
            await self._check_seals(keys, pause)
        except BadChain as error:
            return ArcResult(Word.FAIL, newest, problem=str(error))
        except _NotKnownNow as error:
            return ArcResult(Word.TEMPERROR, newest, problem=str(error))
        return ArcResult(Word.PASS, newest, tuple([one.seal.domain for one in self._sets]))

    def _check_message(self, message: MessageSignature, keys: dict[str, Lookup]) -> None:
        digest = hashlib.sha256(self._signed_octets(message)).digest()
        if not _verifies(message, keys, digest):
            raise BadChain("the newest message signature does not verify")

    def _signed_octets(self, message: MessageSignature) -> bytes:
        """The header as it was hashed: for each name of `h=` the next field from below (RFC 6376 section 5.4.2)."""
        canon = message.header_canon
        # One pass over the header, however many names h= has.
        left: dict[bytes, list[Field]] = {name: [] for name in message.signed}
        for field in self._header.fields:
            if field.name in left and field.is_found and field.raw != message.field.raw:
                left[field.name].append(field)
        parts = [canonical_field(left[name].pop(), canon) for name in message.signed if left[name]]
        parts.append(signed_form(message.field, canon))
        return b"".join(parts)

    async def _check_seals(self, keys: dict[str, Lookup], pause: Pause) -> None:
        """Each seal covers all sets up to its own, in the order results, message signature, seal (section 5.1.1)."""
        hashed = hashlib.sha256()
        for one in self._sets:
            if one.seal.instance > AT_ONCE or _is_dear(one.seal, keys):
                await pause()  # fifty seals with four keys of 8192 bits each would make everybody wait
            hashed.update(relaxed_field(one.results))
            hashed.update(relaxed_field(one.message))
            sealed = hashed.copy()
            sealed.update(signed_form(one.seal.field, Canon.RELAXED))
            if not _verifies(one.seal, keys, sealed.digest()):
                raise BadChain(f"the seal of set {one.seal.instance} does not verify")
            hashed.update(relaxed_field(one.seal.field))


def _verifies(signer: MessageSignature | Seal, keys: dict[str, Lookup], digest: bytes) -> bool:
    """Whether any key of the signer made the signature. Raises BadChain without a key, and _NotKnownNow."""
    name = record_name(signer.selector, signer.domain)
    lookup = keys[name]
    if isinstance(lookup, Unavailable):
        raise _NotKnownNow(f"the key at {name} is not known now: {lookup.reason}")
    texts = lookup.texts if isinstance(lookup, Answer) else ()
    records = [read_record(text) for text in texts[:RECORDS]]
    usable = [one for one in records if isinstance(one, KeyRecord) and one.algorithm is signer.algorithm]
    if not usable:
        raise BadChain(f"there is no usable key at {name}")
    return any(is_signed(one.key, signer.signature, digest) for one in usable)


def _is_dear(signer: MessageSignature | Seal, keys: dict[str, Lookup]) -> bool:
    lookup = keys[record_name(signer.selector, signer.domain)]
    return isinstance(lookup, Answer) and is_dear(lookup.texts[:RECORDS])


async def _ask(resolver: Resolver, signers: list[MessageSignature | Seal]) -> dict[str, Lookup]:
    names = tuple(dict.fromkeys(record_name(one.selector, one.domain) for one in signers))
    lookups = await asyncio.gather(*[resolver.query(name, RecordKind.TXT) for name in names])
    return dict(zip(names, lookups, strict=True))
