"""Who vouches for a message, asked again: DKIM and ARC over the file's octets, SPF for the border, DMARC, reverse name.

RFC 6376, RFC 8617, RFC 7208, RFC 9989, RFC 8601 section 2.7.3. Everything is asked as it was when the message was
handed over: a signature that has expired since then was good. What the DNS says is what it says today, though.
Results that others wrote into the message (RFC 8601) are compared only when a trusted host put them on top.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from staffetta.control.explain_headers_trust import Boundary, Trusted
from staffetta.dns.resolver import Lookup, RecordKind, Resolver, Unavailable
from staffetta.dns.reverse import Reverse, find_name
from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.mailauth.ar import Peer, method_results
from staffetta.mailauth.arc.chain import ArcVerification
from staffetta.mailauth.asking import Asker
from staffetta.mailauth.dkim.verify import Verification
from staffetta.mailauth.dmarc.evaluate import DmarcFacts, check_dmarc
from staffetta.mailauth.results import Checks, DkimResult, SpfWord, Word
from staffetta.mailauth.spf.check import SpfQuestion, check_helo, check_spf
from staffetta.message.auth_results import NAME, claimed_id
from staffetta.message.authorship import HeaderIdentity
from staffetta.message.header import Field, Header

RESULT_FIELDS: Final = 10
"""Most Authentication-Results fields that are looked at, from the top."""

_RESULT = re.compile(r"(?:\A|;)\s{0,20}([A-Za-z][A-Za-z0-9-]{0,30})(?:/[0-9]{1,3})?\s{0,9}=\s{0,9}([A-Za-z]{1,20})")
_COMMENT_OR_QUOTED = re.compile(r"\([^()]*\)|\"[^\"]*\"")


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """The reverse path. `mailbox` None: the null path, or not known when `text` is None. `fact`: a trusted host told
    it, by Return-Path on top or in its Received field."""

    text: str | None = None
    mailbox: Mailbox | None = None
    fact: bool = False


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One result that stood in the message. `trusted`: our side wrote it. `now` is what the same check says today, ""
    where it was not made."""

    by: str
    method: str
    result: str
    trusted: bool
    now: str


class CheckResult(msgspec.Struct, frozen=True, gc=False):
    """One check in words: `subject` is the domain, name or sealer it is about."""

    method: str
    result: str
    subject: str
    reason: str


class Asked(msgspec.Struct, frozen=True, gc=False):
    """All checks of one message. `results` are for people and JSON; `proofs` are `dkim` and `spf` where they prove that
    the domain in From sent it. `failed`: the DNS left something open that could have decided."""

    checks: Checks
    results: tuple[CheckResult, ...]
    recorded: tuple[Recorded, ...]
    proofs: tuple[str, ...]
    failed: bool


class Question(msgspec.Struct, frozen=True):
    """What is known before anybody is asked. `now` is when the message was handed over, in seconds since the epoch."""

    header: Header
    identity: HeaderIdentity
    boundary: Boundary
    envelope: Envelope
    trusted: Trusted
    receiver: str
    now: float


class _Nobody:
    """A Resolver that is not to be asked."""

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        """See dns.resolver.Resolver."""
        return Unavailable("the DNS was not asked")

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        """See dns.resolver.Resolver."""


_NOBODY: Final = _Nobody()


class Signatures:
    """DKIM and ARC of one message, while its body streams past."""

    __slots__ = ("_arc", "_dkim")

    def __init__(self, header: Header) -> None:
        self._dkim = Verification(header)
        self._arc = ArcVerification(header)

    def after_header(self, data: bytes) -> None:
        """The next octets of what follows the header."""
        self._dkim.after_header(data)
        self._arc.after_header(data)

    async def ask(self, question: Question, resolver: Resolver | None, monotonic: Callable[[], float]) -> Asked:
        """Everything that can be asked, within the budget of one message; without a resolver, what needs no DNS. To be
        called once, when the body is over."""
        if resolver is None:
            return await self._alone(question)
        asker = Asker(resolver, monotonic)
        origin = _origin(question)
        async with asyncio.TaskGroup() as group:
            dkim = group.create_task(self._dkim.finish(asker, question.now))
            spf = group.create_task(check_spf(asker, origin))
            helo = group.create_task(check_helo(asker, origin))
            reverse = group.create_task(_reverse(asker, question.boundary.address))
        known = question.boundary.address and question.envelope.text is not None
        facts = DmarcFacts(question.identity, spf.result() if known else None, helo.result(), dkim.result())
        dmarc = await check_dmarc(asker, facts)
        arc = await self._arc.finish(asker, question.now)
        checks = Checks(helo.result(), spf.result() if known else None, dkim.result(), dmarc, arc, reverse.result())
        proofs = _proofs(question, checks)
        return Asked(
            checks, _results(question, checks), _recorded(question, checks), proofs, _left_open(checks, proofs)
        )

    async def _alone(self, question: Question) -> Asked:
        """What is wrong with the signatures even without their keys."""
        dkim = await self._dkim.finish(_NOBODY, question.now)
        arc = await self._arc.finish(_NOBODY, question.now)
        known = tuple([one for one in dkim if one.word is not Word.TEMPERROR])
        checks = Checks(
            dkim=known if known or not dkim else None,
            arc=None if arc.word is Word.TEMPERROR else arc,
        )
        return Asked(checks, _results(question, checks), _recorded(question, checks), (), False)


def _origin(question: Question) -> SpfQuestion:
    mailbox = question.envelope.mailbox
    local_part, domain = (mailbox.local_part, str(mailbox.domain)) if mailbox is not None else ("", "")
    boundary = question.boundary
    return SpfQuestion(boundary.address, boundary.helo, local_part, domain, question.receiver, question.now)


async def _reverse(resolver: Resolver, address: str) -> Reverse | None:
    return await find_name(resolver, address) if address else None


def _proofs(question: Question, checks: Checks) -> tuple[str, ...]:
    """The methods that prove the domain in From. With a DMARC record, its alignment; without one, only the domain
    itself or one above it: a domain below may be anybody's."""
    identity = question.identity
    domains = {mailbox.domain for mailbox in identity.from_addresses}
    if identity.from_problem or len(domains) != 1:
        return ()
    domain = domains.pop()
    dmarc = checks.dmarc
    if not isinstance(domain, Domain) or dmarc is None:
        return ()
    proven: list[str] = list(dmarc.aligned_by)
    signed = [one for one in checks.dkim or () if one.word is Word.PASS and not one.body_limited]
    if any(_vouches(one.domain, domain.ascii) for one in signed):
        proven.append("dkim")
    spf = checks.spf
    if spf is not None and spf.word is SpfWord.PASS and _vouches(spf.domain, domain.ascii):
        proven.append("spf")
    if not question.envelope.fact:
        proven = [method for method in proven if method != "spf"]
    return tuple(method for method in ("dkim", "spf") if method in proven)


def _vouches(signer: str, author: str) -> bool:
    return signer == author or ("." in signer and author.endswith("." + signer))


def _left_open(checks: Checks, proofs: tuple[str, ...]) -> bool:
    if proofs:
        return False
    words = [one.word.value for one in (*(checks.dkim or ()), checks.dmarc, checks.spf) if one is not None]
    return "temperror" in words


def _results(question: Question, checks: Checks) -> tuple[CheckResult, ...]:
    """The checks in the words of RFC 8601, with what each is about."""
    envelope = question.envelope.text or ""
    peer = Peer(question.boundary.address, question.boundary.helo, envelope)
    found: list[CheckResult] = []
    for one in method_results(checks, peer):
        subjects = [part.value for part in one.properties if part.name in {"mailfrom", "helo", "d", "from", "iprev"}]
        reason = one.reason
        policy = next((part.value for part in one.properties if part.name == "dmarc"), "")
        if policy:
            reason = f"the domain asks for {policy}" + (f"; {reason}" if reason else "")
        # Two checks are SPF; the one of the client's name is called so, as in the words of events.
        method = "helo" if envelope and any(part.name == "helo" for part in one.properties) else one.method
        found.append(CheckResult(method, one.result, subjects[0] if subjects else "", reason))
    return tuple(found)


def _recorded(question: Question, checks: Checks) -> tuple[Recorded, ...]:
    """What stands in Authentication-Results fields, and whether our side wrote it: it says so by name, and stands above
    the field of the boundary, where only our side could put it."""
    trace = question.header.all(b"received")[: question.boundary.index]
    above = len(question.header.block)
    if trace:
        above = _position(question.header, trace[-1])
    ours = {question.boundary.by.rstrip(".").lower(), question.receiver.lower()} - {""}
    found: list[Recorded] = []
    for field in question.header.all(NAME)[:RESULT_FIELDS]:
        by = claimed_id(field)
        mine = (question.trusted.is_name(by) or by in ours) and _position(question.header, field) < above
        found += [
            Recorded(by, method, result, mine, _today(method, checks)) for method, result in read_results(field.value)
        ]
    return tuple(found)


def _position(header: Header, field: Field) -> int:
    return header.block.find(field.raw)


def read_results(value: bytes) -> Sequence[tuple[str, str]]:
    """Method and result of each statement in an Authentication-Results value, in lower case. Total."""
    text = value[:8192].decode("utf-8", "replace")
    for _ in range(4):  # comments nest, and nobody nests them deeper
        text = _COMMENT_OR_QUOTED.sub(" ", text)
    return [(found[1].lower(), found[2].lower()) for found in _RESULT.finditer(text)][:20]


def _today(method: str, checks: Checks) -> str:
    words = {
        "spf": [checks.spf.word.value] if checks.spf is not None else [],
        "dkim": sorted({one.word.value for one in checks.dkim}) or ["none"] if checks.dkim is not None else [],
        "dmarc": [checks.dmarc.word.value] if checks.dmarc is not None else [],
        "arc": [checks.arc.word.value] if checks.arc is not None else [],
    }
    return ",".join(words.get(method, []))


def signer(results: Sequence[DkimResult], domain: str) -> DkimResult | None:
    """The signature that verifies for `domain` or one above or below it, the closest first."""
    passing = [one for one in results if one.word is Word.PASS and not one.body_limited]
    close = [one for one in passing if one.domain == domain]
    return next(iter(close or passing), None)
