"""No message passes DMARC that shows some honest reader an author whose domain nobody proved (RFC 9989 section 11.5).

Headers are put together from pieces that readers disagree about. The oracle is naive on purpose: it has several
readers, each as simple as programs are, and believes all of them. It shares no code with ours.
"""

from __future__ import annotations

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.dns.table import TableResolver
from staffetta.mailauth.dmarc.evaluate import DmarcFacts, check_dmarc
from staffetta.mailauth.results import Checks, DkimResult, SpfResult, SpfWord, Word
from staffetta.message.authorship import identity_facts
from staffetta.message.header import Header
from staffetta.policy.authentication import (
    AuthenticationFacts,
    AuthenticationSettings,
    Disposition,
    judge_authentication,
)

DOMAINS = ("bank.example", "sub.bank.example", "evil.example", "shop.example", "free.example")
ZONES = {
    "_dmarc.bank.example": {"TXT": ["v=DMARC1; p=reject"]},
    "_dmarc.shop.example": {"TXT": ["v=DMARC1; p=quarantine; adkim=s; aspf=s"]},
    "_dmarc.evil.example": {"TXT": ["v=DMARC1; p=none"]},
    **{domain: {"TXT": ["x"]} for domain in DOMAINS},
}
RESOLVER = TableResolver(ZONES)

address = st.sampled_from(
    [f"ceo@{domain}" for domain in DOMAINS] + ['"a@bank.example"@evil.example', "ceo@[192.0.2.1]"]
)
spaces = st.sampled_from(["", " ", "\r\n ", "\t", "\r\n\t "])
name = st.sampled_from(
    [
        "From",
        "from",
        "FROM",
        "From ",
        "From\t",
        "Fr om",
        "From\r\n ",
        "\x01From",
        "From\x7f",
        "\ufeffFrom",
        "Sender",
        "X-From",
    ]
)
joint = st.sampled_from(
    [", ", " ", ",,", "; ", ": ", " <", "> ", " (", ") ", '" "', "\r\n ,", "\r\nFrom: ", "\r\n From: ", "\\", ""]
)
dressed = st.builds(
    lambda one, form: form.replace("A", one),
    address,
    st.sampled_from(
        [
            "A",
            "<A>",
            "x <A>",
            '"x" <A>',
            "(A)",
            "(x) A",
            "A (x)",
            "g: A;",
            "g: A, A;",
            "<@evil.example:A>",
            '"<A>"',
            "=?utf-8?q?A?=",
        ]
    ),
)
value = st.lists(st.one_of(dressed, joint), min_size=1, max_size=5).map("".join)
field = st.builds(
    lambda n, s, v, t: f"{n}:{s}{v}{t}\r\n", name, spaces, value, spaces.filter(lambda t: "\r\n" not in t)
)
odd = st.sampled_from(
    [
        "Subject: x\r\n",
        " \r\n",
        "no colon\r\n",
        ": x\r\n",
        " From: ceo@bank.example\r\n",
        "Subject: x\r\n\tFrom: ceo@bank.example\r\n",
        "DKIM-Signature: h=\r\n from:a@b\r\n",
    ]
)
any_header = st.lists(st.one_of(field, field, odd), min_size=1, max_size=4).map("".join)
plain = st.just("From: x@evil.example\r\n")
beside = st.one_of(field, odd).flatmap(lambda one: st.permutations(["From: x@evil.example\r\n", one])).map("".join)
within = st.tuples(st.permutations(["x@evil.example", "ceo@bank.example"]), joint, dressed, st.booleans()).map(
    lambda parts: f"From: {parts[0][0]}{parts[1]}{parts[0][1] if parts[3] else parts[2]}\r\n"
)
header = st.one_of(any_header, plain, beside, beside, within, within)
"""Half of them have an author who is proven most of the time, and something that may be another."""

proven = st.one_of(st.just({"evil.example"}), st.sets(st.sampled_from(DOMAINS), max_size=2))

QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
COMMENT = re.compile(r"\([^()]*\)")


def authors(text: str) -> set[str]:
    """The domains that some reader takes for the author's."""
    seen: set[str] = set()
    for line in re.split(r"\r\n(?![ \t])", text):
        called, colon, rest = line.partition(":")
        if not colon or re.sub(r"[\x00-\x20\x7f\ufeff]", "", called).lower() != "from":
            continue
        rest = rest.replace("\r\n", "")
        for reading in (QUOTED.sub("x", rest), COMMENT.sub("", QUOTED.sub("x", rest))):
            bracketed = re.findall(r"<([^<>]*)>", reading)
            for words in (reading, *bracketed):
                seen |= {match.lower() for match in re.findall(r"@([A-Za-z0-9.-]+)", words)}
    # And one that trims lines, so that a continuation may look like a field.
    for line in re.split(r"\r\n", text):
        if line.strip(" \t").lower().startswith("from:") and line[:1] in {" ", "\t"} and "a@b" not in line:
            seen |= {match.lower() for match in re.findall(r"@([A-Za-z0-9.-]+)", line)}
    return seen


def covered(domain: str, spf: set[str], dkim: set[str]) -> bool:
    """Whether a proof speaks for a domain; shop.example is strict, bank.example takes its subdomains for itself."""
    if domain in spf | dkim:
        return True
    family = {"bank.example", "sub.bank.example"}
    return domain in family and bool(family & (spf | dkim))


@settings(max_examples=1500, deadline=None)
@given(header, proven, proven)
def test_nothing_passes_that_shows_an_unproven_author(text: str, spf: set[str], dkim: set[str]) -> None:
    identity = identity_facts(Header(text.encode()))
    facts = DmarcFacts(
        identity,
        SpfResult(SpfWord.PASS, min(spf)) if spf else SpfResult(SpfWord.FAIL, "evil.example"),
        None,
        tuple(DkimResult(Word.PASS, domain, "s") for domain in sorted(dkim)),
    )
    spf = {min(spf)} if spf else set()
    result = asyncio.run(check_dmarc(RESOLVER, facts))
    seen = authors(text)
    if result.word is Word.PASS:
        assert seen, text
        assert all(covered(domain, spf, dkim) for domain in seen), (text, seen, result)
        assert not identity.from_problem
    judgement = judge_authentication(AuthenticationFacts(Checks(dmarc=result)), AuthenticationSettings())
    unproven = {domain for domain in seen if not covered(domain, spf, dkim)}
    if unproven & {"bank.example", "sub.bank.example", "shop.example"}:
        # Whoever claims such a name without a proof gets at best among the junk.
        assert judgement.disposition is not Disposition.ACCEPT, (text, seen, result)
