"""Whether mail to a domain can be listened to on its way: MTA-STS, DANE, and the reports of TLS that failed.

RFC 8461, RFC 7672, RFC 8460. Without any of the first two TLS is used where offered, and an attacker on the way can
take the offer out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from staffetta.policy.posture.facts import DomainFacts, HostFacts
from staffetta.policy.posture.findings import Finding, Level, quoted, shown, txt_line
from staffetta.tlspolicy import tls_rpt
from staffetta.tlspolicy.dane import tlsa_text, why_unusable
from staffetta.tlspolicy.mta_sts import StsMode, StsPolicy, parse_policy, sts_records, why_bad_record

SHORT_AGE_SECONDS: Final = 86_400
"""A policy that is forgotten within a day protects hardly anybody: attackers wait."""


def sts_policy(facts: DomainFacts) -> StsPolicy | None:
    """The policy that senders get; None when they get none."""
    records = sts_records(facts.sts.record.texts)
    file = facts.sts.file
    if len(records) != 1 or why_bad_record(records[0]) or file is None or file.problem:
        return None
    policy = parse_policy(file.data)
    return policy if isinstance(policy, StsPolicy) else None


def left_out(facts: DomainFacts, policy: StsPolicy) -> tuple[str, ...]:
    """MX hosts that the policy does not name."""
    return tuple([host.host for host in facts.mx.hosts if not policy.names(host.host)])


def has_dane(host: HostFacts) -> bool:
    """Whether senders that know DANE verify this host."""
    return host.tlsa.authenticated and any(not why_unusable(record) for record in host.tlsa.records)


def all_dane(facts: DomainFacts) -> bool:
    """Whether they verify every host, and nobody can lead them to another."""
    hosts = facts.mx.hosts
    return bool(hosts) and facts.mx.authenticated and all(has_dane(host) for host in hosts)


def judge_tls(facts: DomainFacts) -> Iterator[Finding]:
    """D501 to D525."""
    if not facts.mx.hosts:
        return
    yield from _sts(facts)
    yield from _reports(facts)
    for host in facts.mx.hosts:
        yield from _tlsa(host)
    with_dane = [host.host for host in facts.mx.hosts if host.tlsa.records]
    without = [host.host for host in facts.mx.hosts if not host.tlsa.records and not host.tlsa.failure]
    if with_dane and without:
        text = f"some MX hosts have TLSA records and {shown(', '.join(without))} has none: an attacker picks that one"
        yield Finding("D524", Level.WARNING, f"{facts.domain} MX", shown(", ".join(without)), "Add its TLSA.", text)
    announced = sts_records(facts.sts.record.texts) or facts.sts.record.failure
    if not announced and not with_dane:
        text = "neither MTA-STS nor DANE: who sits on the way can take TLS out and read the mail"
        line = txt_line(f"_mta-sts.{facts.domain}", "v=STSv1; id=1")
        advice = f"Serve https://mta-sts.{facts.domain}/.well-known/mta-sts.txt, then publish: {line}"
        yield Finding("D501", Level.NOTE, f"{facts.sts.record.name} TXT", "no v=STSv1", advice, text)


def _sts(facts: DomainFacts) -> Iterator[Finding]:
    record, where = facts.sts.record, f"{facts.sts.record.name} TXT"
    if record.failure:
        text = f"whether there is an MTA-STS policy is not known: {shown(record.failure)}"
        yield Finding("D508", Level.WARNING, where, "no answer", "Ask again later.", text)
    records = sts_records(record.texts)
    if not records:
        return
    problem = f"there are {len(records)} records" if len(records) > 1 else why_bad_record(records[0])
    if problem:
        line = txt_line(record.name, "v=STSv1; id=1")
        text = f"senders pass over the MTA-STS record: {problem}"
        advice = f"Leave one record, with an id that changes with the policy: {line}"
        yield Finding("D502", Level.FAULT, where, quoted(records), advice, text)
        return
    file = facts.sts.file
    if file is None:
        return
    if file.problem:
        text = f"MTA-STS is announced, but the policy cannot be fetched: {shown(file.problem)}"
        advice = "Serve it there, with a certificate for that name and no redirect."
        yield Finding("D503", Level.FAULT, file.url, shown(file.problem), advice, text)
        return
    policy = parse_policy(file.data)
    if isinstance(policy, str):
        text = f"the MTA-STS policy is malformed: {policy}"
        yield Finding("D504", Level.FAULT, file.url, shown(file.data), "Mend the file, then change the id.", text)
        return
    yield from _policy(facts, policy, file.url, shown(file.data))
    if file.content_type.partition(";")[0].strip(" \t").lower() != "text/plain":
        text = "the policy is not served as text/plain; some senders pass over it (RFC 8461 section 3.2)"
        yield Finding("D509", Level.WARNING, file.url, shown(file.content_type) or "no type", "Set the type.", text)


def _policy(facts: DomainFacts, policy: StsPolicy, url: str, evidence: str) -> Iterator[Finding]:
    missing = left_out(facts, policy)
    if missing and policy.mode is not StsMode.NONE:
        enforced = policy.mode is StsMode.ENFORCE
        level = Level.FAULT if enforced else Level.WARNING
        end = "senders that keep MTA-STS do not deliver there" if enforced else "with mode enforce it would get nothing"
        text = f"the policy does not name {shown(', '.join(missing))}: {end}"
        lines = " ".join(f"mx: {host}" for host in missing)
        yield Finding("D505", level, url, evidence, f"Add to the file, then change the id: {lines}", text)
    if policy.mode is not StsMode.ENFORCE:
        text = f"the MTA-STS policy is in mode {policy.mode}: nothing is refused because of it"
        advice = "When the reports are clean: mode: enforce, and a new id."
        yield Finding("D506", Level.NOTE, url, evidence, advice, text)
    if policy.max_age_seconds < SHORT_AGE_SECONDS:
        text = f"max_age is {policy.max_age_seconds} s: senders forget the policy before it protects"
        yield Finding("D507", Level.WARNING, url, evidence, "Write at least max_age: 604800.", text)


def _reports(facts: DomainFacts) -> Iterator[Finding]:
    found, where = facts.tls_rpt, f"{facts.tls_rpt.name} TXT"
    if found.failure:
        return
    records = tls_rpt.tls_rpt_records(found.texts)
    line = txt_line(found.name, f"v=TLSRPTv1; rua=mailto:postmaster@{facts.domain}")
    if not records:
        text = "nobody reports TLS that failed towards you (no TLS-RPT record)"
        yield Finding("D510", Level.NOTE, where, "no v=TLSRPTv1", f"Publish: {line}", text, line)
        return
    problem = f"there are {len(records)} records" if len(records) > 1 else tls_rpt.why_bad_record(records[0])
    if problem:
        text = f"the TLS-RPT record counts for nothing: {problem}"
        yield Finding("D511", Level.WARNING, where, quoted(records), f"Publish one: {line}", text, line)


def _tlsa(host: HostFacts) -> Iterator[Finding]:
    tlsa, where, name = host.tlsa, f"{host.tlsa.name} TLSA", shown(host.host)
    if tlsa.failure:
        text = f"the question for TLSA of {name} gets no answer: senders that know DANE keep the mail waiting"
        advice = f"Look at the name servers of {name}: they have to answer for types they do not hold."
        yield Finding("D525", Level.WARNING, where, shown(tlsa.failure), advice, text)
        return
    if not tlsa.records and not tlsa.unusable:
        return
    evidence = "; ".join(map(tlsa_text, tlsa.records[:4])) or "malformed"
    wrong = [problem for problem in map(why_unusable, tlsa.records) if problem]
    wrong += ["malformed"] * tlsa.unusable
    usable = len(wrong) < len(tlsa.records) + tlsa.unusable
    if wrong:
        level = Level.WARNING if usable else Level.FAULT
        end = "" if usable else "; none is left, so senders insist on TLS and verify nothing"
        text = f"a TLSA record of {name} is of no use: {wrong[0]}{end}"
        advice = "Publish 3 1 1 with the SHA-256 of the server's public key."
        yield Finding("D522", level, where, shown(evidence), advice, text)
    if usable and not tlsa.authenticated:
        text = (
            f"{name} has TLSA records, but this resolver does not vouch for them; without DNSSEC they count for nothing"
        )
        advice = "Sign the zone; to see it here, ask a validating resolver on this machine."
        yield Finding("D521", Level.NOTE, where, shown(evidence), advice, text)
    elif usable:
        text = f"senders that know DANE verify {name}"
        yield Finding("D520", Level.NOTE, where, shown(evidence), "Keep it in step with the key of the server.", text)


__all__ = ["all_dane", "has_dane", "judge_tls", "left_out", "sts_policy"]
