"""The ARC sets of a header, read without trust: three fields for each hop, numbered without a gap.

RFC 8617 sections 4.1 (fields), 4.2 (sets) and 5.2 steps 1 to 3 (form). Whatever is wrong with one set is wrong with the
chain. This module refuses to know keys, the DNS and the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from staffetta.mail.domain import DomainError, parse_domain
from staffetta.mailauth.dkim.canonical import Canon
from staffetta.mailauth.dkim.record import Algorithm
from staffetta.mailauth.dkim.tags import TagError, compact, decode_base64, parse_tags
from staffetta.message.header import Field, Header

SETS: Final = 50
"""Most sets of one message, RFC 8617 section 4.2.1."""

RESULTS_NAME: Final = b"arc-authentication-results"
MESSAGE_NAME: Final = b"arc-message-signature"
SEAL_NAME: Final = b"arc-seal"
NAMES: Final = (RESULTS_NAME, MESSAGE_NAME, SEAL_NAME)

_INSTANCE = re.compile(r"[0-9]{1,2}")
_RESULTS = re.compile(rb"[ \t\r\n]*+i[ \t\r\n]*+=[ \t\r\n]*+([0-9]{1,2})[ \t\r\n]*+;")
_SELECTOR = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_SECONDS = re.compile(r"[0-9]{1,12}")
_FIELD_NAMES = re.compile(r"[!-9<-~]++[ \t]*+(?::[ \t]*+[!-9<-~]++[ \t]*+)*+")


class BadChain(Exception):
    """The chain is broken; the message says why, without echoing it."""


class Seal(msgspec.Struct, frozen=True, gc=False):
    """An ARC-Seal: it covers its own set and all sets before. `validation` is `cv=`."""

    field: Field
    instance: int
    domain: str
    selector: str
    algorithm: Algorithm
    signature: bytes
    validation: str


class MessageSignature(msgspec.Struct, frozen=True, gc=False):
    """An ARC-Message-Signature: a DKIM signature with `i=` for the instance, and without a version."""

    field: Field
    domain: str
    selector: str
    algorithm: Algorithm
    signature: bytes
    body_hash: bytes
    header_canon: Canon
    body_canon: Canon
    signed: tuple[bytes, ...]
    limit: int | None
    expires_at: int | None


class ArcSet(msgspec.Struct, frozen=True, gc=False):
    """One hop. The message signature is read only where it is needed: in the newest set."""

    results: Field
    message: Field
    seal: Seal


def read_sets(header: Header) -> tuple[ArcSet, ...]:
    """The sets, oldest first; empty when the header has none. Raises BadChain."""
    if not any(header.has(name) for name in NAMES):
        return ()
    results = _by_instance(header.all(RESULTS_NAME), _results_instance)
    messages = _by_instance(header.all(MESSAGE_NAME), _tagged_instance)
    seals = _by_instance(header.all(SEAL_NAME), _tagged_instance)
    newest = max([*results, *messages, *seals])
    sets: list[ArcSet] = []
    for instance in range(1, newest + 1):
        if not (instance in results and instance in messages and instance in seals):
            raise BadChain(f"set {instance} is not complete")
        seal = _read_seal(seals[instance], instance)
        sets.append(ArcSet(results[instance], messages[instance], seal))
    _check_validations(sets)
    return tuple(sets)


def read_message_signature(field: Field) -> MessageSignature:
    """The message signature of a set. Raises BadChain."""
    tags = _tags(field)
    domain, selector, algorithm, signature = _signer(tags, "message signature")
    if "h" not in tags or "bh" not in tags:
        raise BadChain("the message signature has no h= or no bh=")
    if not _FIELD_NAMES.fullmatch(tags["h"]):
        raise BadChain("h= of the message signature is malformed")
    signed = tuple(compact(tags["h"]).encode().lower().split(b":"))
    if b"from" not in signed:
        raise BadChain("the message signature does not cover From")
    if SEAL_NAME in signed:
        raise BadChain("the message signature covers a seal")
    _number(tags, "t")
    # As in DKIM; some programs take relaxed/relaxed where c= is missing, which RFC 8617 section 4.1.2 does not say.
    header_canon, slash, body_canon = tags.get("c", "simple/simple").partition("/")
    try:
        canons = Canon(header_canon), Canon(body_canon) if slash else Canon.SIMPLE
    except ValueError:
        raise BadChain("the message signature has an unknown canonicalisation") from None
    return MessageSignature(
        field,
        domain,
        selector,
        algorithm,
        signature,
        _octets(tags["bh"]),
        *canons,
        signed,
        _number(tags, "l"),
        _number(tags, "x"),
    )


def _by_instance(fields: list[Field], instance_of: Callable[[Field], int]) -> dict[int, Field]:
    if len(fields) > SETS:
        raise BadChain(f"more than {SETS} sets")
    found: dict[int, Field] = {}
    for field in fields:
        instance = instance_of(field)
        if not 1 <= instance <= SETS:
            raise BadChain(f"an instance that is not between 1 and {SETS}")
        if instance in found:
            raise BadChain(f"set {instance} has a field twice")
        found[instance] = field
    return found


def _results_instance(field: Field) -> int:
    match = _RESULTS.match(field.raw, field.value_at)
    if match is None:
        raise BadChain("ARC-Authentication-Results without an instance")
    return int(match[1])


def _tagged_instance(field: Field) -> int:
    text = _tags(field).get("i", "")
    if not (text.isascii() and _INSTANCE.fullmatch(text)):
        raise BadChain("a field without an instance")
    return int(text)


def _read_seal(field: Field, instance: int) -> Seal:
    tags = _tags(field)
    for name in ("h", "bh"):
        if name in tags:
            raise BadChain(f"the seal of set {instance} has {name}=, which is forbidden")
    domain, selector, algorithm, signature = _signer(tags, f"seal of set {instance}")
    _number(tags, "t")
    return Seal(field, instance, domain, selector, algorithm, signature, tags.get("cv", ""))


def _check_validations(sets: Iterable[ArcSet]) -> None:
    """RFC 8617 section 5.2, steps 2 and 3: each sealer found the chain valid, and the first found none."""
    for one in sets:
        validation, instance = one.seal.validation, one.seal.instance
        if validation == "fail":
            raise BadChain(f"the sealer of set {instance} found the chain broken")
        if validation != ("none" if instance == 1 else "pass"):
            raise BadChain(f"the seal of set {instance} has a wrong cv=")


def _tags(field: Field) -> dict[str, str]:
    try:
        return parse_tags(field.raw[field.value_at :])
    except TagError as error:
        raise BadChain(f"a field is malformed: {error}") from None


def _signer(tags: dict[str, str], what: str) -> tuple[str, str, Algorithm, bytes]:
    try:
        algorithm = Algorithm(tags.get("a", ""))
    except ValueError:
        raise BadChain(f"the {what} is of an unknown algorithm") from None
    try:
        domain = parse_domain(tags.get("d", "")).ascii
    except DomainError:
        raise BadChain(f"the {what} has no domain") from None
    selector = tags.get("s", "")
    if not selector.isascii() or not _SELECTOR.fullmatch(selector.lower()):
        raise BadChain(f"the {what} has no selector")
    signature = _octets(tags.get("b", ""))
    if not signature:
        raise BadChain(f"the {what} has no signature")
    return domain, selector.lower(), algorithm, signature


def _octets(text: str) -> bytes:
    try:
        return decode_base64(text)
    except TagError:
        raise BadChain("a field has a value that is not base64") from None


def _number(tags: dict[str, str], name: str) -> int | None:
    text = tags.get(name)
    if text is None:
        return None
    if not text.isascii() or not _SECONDS.fullmatch(text):
        raise BadChain(f"a field has a {name}= that is not a number")
    return int(text)
