"""What follows from everything that was found out about a message: taken, put among the junk, put off, or refused.

RFC 9989 sections 5.3.6, 5.4 and 7.2 (DMARC), RFC 7208 section 8 and RFC 7372 (SPF, codes), RFC 6376 sections 6.1 and
6.3 (DKIM), RFC 8617 section 5 (ARC), RFC 5782 (lists). The order is fixed: first what refuses for good, then what puts
off, then what is junk; inside each lists, the names of the client, DMARC, SPF, DKIM.

What `enforce` means for each:

- `dmarc`: `reject` is refused, `quarantine` is junk, `none` is nothing. A From that cannot be read in one way only is
  junk when no policy asks for more. When the DNS hides the policy the message is put off (451): section 4.10.1 leaves
  it to us, and whoever can disturb the DNS would otherwise switch DMARC off. It is not put off when the policy is known
  to be `none`, or when the From domain itself was proven, so that no policy could object.
- `spf`: `fail` is refused, a failing DNS puts off. `softfail`, `neutral` and broken records do nothing.
- `dkim`: a message without any signature that verifies is refused. A broken signature is as none (RFC 6376 section
  6.1), so this is only for doors where everybody signs; notices from the null path are let through unsigned.
- `reverse`: an address without a name that leads back to it is refused, a failing DNS puts off.
- `helo`: a name that is malformed, has one label, has no address or is ours is refused. One that has other addresses is
  not: many networks have one door to the outside.
- `arc`: nothing of its own. A chain proves who handled a message, not that they are honest.

A known forwarder that is proven is not refused, put off or put among the junk for DMARC, SPF or DKIM; the results are
recorded. Proven is: SPF pass of MAIL FROM or HELO, a signature over the whole body, or the newest seal of a valid ARC
chain: earlier seals say nothing about what the last one let through. An unclear From is nobody's to vouch for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from staffetta.dns.blocklist import Listing
from staffetta.dns.hello import HelloWord
from staffetta.mail.domain import Domain
from staffetta.mail.reply import Reply, reply
from staffetta.mailauth.ar import EXPLANATION_CHARACTERS, check_words
from staffetta.mailauth.results import Checks, DkimResult, DmarcPolicy, SpfResult, SpfWord, Word
from staffetta.policy.verdict import Refusal


class Mode(StrEnum):
    """`[checks] spf, dkim, dmarc, arc, reverse, helo`."""

    ENFORCE = "enforce"
    RECORD = "record"
    OFF = "off"


class AuthenticationSettings(msgspec.Struct, frozen=True):
    """`[checks]`. What a list does stands in each `Listing`. `forwarders` stand for their subdomains too."""

    spf: Mode = Mode.RECORD
    dkim: Mode = Mode.RECORD
    dmarc: Mode = Mode.ENFORCE
    arc: Mode = Mode.RECORD
    forwarders: frozenset[Domain] = frozenset()
    reverse: Mode = Mode.RECORD
    helo: Mode = Mode.RECORD


class AuthenticationFacts(msgspec.Struct, frozen=True):
    """What was found out. `null_path`: the message comes from `<>`."""

    checks: Checks
    null_path: bool = False


class Disposition(StrEnum):
    """What happens to the message."""

    ACCEPT = "accept"
    JUNK = "junk"
    DEFER = "defer"
    REFUSE = "refuse"


class Judgement(msgspec.Struct, frozen=True):
    """The verdict. `words` are the results, for the `checks` of the event; `reply` is there for `defer` and `refuse`.

    `override` is the reason of RFC 9990 why a DMARC policy was not followed, with `override_reason` for people.
    """

    disposition: Disposition
    rule: str
    reason: str
    words: dict[str, str]
    reply: Reply | None = None
    override: str = ""
    override_reason: str = ""

    @property
    def refusal(self) -> Refusal | None:
        """The verdict as a `Refusal`, when the message is refused or put off."""
        return Refusal(self.reply, self.rule, self.reason) if self.reply is not None else None


class _Finding(msgspec.Struct, frozen=True):
    """What one rule says. Without a reply it is junk."""

    rule: str
    reason: str
    reply: Reply | None = None

    @property
    def disposition(self) -> Disposition:
        """Which of the three."""
        if self.reply is None:
            return Disposition.JUNK
        return Disposition.REFUSE if self.reply.is_permanent else Disposition.DEFER


_SEVERITY: Final = (Disposition.REFUSE, Disposition.DEFER, Disposition.JUNK)

ACCEPTED_RULE: Final = "checks"
FORWARDER_RULE: Final = "known_forwarder"

_SPF_FAIL: Final = "SPF validation failed: your host may not send for that domain"
_SPF_LATER: Final = reply(451, "4.7.24", "SPF could not be checked now, please try again later")
_UNSIGNED: Final = reply(550, "5.7.20", "no passing DKIM signature found")
_DKIM_LATER: Final = reply(451, "4.7.20", "DKIM could not be checked now, please try again later")
_NO_NAME: Final = reply(550, "5.7.25", "the reverse name of your address does not lead back to it")
_NAME_LATER: Final = reply(451, "4.7.25", "the reverse name of your address cannot be found out now, try again later")
_BAD_HELLO: Final = reply(550, "5.7.1", "greet with your host's own full name, one that the DNS knows")
_DMARC_LATER: Final = reply(451, "4.7.0", "DMARC could not be checked now, please try again later")

_BAD_HELLOS: Final = frozenset({HelloWord.MALFORMED, HelloWord.UNQUALIFIED, HelloWord.UNKNOWN, HelloWord.OURS})

_HARMLESS: Final = frozenset({"not_utf8"})
"""Problems of From that leave no doubt about the address: old programs write names in old character sets."""


def judge_authentication(facts: AuthenticationFacts, settings: AuthenticationSettings) -> Judgement:
    """What happens to a message at an `mx` door. The first rule that applies decides."""
    checks = facts.checks
    words = check_words(checks)
    forwarder = known_forwarder(checks, settings)
    override, override_reason = _override(checks, settings, forwarder)
    unproven = _unproven(facts, settings)
    findings = _listed(checks.listings) + _about_client(checks, settings) + ([] if forwarder else unproven)
    if findings:
        chosen = min(findings, key=lambda finding: _SEVERITY.index(finding.disposition))
        disposition, rule, reason, said = chosen.disposition, chosen.rule, chosen.reason, chosen.reply
    else:
        disposition, rule, reason, said = Disposition.ACCEPT, ACCEPTED_RULE, "", None
        if unproven:
            rule, reason = FORWARDER_RULE, f"{forwarder}; otherwise {unproven[0].rule}: {unproven[0].reason}"
    return Judgement(disposition, rule, reason, words, said, override, override_reason)


def _listed(listings: tuple[Listing, ...]) -> list[_Finding]:
    found = []
    for one in listings:
        if one.listed and one.action in {"reject", "junk"}:
            reason = f"{one.subject} is listed by {one.zone} ({', '.join(one.codes)})"
            said = reply(554, "5.7.1", f"rejected: {one.subject} is listed by {one.zone}")
            found.append(_Finding("blocklist", reason, said if one.action == "reject" else None))
    return found


def _about_client(checks: Checks, settings: AuthenticationSettings) -> list[_Finding]:
    """What the names of the client's machine have against it, whatever the message says."""
    found = []
    reverse, hello = checks.reverse, checks.hello
    if settings.reverse is Mode.ENFORCE and reverse is not None and not reverse.confirmed:
        if reverse.temporary:
            found.append(_Finding("reverse_unknown", "the client's reverse name could not be asked for", _NAME_LATER))
        else:
            why = f"its name {reverse.name} does not lead back to it" if reverse.name else "it has no name"
            found.append(_Finding("reverse_name", f"the client's address has no reverse name: {why}", _NO_NAME))
    if settings.helo is Mode.ENFORCE and hello in _BAD_HELLOS:
        found.append(_Finding("helo_name", f"the name that the client greeted with is {hello}", _BAD_HELLO))
    return found


def _unproven(facts: AuthenticationFacts, settings: AuthenticationSettings) -> list[_Finding]:
    """What DMARC, SPF and DKIM have against the message, in the order of the rules."""
    checks = facts.checks
    found = []
    if settings.dmarc is Mode.ENFORCE:
        found.append(_by_dmarc(checks))
    if settings.spf is Mode.ENFORCE:
        found.append(_by_spf(checks.spf))
    if settings.dkim is Mode.ENFORCE and not facts.null_path:
        found.append(_by_dkim(checks.dkim))
    return [finding for finding in found if finding is not None]


def _by_dmarc(checks: Checks) -> _Finding | None:
    result = checks.dmarc
    if result is None:
        return None
    unclear = f"From is unclear ({result.author_problem})"
    if result.word is Word.FAIL and result.policy is not DmarcPolicy.NONE:
        reason = f"DMARC policy of {result.policy_domain} is {result.policy}, and nothing proves {result.domain}"
        if result.author_problem:
            reason += f"; {unclear}"
        if result.policy is DmarcPolicy.QUARANTINE:
            return _Finding("dmarc_quarantine", reason)
        said = reply(550, "5.7.1", f"rejected because of the DMARC policy of {result.policy_domain}")
        return _Finding("dmarc_reject", reason, said)
    if result.word is Word.TEMPERROR:
        known_none = bool(result.policy_domain) and result.policy is DmarcPolicy.NONE and not result.author_problem
        if known_none or result.aligned_by:
            return None
        return _Finding("dmarc_unknown", f"DMARC of {result.domain}: {result.problem}", _DMARC_LATER)
    if result.author_problem and result.author_problem not in _HARMLESS:
        return _Finding("author_unclear", unclear)
    return None


def _by_spf(result: SpfResult | None) -> _Finding | None:
    if result is None:
        return None
    if result.word is SpfWord.FAIL:
        reason = f"SPF of {result.domain} says fail ({result.mechanism})"
        if not result.explanation:
            return _Finding("spf_fail", reason, reply(550, "5.7.23", _SPF_FAIL))
        # RFC 7208 section 6.2: it has to be clear that these words are not ours.
        words = result.explanation[:EXPLANATION_CHARACTERS]
        said = reply(550, "5.7.23", _SPF_FAIL, f"the domain {result.domain} explains:", words)
        return _Finding("spf_fail", f"{reason}; its explanation: {words}", said)
    if result.word is SpfWord.TEMPERROR:
        return _Finding("spf_unknown", f"SPF of {result.domain}: {result.problem}", _SPF_LATER)
    return None


def _by_dkim(results: tuple[DkimResult, ...] | None) -> _Finding | None:
    if results is None or any(one.word is Word.PASS and not one.body_limited for one in results):
        return None
    for one in results:
        if one.word is Word.TEMPERROR:
            return _Finding("dkim_unknown", f"signature of {one.domain}: {one.problem}", _DKIM_LATER)
    why = "; ".join([f"{one.domain}: {one.problem or one.word.value}" for one in results]) or "no signature"
    return _Finding("dkim_none", f"no signature verifies: {why}", _UNSIGNED)


def known_forwarder(checks: Checks, settings: AuthenticationSettings) -> str:
    """Which forwarder of `settings` handed us this message, and what proves it; "" when none is proven."""
    if not settings.forwarders or (checks.dmarc is not None and checks.dmarc.author_problem):
        return ""
    proofs: list[tuple[str, str]] = [
        (one.domain, "SPF") for one in (checks.spf, checks.helo) if one is not None and one.word is SpfWord.PASS
    ]
    proofs += [(one.domain, "DKIM") for one in checks.dkim or () if one.word is Word.PASS and not one.body_limited]
    arc = checks.arc
    if arc is not None and arc.word is Word.PASS and arc.sealers and settings.arc is not Mode.OFF:
        proofs.append((arc.sealers[-1], "ARC"))
    for domain, method in proofs:
        for forwarder in sorted(settings.forwarders):
            if domain == forwarder.ascii or domain.endswith("." + forwarder.ascii):
                return f"known forwarder {forwarder}, proven by {method}"
    return ""


def _override(checks: Checks, settings: AuthenticationSettings, forwarder: str) -> tuple[str, str]:
    """RFC 9990's reason for not following the domain's policy: nothing when it was followed, or asks for nothing."""
    result = checks.dmarc
    if result is None or result.word is not Word.FAIL:
        return "", ""
    if result.policy is not DmarcPolicy.NONE:
        if settings.dmarc is not Mode.ENFORCE:
            return "local_policy", "DMARC is recorded only"
        if forwarder:
            return "trusted_forwarder", forwarder
    return ("policy_test_mode", "t=y") if result.testing else ("", "")
