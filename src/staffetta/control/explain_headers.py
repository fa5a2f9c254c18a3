"""`explain headers`: where a message came from, and what of its header is proven.

The file is read once (explain_headers_file), its trace fields are read from the top (message/received), the boundary
is found (explain_headers_trust), whoever vouches is asked (explain_headers_checks), and one sentence concludes. What
stands below the boundary is a claim and is called one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from staffetta.config.schema import Config
from staffetta.control.answer import Answer, moment
from staffetta.control.explain_headers_author import Facts, Finding, findings_of, shown
from staffetta.control.explain_headers_checks import (
    CheckResult,
    Envelope,
    Question,
    Recorded,
    Signatures,
)
from staffetta.control.explain_headers_file import MailFile
from staffetta.control.explain_headers_trust import Boundary, Trusted, find_boundary, gather_trust
from staffetta.control.explain_headers_verdict import Case, Verdict, conclude
from staffetta.dns.resolver import Resolver
from staffetta.mail.address import AddressError, parse_mailbox
from staffetta.mailauth.ar import check_words
from staffetta.message.authorship import identity_facts
from staffetta.message.header import Header
from staffetta.message.received import Hop, parse_received

HOPS: Final = 200
"""Most Received fields that are read, from the top. Servers refuse mail with more than 50 or 100."""

CLOCK_SECONDS: Final = 120.0
"""Clocks that differ by less are not worth a word."""


class HopReport(msgspec.Struct, frozen=True, gc=False, rename={"from_": "from", "with_": "with", "for_": "for"}):
    """One Received field, the newest first, `index` from 1. `delay_seconds` is the time since the hop below it; None
    where one of the two has no time. `trusted`: it is a fact, not a claim. `problem` is "" or says what is odd."""

    index: int
    by: str
    from_: str
    helo: str
    address: str
    reverse: str
    with_: str
    tls: str
    id: str
    for_: str
    time: datetime | None
    delay_seconds: float | None
    trusted: bool
    problem: str


class HeadersReport(Answer, frozen=True, rename={"from_": "from"}):
    """`explain headers`. `from_` (in JSON `from`) is the address in From, several with commas; `envelope_from` is ""
    for the null path and None when nobody tells it. `checks` has one word for each check, as in the `accept` event;
    `results` tells the same at length, `recorded` what stood in the message. `more_hops` were not read."""

    hops: tuple[HopReport, ...]
    boundary: Boundary
    from_: str
    envelope_from: str | None
    checks: dict[str, str]
    verdict: Verdict
    results: tuple[CheckResult, ...]
    recorded: tuple[Recorded, ...]
    findings: tuple[Finding, ...]
    from_shown: str
    more_hops: int


class Desk(msgspec.Struct, frozen=True):
    """What an explanation needs: whom to ask (None: nobody), whom to believe, and clocks. `clock` gives seconds since
    the epoch, `monotonic` measures spans."""

    resolver: Resolver | None
    given: Trusted
    config: Config | None
    clock: Callable[[], float]
    monotonic: Callable[[], float]


async def explain_headers(mail: MailFile, desk: Desk) -> HeadersReport:
    """Explain one message. Raises NotMail and OSError while the rest of the file is read."""
    header = mail.header
    signatures = Signatures(header)
    for piece in mail.after_header():
        signatures.after_header(piece)
    fields = header.all(b"received")
    hops = tuple(parse_received(field.value) for field in fields[:HOPS])
    trusted = await gather_trust(desk.given, desk.config, desk.resolver)
    boundary = find_boundary(hops, trusted)
    envelope = _envelope(header, hops, boundary)
    handed_at = hops[boundary.index - 1].time if boundary.index else None
    receiver = desk.config.hostname.ascii if desk.config is not None else boundary.by
    now = desk.clock() if handed_at is None else min(handed_at, desk.clock())
    question = Question(header, identity_facts(header), boundary, envelope, trusted, receiver, now)
    asked = await signatures.ask(question, desk.resolver, desk.monotonic)
    findings = findings_of(Facts(header, question.identity, hops, boundary, trusted, envelope, asked))
    case = Case(boundary, question.identity, envelope, asked, findings, handed_at, desk.resolver is not None)
    return _report(header, hops, case, conclude(case), len(fields) - len(hops))


def _report(header: Header, hops: Sequence[Hop], case: Case, verdict: Verdict, more: int) -> HeadersReport:
    asked, boundary = case.asked, case.boundary
    author = header.first(b"from")
    return HeadersReport(
        tuple(_hop(hops, index, boundary) for index in range(len(hops))),
        boundary,
        ", ".join(map(str, case.identity.from_addresses)),
        case.envelope.text,
        check_words(asked.checks),
        verdict,
        asked.results,
        asked.recorded,
        case.findings,
        shown(author.value) if author is not None else "",
        more,
    )


def _hop(hops: Sequence[Hop], index: int, boundary: Boundary) -> HopReport:
    hop = hops[index]
    below = hops[index + 1] if index + 1 < len(hops) else None
    delay = hop.time - below.time if below is not None and hop.time is not None and below.time is not None else None
    problem = hop.problem
    if delay is not None and delay < -CLOCK_SECONDS:
        problem = "; ".join(
            filter(None, (problem, "a clock is wrong, or a time is forged: it is older than the hop below"))
        )
    return HopReport(
        index + 1,
        hop.by,
        hop.name,
        hop.helo,
        hop.address,
        hop.reverse,
        hop.with_,
        hop.tls,
        hop.id,
        hop.for_,
        moment(hop.time) if hop.time is not None else None,
        delay,
        index < boundary.index,
        problem,
    )


def _envelope(header: Header, hops: Sequence[Hop], boundary: Boundary) -> Envelope:
    """The reverse path: Return-Path above the boundary's field, else what that field tells, else Return-Path as a
    claim."""
    trace = header.all(b"received")[: boundary.index]
    place = header.block.find(trace[-1].raw) if trace else 0
    for field in header.all(b"return-path")[:4]:
        fact = bool(trace) and header.block.find(field.raw) < place
        if fact or not boundary.index:
            return _path(field.value.decode("utf-8", "replace"), fact=fact)
        break
    for hop in hops[: boundary.index][::-1]:
        if hop.envelope_from is not None:
            return _path(hop.envelope_from, fact=True)
    claimed = header.first(b"return-path")
    return _path(claimed.value.decode("utf-8", "replace"), fact=False) if claimed is not None else Envelope()


def _path(text: str, *, fact: bool) -> Envelope:
    text = text.strip(" \t<>")
    if not text:
        return Envelope("", None, fact)
    try:
        mailbox = parse_mailbox(text, smtputf8=True)
    except AddressError:
        return Envelope()
    return Envelope(str(mailbox), mailbox, fact)
