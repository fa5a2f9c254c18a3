"""What a domain asks for when mail in its name is not proven, for itself and for all names below it.

RFC 9989 sections 4.7 (tags), 4.10 (whose record applies), RFC 9990 section 4 (reports to other organizations).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from staffetta.mailauth.dmarc.discovery import Found, Walk
from staffetta.mailauth.dmarc.evaluate import policy_for
from staffetta.mailauth.dmarc.record import Record, parse_record
from staffetta.mailauth.results import DmarcPolicy
from staffetta.policy.posture.facts import DomainFacts
from staffetta.policy.posture.findings import Finding, Level, quoted, shown, txt_line

STRENGTH: Final = {DmarcPolicy.NONE: 0, DmarcPolicy.QUARANTINE: 1, DmarcPolicy.REJECT: 2}

_ALLOWS: Final = {
    DmarcPolicy.NONE: "forged mail is delivered",
    DmarcPolicy.QUARANTINE: "forged mail goes to Junk",
    DmarcPolicy.REJECT: "forged mail is refused",
}
_PCT: Final = re.compile(rb";[ \t]*pct[ \t]*=[ \t]*([0-9]{1,3})[ \t]*(?:;|\Z)", re.IGNORECASE)


class Policies(msgspec.Struct, frozen=True, gc=False):
    """What is asked for: mail of the domain itself, of names below it that exist, and of names that do not."""

    own: DmarcPolicy
    below: DmarcPolicy
    absent: DmarcPolicy

    @property
    def weakest_below(self) -> DmarcPolicy:
        """The weaker of the two for names below: a forger picks it."""
        return min(self.below, self.absent, key=STRENGTH.__getitem__)


def unknown(facts: DomainFacts) -> str:
    """Why it is not known what applies; "" when it is. A record at the domain itself is enough."""
    walk = facts.dmarc.walk
    own = bool(walk.found) and walk.found[0].domain == facts.domain
    return walk.failure if not own else ""


def applied(facts: DomainFacts) -> Found | None:
    """The record that applies to the domain itself; None when there is none that counts."""
    found = facts.dmarc.walk.policy
    if found is None or (found.record.is_defective and not found.record.reports):
        return None
    return found


def policies(facts: DomainFacts) -> Policies:
    """All three; without a record nothing is asked for."""
    found = applied(facts)
    if found is None:
        return Policies(DmarcPolicy.NONE, DmarcPolicy.NONE, DmarcPolicy.NONE)
    own = policy_for(found, facts.domain, exists=facts.mx.exists)
    some = f"any.{facts.domain}"
    above = Walk(some, facts.dmarc.walk.found).policy or found
    return Policies(own, policy_for(above, some, exists=True), policy_for(above, some, exists=False))


def policy_of(facts: DomainFacts) -> DmarcPolicy:
    """What is asked for mail of the domain itself."""
    return policies(facts).own


def judge_dmarc(facts: DomainFacts) -> Iterator[Finding]:
    """D400 to D416."""
    if unknown(facts):
        return
    own, where = facts.dmarc.own, f"{facts.dmarc.own.name} TXT"
    records = [text for text in own.texts if parse_record(text) is not None]
    if len(records) > 1:
        text = f"there are {len(records)} DMARC records: none of them counts"
        yield Finding("D402", Level.FAULT, where, quoted(tuple(records)), "Leave one record.", text)
    found = facts.dmarc.walk.policy
    if found is None:
        if len(records) < 2:
            yield _missing(facts, where)
        return
    evidence = quoted(facts.dmarc.applied.texts)
    where = f"{facts.dmarc.applied.name} TXT"
    if found.domain != facts.domain:
        text = f"the record of {found.domain} applies to it"
        yield Finding("D412", Level.NOTE, where, evidence, "Nothing.", text)
    if found.record.is_defective:
        wrong = " and ".join(f"{tag}=" for tag in found.record.bad_policy) or "p="
        means = "counts as p=none" if found.record.reports else "counts for nothing"
        text = f"the record has no valid {wrong}, so it {means} (RFC 9989 section 4.10.1)"
        line = _line(found, msgspec.structs.replace(found.record, policy=found.record.policy or DmarcPolicy.NONE))
        yield Finding("D408", Level.FAULT, where, evidence, f"Write none, quarantine or reject: {line}", text, line)
    yield from _strength(facts, found, where, evidence)
    yield from _tags(facts, found, where, evidence)
    yield from _reports(facts, found, where, evidence)


def _missing(facts: DomainFacts, where: str) -> Finding:
    stray = [text for text in facts.dmarc.own.texts if b"dmarc" in text.lower()]
    line = txt_line(f"_dmarc.{facts.domain}", f"v=DMARC1; p=none; rua=mailto:postmaster@{facts.domain}")
    text = "there is no DMARC record: anybody may write your name in From, and no receiver is asked to refuse it"
    if stray:
        text = "what stands there does not begin with v=DMARC1, so there is no DMARC record"
    advice = f"Begin with reports, then go on to p=quarantine and p=reject: {line}"
    evidence = quoted(tuple(stray)) if stray else "no v=DMARC1"
    return Finding("D401", Level.FAULT, where, evidence, advice, text, line)


def _strength(facts: DomainFacts, found: Found, where: str, evidence: str) -> Iterator[Finding]:
    asked = policies(facts)
    record = found.record
    if applied(facts) is not None:
        text = f"asked for: {asked.own}; for names below it: {asked.below}; for those that do not exist: {asked.absent}"
        yield Finding("D400", Level.NOTE, where, evidence, "Nothing.", text)
    better = msgspec.structs.replace(record, policy=DmarcPolicy.REJECT, testing=False)
    if found.domain != facts.domain:
        better = msgspec.structs.replace(better, subdomain_policy=None, absent_policy=None)
    line = _line(found, better)
    if asked.own is DmarcPolicy.NONE and not record.is_defective:
        why = "t=y" if record.testing and record.policy is not DmarcPolicy.NONE else "p=none"
        if found.domain != facts.domain and record.policy is not DmarcPolicy.NONE:
            why = "sp=none or np=none"
        text = f"{why} asks for nothing: {_ALLOWS[asked.own]}, and you only read about it"
        advice = f"When the reports show no mail of yours that fails, ask for more: {line}"
        yield Finding("D403", Level.WARNING, where, evidence, advice, text, line)
    elif asked.own is DmarcPolicy.QUARANTINE and not record.testing:
        text = "p=quarantine: forged mail is still delivered, into Junk"
        yield Finding("D404", Level.NOTE, where, evidence, f"When nothing of yours fails: {line}", text, line)
    if record.testing and asked.own is not DmarcPolicy.NONE:
        text = f"t=y weakens what is asked for by one step: {_ALLOWS[asked.own]}"
        yield Finding("D407", Level.WARNING, where, evidence, f"Take t=y out: {line}", text, line)
    if STRENGTH[asked.weakest_below] < STRENGTH[asked.own]:
        which = "that exist" if asked.weakest_below is asked.below else "that do not exist"
        which = "names below it" if asked.below is asked.absent else f"names below it {which}"
        # Without sp= and np= names below are asked for as much as the domain itself.
        line = _line(found, msgspec.structs.replace(record, subdomain_policy=None, absent_policy=None))
        text = f"in the name of {which} {_ALLOWS[asked.weakest_below]}: less than the domain asks for itself"
        advice = f"Ask for the same below: {line}"
        yield Finding("D405", Level.WARNING, where, evidence, advice, text, line)


def _tags(facts: DomainFacts, found: Found, where: str, evidence: str) -> Iterator[Finding]:
    pct = next((match.group(1) for match in map(_PCT.search, facts.dmarc.applied.texts) if match), None)
    if pct is not None and pct != b"100":
        text = (
            f"pct={pct.decode()} is history (RFC 9989): receivers apply the policy to all mail, old ones to that share"
        )
        yield Finding("D409", Level.NOTE, where, evidence, "Take it out; t=y says that you are testing.", text)
    if found.record.psd == "y" and found.domain == facts.domain:
        text = "psd=y says that this is a public suffix: every name below is an organization of its own"
        yield Finding("D413", Level.NOTE, where, evidence, "Take it out, unless others register names below.", text)


def _reports(facts: DomainFacts, found: Found, where: str, evidence: str) -> Iterator[Finding]:
    if not found.record.reports:
        reports = (f"mailto:postmaster@{found.domain}",)
        line = _line(found, msgspec.structs.replace(found.record, reports=reports))
        text = "nobody gets reports (rua=), so you do not see who sends in your name"
        yield Finding("D410", Level.NOTE, where, evidence, f"Name an address for them: {line}", text, line)
    elif not any(uri[:7].lower() == "mailto:" for uri in found.record.reports):
        text = "rua= names no mailto: address, and reports are sent by mail only"
        yield Finding("D415", Level.WARNING, where, evidence, "Name an address: rua=mailto:...", text)
    for target in facts.dmarc.outside:
        if target.allowed is None:
            text = f"whether reports may go to {shown(target.uri)} is not known: the DNS does not answer"
            yield Finding("D416", Level.NOTE, f"{target.record} TXT", "no answer", "Ask again later.", text)
        elif not target.allowed:
            line = txt_line(target.record, "v=DMARC1;")
            text = f"reports to {shown(target.uri)} are not sent: its domain does not say that it wants them"
            advice = f"Let its owner publish: {line}"
            yield Finding("D411", Level.WARNING, f"{target.record} TXT", shown(target.uri), advice, text, line)


def _line(found: Found, record: Record) -> str:
    """The record as a line to publish, of tags that mean something."""
    tags = [(tag, value) for tag, value in record.published() if (tag, value) not in {("adkim", "r"), ("aspf", "r")}]
    if record.failure_reports:
        tags.append(("ruf", ",".join(record.failure_reports)))
    return txt_line(f"_dmarc.{found.domain}", "; ".join(["v=DMARC1", *[f"{tag}={value}" for tag, value in tags]]))


__all__ = ["STRENGTH", "Policies", "applied", "judge_dmarc", "policies", "policy_of", "unknown"]
