"""What an SPF record costs, allows and gets wrong. RFC 7208; what is a matter of taste is a note."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from staffetta.mailauth.results import DmarcPolicy, SpfWord
from staffetta.mailauth.spf.lookups import COSTLY_TERMS, VOID_LOOKUPS
from staffetta.mailauth.spf.walk import SpfProblem
from staffetta.policy.posture.dmarc import policy_of
from staffetta.policy.posture.facts import DomainFacts
from staffetta.policy.posture.findings import Finding, Level, shown, txt_line
from staffetta.policy.posture.providers import shared_by

RECORD_OCTETS: Final = 450
"""Longer records may not fit an answer of 512 octets (RFC 7208 section 3.4)."""

BREAKING: Final = frozenset(
    {
        "several_records",
        "syntax",
        "include_without_record",
        "loop",
        "too_many_lookups",
        "too_many_voids",
        "too_many_mx",
    }
)
"""Problems by which a check ends, or may end, in permerror."""

_FAULTS: Final = {
    "several_records": ("D202", "Leave one record; merge what the others say into it."),
    "syntax": ("D203", "Mend the term; until then the whole record says nothing."),
    "too_many_lookups": ("D204", "Take out what is no longer used, or replace includes by their ip4: and ip6:."),
    "too_many_voids": ("D205", "Take out the terms that find nothing."),
    "passes_everybody": ("D206", "Take out what passes everybody, and end the record with -all."),
    "include_without_record": ("D211", "Take the term out, or write the name that its owner tells you."),
    "loop": ("D211", "Take out the term that leads back."),
    "too_many_mx": ("D211", "Name the hosts by a: or ip4: instead of mx."),
}
_WARNINGS: Final = {
    "ptr": ("D210", "Name the addresses by ip4:, ip6: or a: instead."),
    "void": ("D212", "Take the term out: whoever gets hold of that name may send as you."),
}


def judge_spf(facts: DomainFacts) -> Iterator[Finding]:
    """D201 to D218."""
    spf, where = facts.spf, f"{facts.domain} TXT"
    if spf.error:
        yield Finding(
            "D218",
            Level.WARNING,
            where,
            shown(spf.record) or "no answer",
            "Ask again later, or look at the name servers of that name.",
            f"SPF could not be followed to its end: {shown(spf.error)}",
        )
    for problem in spf.problems:
        yield from _problem(facts, problem)
    if spf.everything and not any(problem.code == "passes_everybody" for problem in spf.problems):
        code, advice = _FAULTS["passes_everybody"]
        text = "the networks it names are together the whole internet: every client passes"
        yield Finding(code, Level.FAULT, where, shown(spf.record), advice, text)
    if not spf.record or broken(facts):
        return
    yield from _ending(facts, where)
    yield from _shared(facts, where)
    if len(spf.record) > RECORD_OCTETS:
        text = f"the record has {len(spf.record)} octets; beyond {RECORD_OCTETS} an answer may not fit one datagram"
        yield Finding("D214", Level.WARNING, where, shown(spf.record), "Shorten it, or split it by include:.", text)
    text = f"{spf.lookups} of {COSTLY_TERMS} DNS lookups, {spf.voids} of {VOID_LOOKUPS} that find nothing"
    yield Finding("D216", Level.NOTE, where, shown(spf.record), "Nothing.", text)


def broken(facts: DomainFacts) -> bool:
    """Whether checks end in permerror."""
    return any(problem.code in BREAKING for problem in facts.spf.problems) or facts.spf.final is SpfWord.PERMERROR


def sends_nothing(facts: DomainFacts) -> bool:
    """Whether the domain says that no mail of it is genuine: `v=spf1 -all`."""
    spf = facts.spf
    passes = spf.networks or spf.everything or spf.conditional or spf.includes or spf.redirects
    return bool(spf.record) and not passes and spf.final is SpfWord.FAIL and not spf.error


def shared(facts: DomainFacts) -> dict[str, str]:
    """The shared senders that the record passes, by term."""
    return shared_by(facts.spf.terms, facts.spf.includes)


def _problem(facts: DomainFacts, problem: SpfProblem) -> Iterator[Finding]:
    where = f"{shown(problem.domain)} TXT"
    evidence = shown(problem.term or facts.spf.record or problem.text)
    if problem.code == "no_record":
        takes = facts.mx.hosts and not facts.mx.implicit
        line = txt_line(facts.domain, "v=spf1 mx -all" if takes else "v=spf1 -all")
        advice = "Publish which machines send for it; if only its MX hosts do" if takes else "If it sends no mail"
        text = "there is no SPF record: receivers cannot tell its mail from forged mail by the address it comes from"
        yield Finding("D201", Level.FAULT, where, "no v=spf1", f"{advice}: {line}", text, line)
    elif problem.code in _FAULTS:
        code, advice = _FAULTS[problem.code]
        yield Finding(code, Level.FAULT, where, evidence, advice, shown(problem.text))
    elif problem.code in _WARNINGS:
        code, advice = _WARNINGS[problem.code]
        yield Finding(code, Level.WARNING, where, evidence, advice, shown(problem.text))
    elif problem.code == "unreachable":
        advice = "Take it out, or move it before `all`."
        yield Finding("D213", Level.NOTE, where, evidence, advice, shown(problem.text))


def _ending(facts: DomainFacts, where: str) -> Iterator[Finding]:
    """What strangers get. With an enforced policy it hardly matters, since DMARC asks only for a pass."""
    spf = facts.spf
    if spf.everything:
        return
    if spf.final is SpfWord.SOFTFAIL:
        text = "strangers get softfail (~all): widely used, and enough beside a DMARC policy"
        yield Finding("D208", Level.NOTE, where, shown(spf.record), "Nothing; -all says the same more firmly.", text)
    if spf.final is not SpfWord.NEUTRAL:
        return
    line = _with_ending(facts)
    level = Level.NOTE if enforced(facts) else Level.WARNING
    ends = any(term.endswith("all") for term in spf.terms)
    code, how = ("D207", "?all") if ends else ("D209", "no all at the end")
    text = f"strangers get neutral ({how}): SPF refuses nobody"
    advice = f"End it with -all: {line}" if line else "End the record that decides with -all."
    yield Finding(code, level, where, shown(spf.record), advice, text, line)


def enforced(facts: DomainFacts) -> bool:
    """Whether the owner asks for more than reports."""
    return policy_of(facts) in {DmarcPolicy.QUARANTINE, DmarcPolicy.REJECT}


def _with_ending(facts: DomainFacts) -> str:
    if facts.spf.redirects or not facts.spf.record.isascii():
        return ""
    terms = [term for term in facts.spf.record.split(" ") if term and term.lower() != "?all"]
    return txt_line(facts.domain, " ".join([*terms, "-all"]))


def _shared(facts: DomainFacts, where: str) -> Iterator[Finding]:
    """The attack of 2022: a customer of the provider sends as you, SPF passes, and no policy asks for more."""
    for term, provider in shared(facts).items():
        evidence = shown(term)
        if enforced(facts):
            text = (
                f"all customers of {provider} send from these addresses: what keeps them from your name is {provider}"
            )
            advice = (
                "Nothing, while it lets only you send as you. With DKIM for all mail, ?include: takes the risk away."
            )
            yield Finding("D215", Level.NOTE, where, evidence, advice, text)
            continue
        line = txt_line(f"_dmarc.{facts.domain}", "v=DMARC1; p=reject; rua=mailto:postmaster@" + facts.domain)
        why = "asks for nothing (p=none)" if facts.dmarc.walk.policy else "is missing"
        text = (
            f"any customer of {provider} who gets your name past its checks passes SPF as you, and DMARC {why}:"
            " this is how large relays were used to forge in 2022 and since"
        )
        advice = f"Sign all mail with DKIM, read the reports, then ask for refusal: {line}"
        yield Finding("D215", Level.WARNING, where, evidence, advice, text)


__all__ = ["BREAKING", "broken", "enforced", "judge_spf", "sends_nothing", "shared"]
