"""The keys a domain publishes, as far as their selectors are known: nobody can list the selectors of a stranger.

RFC 6376 section 3.6.1, RFC 8301 (lengths), RFC 8463 (Ed25519 beside RSA, never alone).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from staffetta.mailauth.dkim.record import LEAST_BITS, Algorithm, KeyFault, KeyRecord, read_record
from staffetta.policy.posture.facts import DomainFacts, Origin, SelectorFacts
from staffetta.policy.posture.findings import Finding, Level, quoted, shown, txt_line
from staffetta.policy.posture.spf import sends_nothing

GOOD_BITS: Final = 2048
"""RFC 8301 section 3.2 asks for as many of new RSA keys."""


def good_keys(facts: DomainFacts) -> tuple[KeyRecord, ...]:
    """The published keys that receivers accept."""
    return tuple([key for key in map(_key, facts.selectors) if isinstance(key, KeyRecord)])


def weak_selectors(facts: DomainFacts) -> tuple[str, ...]:
    """Selectors of RSA keys so short that somebody else may have calculated the private one."""
    found = [(one.selector, _key(one)) for one in facts.selectors]
    return tuple([selector for selector, key in found if isinstance(key, KeyFault) and 0 < key.bits < LEAST_BITS])


def own_missing(facts: DomainFacts) -> tuple[str, ...]:
    """Selectors that have to be there, ours that sign and those that were named, and hold no key that counts."""
    due = [one for one in facts.selectors if (one.signs or one.origin is Origin.NAMED) and not one.found.failure]
    return tuple([one.selector for one in due if not _holds(one)])


def judge_dkim(facts: DomainFacts) -> Iterator[Finding]:
    """D300 to D313."""
    if facts.keys_problem:
        text = f"our own keys could not be read: {shown(facts.keys_problem)}"
        advice = "Run this as the owner of the data directory, or as root."
        yield Finding("D312", Level.NOTE, facts.domain, "keys", advice, text)
    told: set[tuple[str, tuple[bytes, ...]]] = set()
    for one in facts.selectors:
        for finding in _selector(facts, one):
            # A wildcard answers for every selector with the same record: once is enough.
            mark = (finding.code, one.found.texts)
            if one.origin is not Origin.COMMON or mark not in told:
                told.add(mark)
                yield finding
    known = [one for one in facts.selectors if one.found.texts and _is_key(one)]
    keys = good_keys(facts)
    if keys:
        good = [one for one in facts.selectors if isinstance(_key(one), KeyRecord)]
        text = "keys that receivers accept: " + ", ".join(f"{shown(one.selector)} ({_kind(one)})" for one in good)
        yield Finding(
            "D300", Level.NOTE, f"*._domainkey.{facts.domain} TXT", quoted(good[0].found.texts), "Nothing.", text
        )
    if not known and not sends_nothing(facts) and not own_missing(facts):
        text = "no DKIM key was found under the selectors that were asked for; whether it signs is not known"
        asked = ", ".join(one.selector for one in facts.selectors) or "none"
        advice = "Name the selector (s= in DKIM-Signature of a mail of yours) with --selector."
        yield Finding("D301", Level.NOTE, f"*._domainkey.{facts.domain} TXT", f"asked for: {asked}", advice, text)
    elif keys and all(key.algorithm is Algorithm.ED25519_SHA256 for key in keys):
        text = "only Ed25519 keys were found: many receivers check RSA alone (RFC 8463 section 3)"
        level = Level.WARNING if facts.local else Level.NOTE
        advice = "Sign with an RSA key beside it."
        yield Finding("D309", level, f"*._domainkey.{facts.domain} TXT", _names(known), advice, text)


def _selector(facts: DomainFacts, one: SelectorFacts) -> Iterator[Finding]:
    where, texts = f"{one.found.name} TXT", one.found.texts
    if one.found.failure:
        if one.origin is not Origin.COMMON:
            text = f"the key of selector {shown(one.selector)} is not known: {shown(one.found.failure)}"
            yield Finding("D313", Level.WARNING, where, "no answer", "Ask again later.", text)
        return
    if one.expected:
        yield from _ours(one, where)
        return
    if not texts or not _is_key(one):
        if one.origin is Origin.NAMED:
            text = f"there is no DKIM key under selector {shown(one.selector)}"
            advice = "Publish the record that your signing software shows."
            yield Finding("D308", Level.FAULT, where, quoted(texts) or "none", advice, text)
        return
    yield from _strength(facts, one, where)


def _ours(one: SelectorFacts, where: str) -> Iterator[Finding]:
    line = txt_line(one.found.name, one.expected)
    evidence = quoted(one.found.texts) or "none"
    if _holds(one):
        key = read_record(one.found.texts[0])
        if isinstance(key, KeyRecord) and key.testing:
            text = f"selector {one.selector} says t=y: receivers may treat its mail as not signed"
            yield Finding("D306", Level.WARNING, where, evidence, f"Publish without t=y: {line}", text, line)
        return
    what = "is not published" if not one.found.texts else "does not hold our key"
    advice = f"Publish: {line}"
    if one.signs:
        text = f"the record of selector {one.selector}, which signs, {what}: receivers cannot check the mail"
        yield Finding("D302", Level.FAULT, where, evidence, advice, text, line)
    else:
        text = f"the record of selector {one.selector} {what}; the key does not sign yet, or no longer"
        yield Finding("D311", Level.NOTE, where, evidence, advice, text, line)


def _strength(facts: DomainFacts, one: SelectorFacts, where: str) -> Iterator[Finding]:
    texts, evidence = one.found.texts, quoted(one.found.texts)
    if len(texts) > 1:
        text = f"there are {len(texts)} records, and receivers may take any of them"
        yield Finding("D310", Level.WARNING, where, evidence, "Leave one record.", text)
        return
    key = read_record(texts[0])
    new = f"Make a key of {GOOD_BITS} bits under a new selector" + (
        f": staffetta dkim rotate {facts.domain}" if facts.local else ", and take this one out."
    )
    if isinstance(key, KeyFault):
        if key.problem == "the key is revoked":
            text = f"selector {shown(one.selector)} is revoked (p= is empty)"
            yield Finding("D305", Level.NOTE, where, evidence, "Nothing, when that is meant.", text)
        elif 0 < key.bits < LEAST_BITS:
            text = f"an RSA key of {key.bits} bits: receivers ignore it, and others can calculate its private key"
            yield Finding("D303", Level.FAULT, where, evidence, new, text)
        else:
            text = f"the key cannot be used: {shown(key.problem)}"
            yield Finding("D307", Level.FAULT, where, evidence, "Publish the record that your software shows.", text)
        return
    if key.algorithm is Algorithm.RSA_SHA256 and key.bits < GOOD_BITS:
        text = f"an RSA key of {key.bits} bits, where {GOOD_BITS} are the rule now (RFC 8301)"
        yield Finding("D304", Level.WARNING, where, evidence, new, text)
    if key.testing:
        text = f"selector {shown(one.selector)} says t=y: receivers may treat its mail as not signed"
        yield Finding("D306", Level.WARNING, where, evidence, "Take t=y out when you are done with testing.", text)


def _key(one: SelectorFacts) -> KeyRecord | KeyFault | None:
    if len(one.found.texts) != 1 or not _is_key(one):
        return None
    return read_record(one.found.texts[0])


def _holds(one: SelectorFacts) -> bool:
    """Whether the right key stands there: ours, or any where none is expected."""
    key = _key(one)
    if not isinstance(key, KeyRecord):
        return False
    ours = read_record(one.expected.encode()) if one.expected else key
    return isinstance(ours, KeyRecord) and ours.key == key.key


def _is_key(one: SelectorFacts) -> bool:
    """Whether what stands there is meant as a key: a wildcard TXT of the domain answers for every name below."""
    return any(_mentions_key(text) for text in one.found.texts)


def _mentions_key(text: bytes) -> bool:
    tags = [tag.partition(b"=")[0].strip(b" \t\r\n") for tag in text[:4096].split(b";")]
    return b"p" in tags


def _kind(one: SelectorFacts) -> str:
    key = _key(one)
    if not isinstance(key, KeyRecord):
        return ""
    return f"RSA, {key.bits} bits" if key.algorithm is Algorithm.RSA_SHA256 else "Ed25519"


def _names(known: list[SelectorFacts]) -> str:
    return ", ".join(shown(one.selector) for one in known)


__all__ = ["GOOD_BITS", "good_keys", "judge_dkim", "own_missing", "weak_selectors"]
