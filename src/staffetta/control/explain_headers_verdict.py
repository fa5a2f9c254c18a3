"""The one sentence that closes `explain headers`: who handed it over, whom it claims to be from, proven or not, why.

Pure. Proven is only that the domain in From is responsible for the message (RFC 9989 section 4.4); who there wrote it,
only that domain knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from staffetta.control.explain_headers_author import Finding
from staffetta.control.explain_headers_checks import Asked, Envelope, signer
from staffetta.control.explain_headers_trust import Boundary
from staffetta.mail.domain import Domain
from staffetta.mailauth.results import DmarcPolicy, SpfWord, Word
from staffetta.message.authorship import HeaderIdentity


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """`handed_by` is the address that brought it, "" when it is not known; `claims` the address in From; `by` the
    methods that prove it. `suspicious`: there is a fault among the findings, whatever is proven. `undecided`: the DNS
    did not answer, so that it may be proven at another time."""

    handed_by: str
    claims: str
    proven: bool
    by: tuple[str, ...]
    suspicious: bool
    undecided: bool
    sentence: str


class Case(msgspec.Struct, frozen=True):
    """What a verdict is made of. `asked_dns` False: nobody was to be asked."""

    boundary: Boundary
    identity: HeaderIdentity
    envelope: Envelope
    asked: Asked
    findings: tuple[Finding, ...]
    handed_at: float | None
    asked_dns: bool


def conclude(case: Case) -> Verdict:
    """The verdict and its sentence."""
    asked = case.asked
    proven = bool(asked.proofs)
    claims = ", ".join(map(str, case.identity.from_addresses[:3]))
    return Verdict(
        case.boundary.address,
        claims,
        proven,
        asked.proofs,
        any(one.level == "fault" for one in case.findings),
        not proven and asked.failed and case.asked_dns,
        _sentence(case, claims),
    )


def _sentence(case: Case, claims: str) -> str:
    said = f"{_handed(case)}; it claims to be from {claims or 'nobody'}: "
    if case.asked.proofs:
        said += f"proven by {_proof(case)}"
    else:
        reasons = "; ".join(_reasons(case)) or "nothing vouches for it"
        said += f"not proven, because {reasons}"
    told = "unclear_from"  # which is the reason already
    faults = [one.text for one in case.findings if one.level == "fault" and one.code != told]
    if faults:
        said += f". Beware: {faults[0]}"
        said += f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return said + "."


def _handed(case: Case) -> str:
    boundary = case.boundary
    if not boundary.index:
        return "Nothing tells who handed it over"
    when = ""
    if case.handed_at is not None:
        when = f" on {datetime.fromtimestamp(case.handed_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    where = boundary.by or "a host without a name"
    if boundary.local:
        return f"Handed over on {where} itself{when}"
    name = boundary.reverse or (f"calling itself {boundary.helo}" if boundary.helo else "without a name")
    sure = "" if boundary.certain else ", if the top-most Received field is true"
    return f"Handed to {where} by {boundary.address} ({name}){when}{sure}"


def _proof(case: Case) -> str:
    parts: list[str] = []
    checks = case.asked.checks
    author = _author(case)
    if "dkim" in case.asked.proofs:
        found = signer(checks.dkim or (), author)
        parts.append(f"the DKIM signature of {found.domain if found is not None else author}")
    if "spf" in case.asked.proofs and checks.spf is not None:
        parts.append(f"SPF of {checks.spf.domain}")
    return " and ".join(parts)


def _author(case: Case) -> str:
    domains = [one.domain.ascii for one in case.identity.from_addresses if isinstance(one.domain, Domain)]
    return domains[0] if domains else ""


def _reasons(case: Case) -> Iterator[str]:
    checks, author = case.asked.checks, _author(case)
    if case.identity.from_problem:
        yield f"From can be read in several ways ({case.identity.from_problem.replace('_', ' ')})"
        return
    if not case.asked_dns:
        yield f"the DNS was not asked{_recorded_words(case)}"
        return
    if case.asked.failed:
        yield f"the DNS does not answer{_recorded_words(case)}"
        return
    yield _about_signatures(case, author)
    yield _about_spf(case)
    dmarc = checks.dmarc
    if dmarc is not None and dmarc.word is Word.FAIL and dmarc.policy is not DmarcPolicy.NONE:
        asks = "refused" if dmarc.policy is DmarcPolicy.REJECT else "treated as suspicious"
        yield f"{dmarc.policy_domain} asks that such mail is {asks} (DMARC)"


def _recorded_words(case: Case) -> str:
    """What our side found when the message came, for when it cannot be checked again."""
    found = [one for one in case.asked.recorded if one.trusted and one.method in {"dmarc", "dkim", "spf"}]
    if not found:
        return ""
    return f"; when it came, {found[0].by} recorded {', '.join(f'{one.method}={one.result}' for one in found[:4])}"


def _about_signatures(case: Case, author: str) -> str:
    signatures = case.asked.checks.dkim or ()
    if not signatures:
        return "it has no DKIM signature"
    passing = [one.domain for one in signatures if one.word is Word.PASS and not one.body_limited]
    if passing:
        return f"the DKIM signature that verifies is of {passing[0]}, not of {author}"
    own = [one for one in signatures if one.domain == author or one.domain.endswith("." + author)]
    worst = (own or list(signatures))[0]
    if worst.body_limited and worst.word is Word.PASS:
        return f"the DKIM signature of {worst.domain} covers only a part of the body"
    return f"the DKIM signature of {worst.domain or 'somebody'} does not verify ({worst.problem or worst.word.value})"


def _about_spf(case: Case) -> str:
    spf, boundary = case.asked.checks.spf, case.boundary
    if spf is None:
        return "SPF cannot be asked" if boundary.address else "no address is known to ask SPF about"
    who = spf.domain or boundary.helo or "nobody"
    if spf.word is SpfWord.PASS and not case.envelope.fact:
        return f"SPF of {who} would pass, but only the message itself says that {who} is its envelope sender"
    if spf.word is SpfWord.PASS:
        return f"SPF passes only for the envelope sender's domain {who}"
    words = {
        SpfWord.NONE: f"{who} has no SPF record",
        SpfWord.FAIL: f"{boundary.address} may not send for {who} (SPF fail)",
        SpfWord.SOFTFAIL: f"{boundary.address} probably may not send for {who} (SPF softfail)",
        SpfWord.NEUTRAL: f"{who} does not say whether {boundary.address} may send (SPF neutral)",
        SpfWord.TEMPERROR: f"SPF of {who} cannot be looked up now",
        SpfWord.PERMERROR: f"the SPF record of {who} is broken",
    }
    return words[spf.word]
