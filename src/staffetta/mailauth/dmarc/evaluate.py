"""Did the owner of the From domain send this message, and what do they ask for if not?

RFC 9989 sections 4.4 (alignment), 4.7 (`sp`, `np`, `t`), 5.3 (the receiver's steps), 11.5 (several From domains).

Only an identifier that SPF or DKIM proved counts: the MAIL FROM domain of an SPF pass (never HELO beside it), and `d=`
of a signature that verifies. A signature with `l=` that does not cover the body proves nothing, since anybody may have
added the rest. A key in test mode (`t=y`, RFC 6376 section 3.6.1) does prove: the flag asks that failures do no harm.
A From that programs read differently never passes; the strictest policy of its failing domains applies.
What the DNS did not say is `temperror`, but where the answer could not change anything.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.dns.resolver import Resolver
from staffetta.mail.domain import Domain
from staffetta.mailauth.dmarc.discovery import Discovery, Failure, Found
from staffetta.mailauth.dmarc.record import Record
from staffetta.mailauth.results import DkimResult, DmarcPolicy, DmarcResult, SpfResult, SpfWord, Word
from staffetta.message.addresses import AddressProblem
from staffetta.message.authorship import HeaderIdentity

AUTHOR_DOMAINS: Final = 4
"""Most domains of one From that are looked up; with more, the evaluation is incomplete (RFC 9989 section 11.5)."""

_STRICTNESS: Final = {DmarcPolicy.NONE: 0, DmarcPolicy.QUARANTINE: 1, DmarcPolicy.REJECT: 2}
_WEAKER: Final = {DmarcPolicy.REJECT: DmarcPolicy.QUARANTINE, DmarcPolicy.QUARANTINE: DmarcPolicy.NONE}


class DmarcFacts(msgspec.Struct, frozen=True, gc=False):
    """What is known of the message. `spf` is the check of MAIL FROM (for the null path, of `postmaster@HELO`), with the
    domain whose record was asked; `helo` is for reports and proves nothing here."""

    identity: HeaderIdentity
    spf: SpfResult | None = None
    helo: SpfResult | None = None
    dkim: tuple[DkimResult, ...] = ()


class _Identifier(msgspec.Struct, frozen=True, gc=False):
    """A domain that a method speaks of: `proven`, or perhaps so, had the DNS answered."""

    method: str
    domain: str
    proven: bool


async def check_dmarc(resolver: Resolver, facts: DmarcFacts) -> DmarcResult:
    """DMARC of one message: at most eight queries for the From domain (most often one or two), and a few for an
    identifier that is neither the From domain nor foreign to it."""
    identity = facts.identity
    discovery = Discovery(resolver)
    identifiers = _identifiers(facts)
    domains = _author_domains(identity)
    if not identity.from_problem:
        if not domains:
            return DmarcResult(Word.NONE, problem="the From address has no domain name")
        return await _evaluate(discovery, domains[0], identifiers)
    results = [await _evaluate(discovery, domain, identifiers) for domain in domains[:AUTHOR_DOMAINS]]
    return _unclear(identity.from_problem, results, complete=len(domains) <= AUTHOR_DOMAINS)


def _author_domains(identity: HeaderIdentity) -> list[str]:
    """The domains that From may be read to be of. Where it is tricky, also those that people are shown: another program
    may take just that for the address."""
    mailboxes = identity.from_addresses
    if identity.from_problem not in {"", AddressProblem.NOT_UTF8.value}:
        mailboxes += identity.from_shown
    return list(dict.fromkeys([one.domain.ascii for one in mailboxes if isinstance(one.domain, Domain)]))


def _identifiers(facts: DmarcFacts) -> tuple[_Identifier, ...]:
    found: list[_Identifier] = []
    spf = facts.spf
    if spf is not None and spf.domain and spf.word in {SpfWord.PASS, SpfWord.TEMPERROR}:
        found.append(_Identifier("spf", _comparable(spf.domain), spf.word is SpfWord.PASS))
    found += [
        _Identifier("dkim", _comparable(one.domain), one.word is Word.PASS)
        for one in facts.dkim
        if one.domain and one.word in {Word.PASS, Word.TEMPERROR} and not one.body_limited
    ]
    return tuple(dict.fromkeys(found))


def _comparable(domain: str) -> str:
    domain = domain.removesuffix(".")
    return domain.lower() if domain.isascii() else domain


def _unclear(problem: str, results: list[DmarcResult], *, complete: bool) -> DmarcResult:
    """The strictest reading of a From with a problem: of the domains that do not pass, the strictest policy."""
    failing = [one for one in results if one.word is Word.FAIL]
    strictest = max(failing, key=lambda one: _STRICTNESS[one.policy], default=None)
    late = [one for one in results if one.word is Word.TEMPERROR]
    if strictest is not None and (strictest.policy is DmarcPolicy.REJECT or (complete and not late)):
        chosen = strictest
    elif late:
        # Whatever the other domains say, one that did not answer may ask for more; nothing makes up for it.
        chosen = msgspec.structs.replace(late[0], aligned_by=())
    else:
        chosen = DmarcResult(Word.PERMERROR, domain=results[0].domain if results else "")
    return msgspec.structs.replace(chosen, problem=problem, author_problem=problem)


async def _evaluate(discovery: Discovery, author: str, identifiers: tuple[_Identifier, ...]) -> DmarcResult:
    """DMARC for one author domain."""
    same = _methods([one for one in identifiers if one.proven and one.domain == author])
    own = await discovery.record(author)
    if isinstance(own, Failure):
        # Strict or relaxed, an identifier that is the From domain itself is aligned, whatever the record says.
        return DmarcResult(Word.TEMPERROR, author, aligned_by=same, problem=own.reason)
    applied = Found(author, own) if own is not None else None
    if applied is None:
        walk = await discovery.walk(author)
        if walk.failure:
            return DmarcResult(Word.TEMPERROR, author, aligned_by=same, problem=walk.failure)
        applied = walk.policy
    if applied is None:
        return DmarcResult(Word.NONE, author)
    if applied.record.is_defective and not applied.record.reports:
        problem = f"the record at _dmarc.{applied.domain} has no valid policy"
        return DmarcResult(Word.NONE, author, policy_domain=applied.domain, problem=problem)
    result = _Alignment(discovery, author, applied.record)
    await result.compare(identifiers, same)
    return await _conclude(discovery, author, applied, result)


class _Alignment:
    """Which methods agree with the From domain, and what could not be found out."""

    __slots__ = ("aligned", "author", "discovery", "failure", "organization", "record")

    def __init__(self, discovery: Discovery, author: str, record: Record) -> None:
        self.discovery = discovery
        self.author = author
        self.record = record
        self.organization = ""
        self.aligned: tuple[str, ...] = ()
        self.failure = ""

    async def compare(self, identifiers: tuple[_Identifier, ...], same: tuple[str, ...]) -> None:
        """Compare all identifiers that could matter; a method that agrees already is not asked again."""
        methods = set(same)
        # Proven ones first, so that a failure of another signature costs nothing and hides nothing.
        for one in sorted(identifiers, key=lambda identifier: not identifier.proven):
            if one.method in methods or not (one.proven or not methods):
                continue
            if one.domain == self.author:
                self._note_unproven(one)
            elif not self._is_strict(one.method) and await self._same_organization(one.domain):
                if one.proven:
                    methods.add(one.method)
                else:
                    self._note_unproven(one)
        self.aligned = tuple([method for method in ("spf", "dkim") if method in methods])

    def _note_unproven(self, one: _Identifier) -> None:
        self.failure = self.failure or f"{one.method} of {one.domain} could not be checked"

    def _is_strict(self, method: str) -> bool:
        return self.record.strict_spf if method == "spf" else self.record.strict_dkim

    async def _same_organization(self, domain: str) -> bool:
        """Whether both domains have one organizational domain (relaxed alignment)."""
        if domain.rpartition(".")[2] != self.author.rpartition(".")[2]:
            return False
        walk = await self.discovery.walk(self.author)
        if walk.failure:
            if _share_a_suffix(domain, self.author):
                self.failure = self.failure or walk.failure
            return False
        self.organization = walk.organizational_domain
        # An organizational domain is the name itself or stands above it, so most strangers need no walk.
        if domain != self.organization and not domain.endswith("." + self.organization):
            return False
        other = await self.discovery.walk(domain)
        if other.failure:
            self.failure = self.failure or other.failure
            return False
        return other.organizational_domain == self.organization


def _share_a_suffix(one: str, other: str) -> bool:
    """Whether two domains could be of one organization: they share more than the top-level domain, or one is above."""
    return one.split(".")[-2:] == other.split(".")[-2:]


async def _conclude(discovery: Discovery, author: str, applied: Found, alignment: _Alignment) -> DmarcResult:
    record = applied.record
    result = DmarcResult(
        word=Word.PASS,
        domain=author,
        policy_domain=applied.domain,
        organizational_domain=alignment.organization,
        policy=policy_for(applied, author, exists=True),
        aligned_by=alignment.aligned,
        testing=record.testing,
        published=record.published(),
    )
    if alignment.aligned:
        return result
    problem = alignment.failure
    exists: bool | Failure = True
    if applied.domain != author and policy_for(applied, author, exists=False) is not result.policy:
        exists = await discovery.exists(author)
        if isinstance(exists, Failure):
            problem = problem or exists.reason
    if isinstance(exists, Failure):
        either = (result.policy, policy_for(applied, author, exists=False))
        policy = max(either, key=_STRICTNESS.__getitem__)
    else:
        policy = policy_for(applied, author, exists=exists)
    word = Word.TEMPERROR if problem else Word.FAIL
    return msgspec.structs.replace(result, word=word, policy=policy, problem=problem)


def policy_for(applied: Found, author: str, *, exists: bool) -> DmarcPolicy:
    """What the record asks for mail of `author` (RFC 9989 section 4.10.1), one step weaker with `t=y`."""
    record = applied.record
    policy = record.policy
    if applied.domain != author:
        if not exists and record.absent_policy is not None:
            policy = record.absent_policy
        elif record.subdomain_policy is not None:
            policy = record.subdomain_policy
    if policy is None or record.is_defective:
        return DmarcPolicy.NONE
    return _WEAKER.get(policy, policy) if record.testing else policy


def _methods(identifiers: list[_Identifier]) -> tuple[str, ...]:
    present = {one.method for one in identifiers}
    return tuple([method for method in ("spf", "dkim") if method in present])
