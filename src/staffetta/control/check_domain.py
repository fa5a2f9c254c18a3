"""`check domain`: can others send as it, can it be reached safely, will bulk-sender rules accept it.

Asks the DNS and, where one is announced, for the MTA-STS policy file; sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from staffetta.config.schema import Config, DkimMode
from staffetta.control.answer import Answer
from staffetta.control.check_domain_gather import DomainQuestion, Fetch, gather_facts
from staffetta.control.check_domain_keys import our_keys
from staffetta.control.check_domain_policy import FetchSettings, fetch_policy
from staffetta.control.lists import asked_lists
from staffetta.control.mx import resolver_settings
from staffetta.control.patience import patience
from staffetta.dns.live import LiveResolver
from staffetta.dns.resolver import Resolver
from staffetta.mail.domain import Domain
from staffetta.mail.network import NetworkSet
from staffetta.policy.posture.facts import DomainFacts
from staffetta.policy.posture.findings import Finding, Level, Opinion, Posture
from staffetta.policy.posture.judge import judge


class Outcome(IntEnum):
    """What the check came to, as a whole."""

    FINE = 0
    PROBLEM = 1
    UNKNOWN = 2


class Verdicts(msgspec.Struct, frozen=True, gc=False):
    """`yes`, `partly` or `no`; None: the DNS did not say enough."""

    spoofable: Opinion | None
    reachable: Opinion | None
    bulk: Opinion | None


class Sentences(msgspec.Struct, frozen=True, gc=False):
    """Why each verdict is so."""

    spoofable: str
    reachable: str
    bulk: str


class DomainAnswer(Answer, frozen=True, gc=False):
    """`check domain`. Findings: faults first, then warnings, then notes."""

    domain: str
    verdicts: Verdicts
    findings: tuple[Finding, ...]
    sentences: Sentences


class DomainReport(msgspec.Struct, frozen=True):
    """The answer, what it comes to, and the command that helps next."""

    answer: DomainAnswer
    outcome: Outcome
    next_command: str


class Asked(msgspec.Struct, frozen=True):
    """What is named on the command line."""

    domain: Domain
    selectors: tuple[str, ...] = ()
    lists: tuple[Domain, ...] = ()


async def ask(asked: Asked, config: Config | None, clock: Callable[[], float]) -> DomainReport:
    """Check as this machine sees the DNS. `clock` gives seconds of any origin."""
    question = question_of(asked, config)
    resolver = LiveResolver(resolver_settings(config))
    patient = patience(resolver, clock)
    settings = FetchSettings(question.allow)
    try:
        return await report(patient, question, lambda name: fetch_policy(patient, name, settings))
    finally:
        await resolver.close()


def question_of(asked: Asked, config: Config | None) -> DomainQuestion:
    """What to ask, with what the configuration and the store of keys know of the domain. Reads files."""
    lists = asked_lists(config, asked.lists)
    if config is None:
        return DomainQuestion(asked.domain.ascii, asked.selectors, lists=lists)
    keys, problem = our_keys(config, asked.domain)
    signs = {one.domain for one in config.domains if one.dkim is not DkimMode.OFF}
    return DomainQuestion(
        asked.domain.ascii,
        asked.selectors,
        keys,
        asked.domain in signs,
        problem,
        lists,
        NetworkSet(config.outbound.allow),
    )


async def report(resolver: Resolver, question: DomainQuestion, fetch: Fetch) -> DomainReport:
    """The same with what it needs given."""
    facts = await gather_facts(resolver, question, fetch)
    posture = judge(facts)
    three = (posture.spoofable, posture.reachable, posture.bulk)
    answer = DomainAnswer(
        facts.domain,
        Verdicts(*[verdict.opinion for verdict in three]),
        posture.findings,
        Sentences(*[verdict.sentence for verdict in three]),
    )
    return DomainReport(answer, outcome(posture), next_command(facts, posture))


def outcome(posture: Posture) -> Outcome:
    """Unknown when a verdict could not be had; else a problem when something is worse than a note."""
    if any(verdict.opinion is None for verdict in (posture.spoofable, posture.reachable, posture.bulk)):
        return Outcome.UNKNOWN
    worse = any(finding.level is not Level.NOTE for finding in posture.findings)
    return Outcome.PROBLEM if worse else Outcome.FINE


def next_command(facts: DomainFacts, posture: Posture) -> str:
    """What to type next."""
    codes = {finding.code for finding in posture.findings}
    addresses = [address.address for host in facts.mx.hosts for address in host.addresses if not address.denied]
    if facts.local and codes & {"D301", "D302", "D311"}:
        return f"staffetta dkim publish {facts.domain}"
    if not addresses or codes & {"D104", "D106", "D112"}:
        return f"staffetta lookup mx {facts.domain}"
    return f"staffetta check ip {addresses[0]}"
