"""May this client send for this domain? `check_host()` of RFC 7208 section 4, for MAIL FROM and for HELO.

RFC 7208 sections 2.3, 2.4, 4, 5 and 6; RFC 8616 (internationalised domains are asked as A-labels).
The check never raises for what a record, a name or the DNS says. How much may be asked is `lookups`' business within
one check, and that of the resolver it is given (`mailauth.asking.Asker`) for the whole message.
This module refuses to know what follows from a result.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.dns.resolver import Resolver
from staffetta.mail.domain import DomainError, parse_domain
from staffetta.mailauth.results import SpfResult, SpfWord
from staffetta.mailauth.spf.lookups import Client, Ended, Lookups, read_client
from staffetta.mailauth.spf.macros import (
    Facts,
    MacroError,
    MacroText,
    expand_name,
    expand_text,
    letters,
    parse_macros,
)
from staffetta.mailauth.spf.record import Kind, Malformed, Mechanism, SpfRecord, is_small, read_spf_record, spf_records
from staffetta.mailauth.turns import Pause, next_turn

EXPLANATION_OCTETS: Final = 2048
"""Longest explanation record that is read at all."""

POSTMASTER: Final = "postmaster"
"""The local part of a sender without one, RFC 7208 section 4.3."""


class SpfQuestion(msgspec.Struct, frozen=True, gc=False):
    """Who wants to send as whom. `sender_domain` "" is the null path. `helo` is what the client said, unchecked.

    `receiver` is our host name and `now` the time in seconds since the epoch: explanations may name them.
    """

    client_address: str
    helo: str
    sender_local_part: str
    sender_domain: str
    receiver: str
    now: float


async def check_spf(resolver: Resolver, question: SpfQuestion, pause: Pause = next_turn) -> SpfResult:
    """The result for MAIL FROM; the null path stands for postmaster at the HELO name (section 2.4).

    `pause` is awaited before what takes long."""
    if not question.sender_domain:
        return await check_helo(resolver, question, pause)
    local_part = question.sender_local_part or POSTMASTER
    return await _check(resolver, question, local_part, question.sender_domain, pause)


async def check_helo(resolver: Resolver, question: SpfQuestion, pause: Pause = next_turn) -> SpfResult:
    """The result for HELO (section 2.3): none when the client said an address literal or a single label."""
    return await _check(resolver, question, POSTMASTER, question.helo, pause)


async def _check(resolver: Resolver, question: SpfQuestion, local_part: str, domain: str, pause: Pause) -> SpfResult:
    name = spf_domain(domain)
    client = read_client(question.client_address)
    if not name or client is None:
        problem = "the client has no IP address" if client is None else "not a fully qualified domain name"
        return SpfResult(SpfWord.NONE, name, problem=problem)
    facts = Facts(
        local_part,
        name,
        name,
        client.version,
        client.number,
        question.helo,
        question.receiver,
        question.now,
    )
    evaluation = _Evaluation(Lookups(resolver, client), client, facts, pause)
    try:
        decision = await evaluation.host(name)
        explanation = await evaluation.explain(decision) if decision.explanation is not None else ""
    except Ended as ended:
        return SpfResult(ended.word, name, problem=ended.problem)
    return SpfResult(decision.word, name, decision.mechanism, explanation=explanation)


def spf_domain(domain: str) -> str:
    """The domain in the form that is asked for; "" for what section 4.3 calls malformed. Underscores and the like are
    left to the DNS."""
    if not domain.isascii():
        try:
            return parse_domain(domain.removesuffix(".")).ascii
        except DomainError:
            return ""
    name = domain.removesuffix(".").lower()
    top_label = name.rpartition(".")[2]
    if "." not in name or name[0] == "[" or top_label.isdigit():
        return ""
    return name


class _Decision(msgspec.Struct, frozen=True, gc=False):
    """What a record came to. `explanation` is the place of its text, if it is to be used; `domain` is the record's."""

    word: SpfWord
    domain: str
    mechanism: str = ""
    explanation: MacroText | None = None


class _Evaluation:
    """One check under way."""

    __slots__ = ("_client", "_facts", "_lookups", "_pause")

    def __init__(self, lookups: Lookups, client: Client, facts: Facts, pause: Pause) -> None:
        self._pause = pause
        self._lookups = lookups
        self._client = client
        self._facts = facts

    async def host(self, domain: str) -> _Decision:
        """`check_host()` for `domain`, following redirects. Raises Ended."""
        redirected = False
        while True:
            record = await self._record(domain)
            if record is None:
                if redirected:
                    raise Ended(SpfWord.PERMERROR, f"redirect to {domain}, which has no SPF record")
                return _Decision(SpfWord.NONE, domain)
            for mechanism in record.mechanisms:
                if await self._matches(mechanism, domain):
                    explanation = record.explanation if mechanism.result is SpfWord.FAIL else None
                    return _Decision(mechanism.result, domain, mechanism.text, explanation)
            if record.redirect is None:
                return _Decision(SpfWord.NEUTRAL, domain)
            self._lookups.spend_term()
            target = await self._name(record.redirect, domain)
            if target is None:
                raise Ended(SpfWord.PERMERROR, f"redirect={record.redirect_text} leads nowhere")
            domain, redirected = target, True

    async def _record(self, domain: str) -> SpfRecord | None:
        texts = spf_records(await self._lookups.texts(domain))
        if len(texts) != 1:
            if texts:
                raise Ended(SpfWord.PERMERROR, f"{domain} has {len(texts)} SPF records")
            return None
        if not is_small(texts[0]):
            await self._pause()  # eleven of the largest in a row would hold up every session
        record = read_spf_record(texts[0])
        if isinstance(record, Malformed):
            raise Ended(SpfWord.PERMERROR, f"SPF record of {domain}: {record.problems[0]}")
        return record

    async def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        network, client = mechanism.network, self._client
        if network is not None:
            return network.version == client.version and network.first <= client.number <= network.last
        if mechanism.kind is Kind.ALL:
            return True
        self._lookups.spend_term()
        target = domain if mechanism.target is None else await self._name(mechanism.target, domain)
        if target is None:
            return False
        match mechanism.kind:
            case Kind.INCLUDE:
                return await self._included(target)
            case Kind.A:
                return await self._lookups.has_address(target, mechanism.bits4, mechanism.bits6)
            case Kind.MX:
                return await self._lookups.has_exchanger(target, mechanism.bits4, mechanism.bits6)
            case Kind.EXISTS:
                return await self._lookups.exists(target)
            case _:
                return await self._lookups.has_name_under(target)

    async def _included(self, domain: str) -> bool:
        """Section 5.2: only a pass is a match; errors are errors here too."""
        decision = await self.host(domain)
        if decision.word is SpfWord.NONE:
            raise Ended(SpfWord.PERMERROR, f"include of {domain}, which has no SPF record")
        return decision.word is SpfWord.PASS

    async def _name(self, target: MacroText, domain: str) -> str | None:
        if len(target) == 1 and isinstance(target[0], str):
            return expand_name(target, self._facts)
        return expand_name(target, await self._facts_at(target, domain))

    async def _facts_at(self, text: MacroText, domain: str) -> Facts:
        name = await self._lookups.validated_name(domain) if "p" in letters(text) else self._facts.validated_name
        return msgspec.structs.replace(self._facts, domain=domain, validated_name=name)

    async def explain(self, decision: _Decision) -> str:
        """The text for people (section 6.2), "" when it cannot be had: that changes nothing about the result."""
        place = decision.explanation
        name = await self._name(place, decision.domain) if place is not None else None
        text = await self._lookups.explanation(name) if name else None
        if not text or len(text) > EXPLANATION_OCTETS or not text.isascii():
            return ""
        written = text.decode("ascii")
        if not written.isprintable():
            return ""
        try:
            pieces = parse_macros(written, explains=True)
        except MacroError:
            return ""
        return expand_text(pieces, await self._facts_at(pieces, decision.domain))
