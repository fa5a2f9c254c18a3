"""What a receiver will conclude of mail before it is sent: SPF for the addresses it leaves from, the DKIM keys that
will sign, and DMARC by what the author's domain publishes.

RFC 7208, RFC 6376, RFC 9989. The last word is `check_dmarc`, the very code that judges mail from strangers: what is
not known enters it as a temporary error, so that it says "unknown" only where the unknown could change something.
Asking and concluding are apart: `gather` asks, `conclude` is a pure function.
This module refuses to know what follows from a forecast, and does not bound the asking: that is the resolver's
(`mailauth.asking.Asker`).
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from staffetta.dns.mx import find_addresses
from staffetta.dns.resolver import Answer, Lookup, RecordKind, Resolver, Unavailable
from staffetta.mail.address import Mailbox
from staffetta.mail.domain import DomainError, parse_domain
from staffetta.mailauth.dkim.publication import Publication, Published, compare
from staffetta.mailauth.dkim.record import Algorithm, KeyRecord, read_record, record_name, write_record
from staffetta.mailauth.dkim.sign import SigningKey
from staffetta.mailauth.dmarc.evaluate import DmarcFacts, check_dmarc
from staffetta.mailauth.results import DkimResult, DmarcPolicy, DmarcResult, SpfResult, SpfWord, Word
from staffetta.mailauth.spf.check import POSTMASTER, SpfQuestion, check_spf
from staffetta.message.authorship import HeaderIdentity

ADDRESSES: Final = 8
"""Most addresses that are checked; a relay with more has a record that names networks, and eight tell enough."""

KEYS: Final = 8
"""Most keys that are looked up. A receiver checks no more signatures either."""

DEPENDS: Final = "depends"
UNKNOWN: Final = "unknown"
PASS: Final = "pass"  # noqa: S105
FAIL: Final = "fail"


class ForecastKey(msgspec.Struct, frozen=True, gc=False):
    """A key that will sign: `d=`, `s=`, `a=`. `value` is its record as it should stand in the DNS; "": unknown, then
    any key of that kind under that name is taken for it."""

    domain: str
    selector: str
    algorithm: Algorithm = Algorithm.RSA_SHA256
    value: str = ""


class ForecastQuestion(msgspec.Struct, frozen=True, gc=False):
    """Mail that is about to leave. Domains are A-labels in lower case; `envelope_domain` "" is the null path.

    `addresses` are those it may leave from. Empty with `via`, the host that passes it on: then what receivers see is
    an address of that host's. May be a key of a cache.
    """

    author_domain: str
    envelope_domain: str
    helo: str
    addresses: tuple[str, ...] = ()
    signing_keys: tuple[ForecastKey, ...] = ()
    via: str = ""


class Forecast(msgspec.Struct, frozen=True, gc=False):
    """What receivers will say. `spf` is a word of RFC 7208, `depends` (on the address it leaves from), or `unknown`.

    `policy` is what the author's domain asks for when DMARC fails. `verdict` is `pass`, `fail` or `unknown`, and
    `sentence` says it whole; text from the DNS in it is not escaped.
    """

    spf: str
    dkim: Word
    dmarc: Word
    policy: DmarcPolicy
    verdict: str
    sentence: str
    aligned_by: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class ForecastFacts(msgspec.Struct, frozen=True, gc=False):
    """What the DNS said: SPF for each address, and each key's record. `via_addresses`: they are those of the next
    host's name, which need not be those it sends from."""

    spf: tuple[tuple[str, SpfResult], ...] = ()
    keys: tuple[tuple[ForecastKey, Publication], ...] = ()
    via_addresses: bool = False


def key_of(key: SigningKey) -> ForecastKey:
    """The public side of a key that signs."""
    return ForecastKey(key.domain, key.selector, key.algorithm, write_record(key.private.public_key()))


async def forecast(resolver: Resolver, question: ForecastQuestion) -> Forecast:
    """What a receiver will conclude. Never raises for what the DNS says."""
    facts = await gather(resolver, question)
    identity = _identity(question.author_domain)
    dmarc = DmarcResult(Word.NONE, problem="there is no author domain")
    if identity is not None:
        given = DmarcFacts(identity, spf=spf_result(facts, question), dkim=tuple(map(_signature, facts.keys)))
        dmarc = await check_dmarc(resolver, given)
    return conclude(question, facts, dmarc)


async def gather(resolver: Resolver, question: ForecastQuestion) -> ForecastFacts:
    """Ask for everything at once but the policy."""
    addresses, via = question.addresses[:ADDRESSES], False
    if not addresses and question.via:
        found = await find_addresses(resolver, question.via)
        addresses, via = (() if isinstance(found, Unavailable) else found[:ADDRESSES]), True
    keys = question.signing_keys[:KEYS]
    spf = asyncio.gather(*[check_spf(resolver, _spf_question(question, address)) for address in addresses])
    published = asyncio.gather(*[_publication(resolver, key) for key in keys])
    results, publications = await asyncio.gather(spf, published)
    return ForecastFacts(
        tuple(zip(addresses, results, strict=True)), tuple(zip(keys, publications, strict=True)), via_addresses=via
    )


def spf_result(facts: ForecastFacts, question: ForecastQuestion) -> SpfResult:
    """SPF of all addresses together: their common word, or a temporary error where it depends or is not known."""
    word = _spf_word(facts)
    same = next((result for _, result in facts.spf if result.word == word), None)
    return same or SpfResult(SpfWord.TEMPERROR, question.envelope_domain or question.helo)


def conclude(question: ForecastQuestion, facts: ForecastFacts, dmarc: DmarcResult) -> Forecast:
    """The forecast, from what was found out."""
    spf, dkim = _spf_word(facts), _dkim_word(facts)
    problems = tuple(_problems(question, facts))
    if dmarc.word is Word.NONE:
        verdict = _without_policy(spf, dkim)
    else:
        # Aligned although the policy is not known now: what it says does not matter then.
        verdict = PASS if dmarc.aligned_by else FAIL if dmarc.word is Word.FAIL else UNKNOWN
    sentence = _sentence(question, dmarc, verdict, problems)
    return Forecast(spf, dkim, dmarc.word, dmarc.policy, verdict, sentence, dmarc.aligned_by, problems)


def _spf_word(facts: ForecastFacts) -> str:
    words = [result.word for _, result in facts.spf]
    if not words:
        return UNKNOWN
    if len(set(words)) == 1 and (not facts.via_addresses or words[0] in {SpfWord.PASS, SpfWord.NONE}):
        return words[0].value  # without a record there is none, whatever the address
    if facts.via_addresses:
        return UNKNOWN
    return DEPENDS if {SpfWord.PASS, SpfWord.TEMPERROR} & set(words) else words[0].value


def _dkim_word(facts: ForecastFacts) -> Word:
    """One signature that holds is enough."""
    words = {_signature(one).word for one in facts.keys}
    order = (Word.PASS, Word.TEMPERROR, Word.PERMERROR)
    return next((word for word in order if word in words), Word.NONE)


def _without_policy(spf: str, dkim: Word) -> str:
    """Nobody asks for anything: large receivers still want one of the two."""
    if spf == SpfWord.PASS or dkim is Word.PASS:
        return PASS
    return UNKNOWN if spf in {UNKNOWN, DEPENDS, SpfWord.TEMPERROR} or dkim is Word.TEMPERROR else FAIL


def _signature(one: tuple[ForecastKey, Publication]) -> DkimResult:
    """The signature as a receiver will find it, if the message arrives as it was signed."""
    key, found = one
    words = {Published.PUBLISHED: Word.PASS, Published.UNKNOWN: Word.TEMPERROR}
    word = words.get(found.state, Word.PERMERROR)
    return DkimResult(word, key.domain, key.selector, algorithm=key.algorithm.value, problem=found.problem)


async def _publication(resolver: Resolver, key: ForecastKey) -> Publication:
    name = record_name(key.selector, key.domain)
    lookup = await resolver.query(name, RecordKind.TXT)
    return compare(key.selector, name, key.value or _published(lookup, key.algorithm), lookup)


def _published(lookup: Lookup, algorithm: Algorithm) -> str:
    """The record that stands there, when it is a key of the right kind."""
    texts = lookup.texts if isinstance(lookup, Answer) else ()
    record = read_record(texts[0]) if texts else None
    return texts[0].decode("latin-1") if isinstance(record, KeyRecord) and record.algorithm is algorithm else ""


def _spf_question(question: ForecastQuestion, address: str) -> SpfQuestion:
    return SpfQuestion(address, question.helo, POSTMASTER, question.envelope_domain, "", 0.0)


def _identity(author_domain: str) -> HeaderIdentity | None:
    try:
        author = Mailbox(POSTMASTER, parse_domain(author_domain))
    except DomainError:
        return None
    return HeaderIdentity(1, (author,), "", (), (), "", (), "")


def _problems(question: ForecastQuestion, facts: ForecastFacts) -> list[str]:
    """What stands in the way, a few words each."""
    said: list[str] = []
    domain = question.envelope_domain or question.helo
    for address, result in facts.spf:
        if result.word is not SpfWord.PASS and not facts.via_addresses:
            why = f" ({result.problem})" if result.problem else f" ({result.mechanism})" if result.mechanism else ""
            said.append(f"SPF of {domain} says {result.word} for {address}{why}")
    if facts.via_addresses and _spf_word(facts) != SpfWord.PASS:
        said.append(f"{question.via} sends from addresses that are not known here: SPF of {domain} has to allow them")
    elif not facts.spf:
        said.append("the address that mail leaves from is not known")
    for _, found in facts.keys:
        if found.state is not Published.PUBLISHED:
            words = {Published.MISSING: "is not published", Published.UNKNOWN: "is not known now"}
            detail = f" ({found.problem})" if found.problem else ""
            said.append(f"the DKIM record {found.name} {words.get(found.state, 'is not our key')}{detail}")
    if not facts.keys:
        said.append("nobody signs it with DKIM")
    return said


def _sentence(question: ForecastQuestion, dmarc: DmarcResult, verdict: str, problems: tuple[str, ...]) -> str:
    author = question.author_domain or "nobody"
    why = f": {'; '.join(problems)}" if problems else ""
    if dmarc.word is Word.NONE:
        return {
            PASS: f"receivers will take it as from {author}, which publishes no DMARC policy",
            FAIL: f"receivers cannot tell that it is from {author}, and large ones refuse such mail{why}",
        }.get(verdict, f"whether receivers take it as from {author} is not certain{why}")
    if verdict == PASS:
        return f"receivers will find that it is from {author}, by {' and '.join(map(str.upper, dmarc.aligned_by))}"
    if verdict == FAIL:
        ends = {
            DmarcPolicy.REJECT: f"refuse it, as {author} asks (p=reject)",
            DmarcPolicy.QUARANTINE: f"put it into Junk, as {author} asks (p=quarantine)",
            DmarcPolicy.NONE: f"distrust it, though {author} asks for nothing (p=none)",
        }
        reasons = problems or (f"neither the envelope nor a signature is of {author}",)
        return f"receivers will {ends[dmarc.policy]}: {'; '.join(reasons)}"
    reason = f"; {dmarc.problem}" if dmarc.problem and not problems else ""
    return f"whether receivers find that it is from {author} is not certain (its policy: {dmarc.policy}){why}{reason}"


__all__ = [
    "DEPENDS",
    "FAIL",
    "PASS",
    "UNKNOWN",
    "Forecast",
    "ForecastFacts",
    "ForecastKey",
    "ForecastQuestion",
    "conclude",
    "forecast",
    "gather",
    "key_of",
    "spf_result",
]
