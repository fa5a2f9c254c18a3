"""The results in words: the methods of our Authentication-Results field, and one word each for the event.

RFC 8601 section 2.7 (methods, results, properties), RFC 6008 (`header.b`), RFC 9989 section 9.1 (`policy.dmarc`), RFC
8617 section 10 (`arc`), RFC 8601 section 2.7.3 (`iprev`). Values are as they came; the field's writer escapes them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mailauth.results import ArcResult, Checks, DkimResult, DmarcResult, SpfResult, Word
from staffetta.message.auth_results import MethodResult, Property

SIGNATURES: Final = 8
"""Most signatures that are shown."""

EXPLANATION_CHARACTERS: Final = 300
"""How much of a domain's own explanation of SPF is shown; a stranger wrote it."""


class Peer(msgspec.Struct, frozen=True, gc=False):
    """Who brings the message: the address `client`, what it said at `helo`, and MAIL FROM, "" for the null path."""

    client: str
    helo: str
    mail_from: str


def method_results(checks: Checks, peer: Peer) -> tuple[MethodResult, ...]:
    """All methods that were tried, in the order in which people read them: DMARC, SPF, DKIM, ARC, reverse name."""
    results: list[MethodResult] = []
    if checks.dmarc is not None:
        results.append(_dmarc(checks.dmarc))
    if checks.spf is not None:
        # For the null path the identity is postmaster@HELO (RFC 7208 section 2.4), and the property says so.
        name, value = ("mailfrom", peer.mail_from) if peer.mail_from else ("helo", peer.helo)
        results.append(_spf(checks.spf, name, value))
    if checks.helo is not None and not (checks.spf is not None and not peer.mail_from):
        results.append(_spf(checks.helo, "helo", peer.helo))
    if checks.dkim is not None:
        results += [_dkim(one) for one in checks.dkim[:SIGNATURES]] or [MethodResult("dkim", "none")]
    if checks.arc is not None:
        results.append(_arc(checks.arc, peer))
    if checks.reverse is not None:
        results.append(_reverse(checks, peer))
    return tuple(results)


def _dmarc(result: DmarcResult) -> MethodResult:
    properties = _properties(("header", "from", result.domain))
    if result.policy_domain:
        properties += (Property("policy", "dmarc", result.policy.value),)
    return MethodResult("dmarc", result.word.value, result.problem, properties)


def _spf(result: SpfResult, name: str, value: str) -> MethodResult:
    return MethodResult("spf", result.word.value, result.problem, _properties(("smtp", name, value)))


def _dkim(result: DkimResult) -> MethodResult:
    notes = [result.problem, "key in test mode" if result.testing else ""]
    notes.append("the signature does not cover the whole body" if result.body_limited else "")
    properties = _properties(
        ("header", "d", result.domain),
        ("header", "s", result.selector),
        ("header", "i", result.agent),
        ("header", "a", result.algorithm),
        ("header", "b", result.signature),
    )
    return MethodResult("dkim", result.word.value, "; ".join(filter(None, notes)), properties)


def _arc(result: ArcResult, peer: Peer) -> MethodResult:
    reason = result.problem
    if result.word is Word.PASS:
        reason = f"i={result.instance}, sealed by {result.sealers[-1]}"
    properties = _properties(("smtp", "remote-ip", peer.client)) if result.word is not Word.NONE else ()
    return MethodResult("arc", result.word.value, reason, properties)


def _reverse(checks: Checks, peer: Peer) -> MethodResult:
    word = reverse_word(checks)
    reason = checks.reverse.name if checks.reverse is not None and word is Word.PASS else ""
    return MethodResult("iprev", word.value, reason, _properties(("policy", "iprev", peer.client)))


def _properties(*parts: tuple[str, str, str]) -> tuple[Property, ...]:
    return tuple([Property(*part) for part in parts if part[2]])


def remarks(checks: Checks) -> tuple[str, ...]:
    """What was found out and has no method in RFC 8601, for the comment that ends the field: a method of our own could
    make readers ignore the whole field (section 2.7.6)."""
    said: list[str] = []
    if checks.hello is not None:
        said.append(f"HELO name {checks.hello.value}")
    hits = [one for one in checks.listings if one.listed]
    said += [f"{one.subject} listed by {one.zone}: {', '.join(one.codes)}" for one in hits]
    silent = dict.fromkeys(one.zone for one in checks.listings if one.error)
    listing = {one.zone for one in hits}
    clean = dict.fromkeys(one.zone for one in checks.listings if one.zone not in listing and one.zone not in silent)
    if clean:
        said.append(f"not listed by {', '.join(clean)}")
    if silent:
        said.append(f"no answer that counts from {', '.join(silent)}")
    return tuple(said)


def check_words(checks: Checks) -> dict[str, str]:
    """One word for each check that was made: the `checks` of the `accept` event. `blocklist` names the zones that
    list something, `blocklist_silent` those whose answer does not count."""
    words: dict[str, str] = {}
    if checks.helo is not None:
        words["helo"] = checks.helo.word.value
    if checks.spf is not None:
        words["spf"] = checks.spf.word.value
        if checks.spf.explanation:
            words["spf_explanation"] = checks.spf.explanation[:EXPLANATION_CHARACTERS]
    if checks.dkim is not None:
        words["dkim"] = best_signature(checks.dkim).value
    if checks.dmarc is not None:
        words["dmarc"] = checks.dmarc.word.value
        if checks.dmarc.policy_domain:
            words["dmarc_policy"] = checks.dmarc.policy.value
    if checks.arc is not None:
        words["arc"] = checks.arc.word.value
    if checks.reverse is not None:
        words["iprev"] = reverse_word(checks).value
    if checks.hello is not None:
        words["helo_name"] = checks.hello.value
    if checks.listings:
        listed = [one.zone for one in checks.listings if one.listed]
        words["blocklist"] = ",".join(dict.fromkeys(listed)) or "none"
        silent = dict.fromkeys(one.zone for one in checks.listings if one.error)
        if silent:
            words["blocklist_silent"] = ",".join(silent)
    return words


_BEST_FIRST: Final = (Word.PASS, Word.TEMPERROR, Word.FAIL, Word.POLICY, Word.NEUTRAL, Word.PERMERROR)


def best_signature(results: tuple[DkimResult, ...]) -> Word:
    """The best result of several signatures; one of them that verifies is what counts."""
    found = {one.word for one in results}
    return next((word for word in _BEST_FIRST if word in found), Word.NONE)


def reverse_word(checks: Checks) -> Word:
    """The word of `iprev`: `permerror` when there is no name, `fail` when the name does not lead back."""
    reverse = checks.reverse
    if reverse is None:
        return Word.NONE
    if reverse.confirmed:
        return Word.PASS
    if reverse.temporary:
        return Word.TEMPERROR
    return Word.FAIL if reverse.name else Word.PERMERROR
