"""A DKIM-Signature field, read without trust.

RFC 6376 section 3.5 and 6.1.1, RFC 8301 section 3.1 (no SHA-1), RFC 8463 (Ed25519), RFC 8616 (internationalised
names: `d=`, `s=` and `i=` may be written in UTF-8, and are compared and asked for as A-labels).
This module refuses to know keys, the DNS and the time.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from staffetta.mail.domain import DomainError, parse_domain
from staffetta.mailauth.dkim.canonical import Canon, canonical_field
from staffetta.mailauth.dkim.record import Algorithm
from staffetta.mailauth.dkim.tags import TagError, compact, decode_base64, parse_tags, words
from staffetta.mailauth.results import DkimResult, Word
from staffetta.message.header import Field

SHOWN_SIGNATURE: Final = 8
"""How many characters of `b=` a result shows (RFC 6008 section 4)."""

_SIGNED_VALUE = re.compile(rb"(\A|;)([ \t\r\n]*+b[ \t\r\n]*+=)[^;]*+")
_SELECTOR = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LENGTH = re.compile(r"[0-9]{1,76}")
_SECONDS = re.compile(r"[0-9]{1,12}")
_FIELD_NAMES = re.compile(r"[!-9<-~]++[ \t]*+(?::[ \t]*+[!-9<-~]++[ \t]*+)*+")
_HEXADECIMAL = re.compile(r"=([0-9A-F]{2})")


class Signature(msgspec.Struct, frozen=True, gc=False):
    """What a DKIM-Signature field says, as far as it can be believed without a key.

    `signed` are the names of `h=` in lower case. `limit` is `l=`; `signed_at` and `expires_at` are seconds since the
    epoch. `agent_domain` is the part of `i=` that counts.
    """

    field: Field
    domain: str
    selector: str
    agent: str
    agent_domain: str
    algorithm: Algorithm
    header_canon: Canon
    body_canon: Canon
    signed: tuple[bytes, ...]
    body_hash: bytes
    signature: bytes
    shown: str
    limit: int | None = None
    signed_at: int | None = None
    expires_at: int | None = None

    def result(self, word: Word, problem: str = "") -> DkimResult:
        """The verdict on this signature."""
        return DkimResult(word, self.domain, self.selector, self.agent, self.algorithm.value, self.shown, problem)


class _Bad(Exception):
    """This signature cannot be used."""

    def __init__(self, problem: str, word: Word = Word.NEUTRAL) -> None:
        self.problem = problem
        self.word = word


def read_signature(field: Field) -> Signature | DkimResult:
    """The signature in a field, or what is wrong with it.

    `neutral` is for a field that cannot be understood (RFC 8601 section 2.7.1), `permerror` for one that breaks a rule
    of signing, `policy` for one that we do not accept.
    """
    try:
        tags = parse_tags(field.raw[field.value_at :])
    except TagError as error:
        return DkimResult(Word.NEUTRAL, problem=f"the signature is malformed: {error}")
    claim = _claim(tags)
    try:
        return _read(field, tags, claim)
    except _Bad as bad:
        return DkimResult(bad.word, *claim, problem=bad.problem)
    except TagError as error:
        return DkimResult(Word.NEUTRAL, *claim, problem=f"the signature is malformed: {error}")


def signed_form(field: Field, canon: Canon) -> bytes:
    """The signature's own field as it is hashed: without the value of `b=` and without the last CRLF (section 3.7)."""
    value = _SIGNED_VALUE.sub(rb"\1\2", field.raw[field.value_at :], count=1)
    emptied = Field(field.name, field.raw[: field.value_at] + value, field.value_at)
    return canonical_field(emptied, canon).removesuffix(b"\r\n")


def _claim(tags: dict[str, str]) -> tuple[str, str, str, str, str]:
    """Domain, selector, agent, algorithm and the shown part of `b=`, as far as they can be told."""
    try:
        domain = parse_domain(tags.get("d", "")).ascii
    except DomainError:
        domain = ""
    selector = _selector(tags.get("s", "")) or ""
    return domain, selector, tags.get("i", ""), tags.get("a", ""), compact(tags.get("b", ""))[:SHOWN_SIGNATURE]


def _read(field: Field, tags: dict[str, str], claim: tuple[str, str, str, str, str]) -> Signature:
    domain, selector, _, _, shown = claim
    missing = [name for name in ("v", "a", "b", "bh", "d", "h", "s") if name not in tags]
    if missing:
        raise _Bad(f"the signature has no {missing[0]}=")
    if tags["v"] != "1":
        raise _Bad("the signature is of an unknown version")
    if tags["a"] not in set(Algorithm):
        if tags["a"] == "rsa-sha1":
            raise _Bad("rsa-sha1 proves nothing (RFC 8301)", Word.POLICY)
        raise _Bad("the signature is of an unknown algorithm")
    if "." not in domain:
        raise _Bad("d= is not a domain")
    if not selector:
        raise _Bad("s= is not a selector")
    if "dns/txt" not in words(tags.get("q", "dns/txt")):
        raise _Bad("the key is not in the DNS")
    agent, agent_domain = _agent(tags.get("i"), domain)
    header_canon, body_canon = _canons(tags.get("c", "simple/simple"))
    signed_at, expires_at = _number(tags, "t", _SECONDS), _number(tags, "x", _SECONDS)
    if signed_at is not None and expires_at is not None and expires_at <= signed_at:
        raise _Bad("x= is not after t=", Word.PERMERROR)
    return Signature(
        field,
        domain,
        selector,
        agent,
        agent_domain,
        Algorithm(tags["a"]),
        header_canon,
        body_canon,
        _signed(tags["h"]),
        decode_base64(tags["bh"]),
        decode_base64(tags["b"]),
        shown,
        _number(tags, "l", _LENGTH),
        signed_at,
        expires_at,
    )


def _selector(text: str) -> str | None:
    """The selector as A-labels in lower case; None when it is none. Underscores are in use, though no RFC allows
    them, and digits alone are a selector although they end no domain."""
    if text.isascii():
        name = text.lower()
        return name if len(name) <= 253 and _SELECTOR.fullmatch(name) else None
    try:
        return parse_domain(f"{text}.example").ascii.removesuffix(".example")
    except DomainError:
        return None


def _agent(text: str | None, domain: str) -> tuple[str, str]:
    """`i=` decoded, and its domain, which is `d=` or below it (section 6.1.1)."""
    if text is None:
        return f"@{domain}", domain
    text = compact(text)
    if "=" in _HEXADECIMAL.sub("", text):
        raise _Bad("i= is malformed")
    octets = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), text.encode())
    decoded = octets.decode("utf-8", "replace")
    _, at, host = decoded.rpartition("@")
    try:
        agent_domain = parse_domain(host).ascii
    except DomainError:
        raise _Bad("i= has no domain") from None
    if not at:
        raise _Bad("i= has no @")
    if agent_domain != domain and not agent_domain.endswith("." + domain):
        raise _Bad("i= is not within d=", Word.PERMERROR)
    return decoded, agent_domain


def _canons(text: str) -> tuple[Canon, Canon]:
    header, slash, body = text.partition("/")
    try:
        return Canon(header), Canon(body) if slash else Canon.SIMPLE
    except ValueError:
        raise _Bad("the canonicalisation is unknown") from None


def _number(tags: dict[str, str], name: str, pattern: re.Pattern[str]) -> int | None:
    text = tags.get(name)
    if text is None:
        return None
    if not pattern.fullmatch(text):
        raise _Bad(f"{name}= is not a number")
    return int(text)


def _signed(text: str) -> tuple[bytes, ...]:
    if not _FIELD_NAMES.fullmatch(text):
        raise _Bad("h= is malformed")
    signed = tuple(compact(text).encode().lower().split(b":"))
    if b"from" not in signed:
        raise _Bad("From is not signed", Word.PERMERROR)
    return signed


__all__ = ["SHOWN_SIGNATURE", "Signature", "read_signature", "signed_form"]
