"""From the facts about a domain to findings and verdicts. Pure: the same facts, the same posture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from staffetta.policy.posture.dkim import judge_dkim
from staffetta.policy.posture.dmarc import judge_dmarc, unknown
from staffetta.policy.posture.facts import DomainFacts
from staffetta.policy.posture.findings import Finding, Level, Posture, shown
from staffetta.policy.posture.mx import judge_addresses, judge_hosts
from staffetta.policy.posture.spf import judge_spf
from staffetta.policy.posture.tls import judge_tls
from staffetta.policy.posture.verdicts import bulk, reachable, spoofable

_ORDER: Final = {Level.FAULT: 0, Level.WARNING: 1, Level.NOTE: 2}


def judge(facts: DomainFacts) -> Posture:
    """Everything that follows."""
    found = tuple(_all(facts))
    ordered = tuple(sorted(found, key=lambda finding: (_ORDER[finding.level], finding.code)))
    return Posture(spoofable(facts), reachable(facts), bulk(facts, ordered), ordered)


def _all(facts: DomainFacts) -> Iterator[Finding]:
    yield from _silence(facts)
    yield from judge_hosts(facts)
    yield from judge_addresses(facts)
    if facts.mx.exists:
        yield from judge_spf(facts)
        yield from judge_dkim(facts)
    yield from judge_dmarc(facts)
    yield from judge_tls(facts)


def _silence(facts: DomainFacts) -> Iterator[Finding]:
    """D001: a question without which a verdict cannot be had."""
    for record, failure in ((f"{facts.domain} MX", facts.mx.failure), (f"{facts.dmarc.own.name} TXT", unknown(facts))):
        if failure:
            text = f"the DNS does not answer for {record}: {shown(failure)}"
            advice = "Ask again later; if it stays so, look at the name servers of the domain."
            yield Finding("D001", Level.WARNING, record, shown(failure), advice, text)


__all__ = ["judge"]
