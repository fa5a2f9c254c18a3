"""Whose message is it? The policy page as a table, the tricks of spoofers, and the number of questions asked."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from staffetta.dns.resolver import Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mailauth.dmarc.evaluate import AUTHOR_DOMAINS, DmarcFacts, check_dmarc
from staffetta.mailauth.results import DkimResult, DmarcPolicy, DmarcResult, SpfResult, SpfWord, Word
from staffetta.message.authorship import identity_facts
from staffetta.message.header import Header

ZONES: dict[str, str] = {
    "strong.example": "p=reject",
    "strict.example": "p=reject; adkim=s; aspf=s",
    "soft.example": "p=quarantine",
    "watch.example": "p=none; rua=mailto:d@watch.example",
    "tree.example": "p=reject; sp=quarantine; np=none",
    "closed.example": "p=none; sp=quarantine; np=reject",
    "trial.example": "p=reject; t=y",
    "trial2.example": "p=quarantine; t=y; sp=reject",
    "trial3.example": "p=none; t=y",
    "typo.example": "p=rejct",
    "typo2.example": "p=reject; sp=all; rua=mailto:d@typo2.example",
    "two.example": "p=reject / p=none",
    "suffix.example": "p=reject; psd=y; np=reject; sp=none",
    "down.example": "DOWN",
    "own.strong.example": "p=none",
    "cut.strong.example": "p=none; psd=n",
    "mail.hidden.example": "p=reject",
    "hidden.example": "DOWN",
}
NAMES = ["mail.tree.example", "mail.closed.example", "a.suffix.example", "b.suffix.example", "plain.example"]


def resolver() -> TableResolver:
    table = TableResolver({name: {"A": ["192.0.2.1"]} for name in NAMES})
    for domain, tags in ZONES.items():
        table.put(domain, {"A": ["192.0.2.1"]})
        if tags == "DOWN":
            table.put(f"_dmarc.{domain}", Unavailable("SERVFAIL"))
        else:
            table.put(f"_dmarc.{domain}", {"TXT": [f"v=DMARC1; {text}" for text in tags.split(" / ")]})
    table.put("lost.closed.example", Unavailable("SERVFAIL"))
    return table


def spf(text: str) -> SpfResult | None:
    word, _, domain = text.partition(" ")
    return SpfResult(SpfWord(word), domain) if text else None


def dkim(text: str) -> tuple[DkimResult, ...]:
    found = []
    for one in filter(None, text.split(", ")):
        word, domain, *flags = one.split(" ")
        found.append(DkimResult(Word(word), domain, body_limited="l=" in flags, testing="t=y" in flags))
    return tuple(found)


def check(header: bytes, spf_text: str = "", dkim_text: str = "") -> tuple[DmarcResult, int]:
    table = resolver()
    facts = DmarcFacts(identity_facts(Header(header)), spf=spf(spf_text), dkim=dkim(dkim_text))
    return asyncio.run(check_dmarc(table, facts)), sum(table.asked.values())


# From domain, SPF, DKIM; the result, the policy, what agreed, and the questions.
PAGE = [
    # -- nothing is published
    ("plain.example", "pass plain.example", "", "none", "none", "", 2),
    ("very.deep.plain.example", "", "", "none", "none", "", 4),
    ("two.example", "", "", "none", "none", "", 2),
    ("typo.example", "", "", "none", "none", "", 1),
    # -- proven by the domain itself: one question
    ("strong.example", "pass strong.example", "", "pass", "reject", "spf", 1),
    ("strong.example", "", "pass strong.example", "pass", "reject", "dkim", 1),
    ("strong.example", "pass strong.example", "pass strong.example", "pass", "reject", "spf dkim", 1),
    ("strong.example", "fail strong.example", "fail strong.example, pass strong.example", "pass", "reject", "dkim", 1),
    ("STRONG.example", "pass Strong.Example", "", "pass", "reject", "spf", 1),
    # -- proven by its organization: relaxed is the default
    ("strong.example", "pass bounce.strong.example", "", "pass", "reject", "spf", 3),
    ("mail.strong.example", "", "pass strong.example", "pass", "reject", "dkim", 3),
    ("a.strong.example", "", "pass b.strong.example", "pass", "reject", "dkim", 4),
    ("strict.example", "pass bounce.strict.example", "pass mail.strict.example", "fail", "reject", "", 1),
    ("strict.example", "pass strict.example", "", "pass", "reject", "spf", 1),
    ("own.strong.example", "pass strong.example", "", "pass", "none", "spf", 3),
    # -- a part of the tree that calls itself an organization is one
    ("strong.example", "pass cut.strong.example", "", "fail", "reject", "", 3),
    ("cut.strong.example", "pass strong.example", "", "fail", "none", "", 1),
    # -- proven by somebody else, or by nobody
    ("strong.example", "", "", "fail", "reject", "", 1),
    ("strong.example", "pass evil.test", "pass evil.test", "fail", "reject", "", 1),
    ("strong.example", "pass evil.example", "pass evil.example", "fail", "reject", "", 2),
    ("strong.example", "pass notstrong.example", "", "fail", "reject", "", 2),
    ("strong.example", "softfail strong.example", "neutral strong.example", "fail", "reject", "", 1),
    ("strong.example", "neutral strong.example", "policy strong.example", "fail", "reject", "", 1),
    ("soft.example", "fail soft.example", "", "fail", "quarantine", "", 1),
    ("watch.example", "", "", "fail", "none", "", 1),
    # -- an `l=` signature lets anybody add the rest; a key in test mode is a key
    ("strong.example", "", "pass strong.example l=", "fail", "reject", "", 1),
    ("strong.example", "", "pass strong.example l=, pass strong.example", "pass", "reject", "dkim", 1),
    ("strong.example", "", "pass strong.example t=y", "pass", "reject", "dkim", 1),
    # -- subdomains: sp where they exist, np where they do not
    ("tree.example", "", "", "fail", "reject", "", 1),
    ("mail.tree.example", "", "", "fail", "quarantine", "", 4),
    ("no.tree.example", "", "", "fail", "none", "", 4),
    ("mail.closed.example", "", "", "fail", "quarantine", "", 4),
    ("no.closed.example", "", "", "fail", "reject", "", 4),
    ("no.strong.example", "", "", "fail", "reject", "", 3),
    ("own.strong.example", "", "", "fail", "none", "", 1),
    ("lost.closed.example", "", "", "temperror", "reject", "", 4),
    # -- public suffixes: neighbours are strangers
    ("a.suffix.example", "pass b.suffix.example", "pass b.suffix.example", "fail", "none", "", 4),
    ("a.suffix.example", "pass suffix.example", "", "fail", "none", "", 4),
    ("no.suffix.example", "", "", "fail", "reject", "", 4),
    ("a.suffix.example", "pass mail.a.suffix.example", "", "pass", "none", "spf", 4),
    # -- t=y asks for one step less
    ("trial.example", "", "", "fail", "quarantine", "", 1),
    ("trial2.example", "", "", "fail", "none", "", 1),
    ("x.trial2.example", "", "", "fail", "quarantine", "", 3),
    ("trial3.example", "", "", "fail", "none", "", 1),
    # -- a broken policy with reports means none
    ("typo2.example", "", "", "fail", "none", "", 1),
    # -- the DNS does not answer: never "none", never "fail"
    ("down.example", "", "", "temperror", "none", "", 1),
    ("down.example", "pass down.example", "", "temperror", "none", "spf", 1),
    ("down.example", "pass mail.down.example", "", "temperror", "none", "", 1),
    ("mail.down.example", "", "", "temperror", "none", "", 3),
    ("strong.example", "temperror strong.example", "", "temperror", "reject", "", 1),
    ("strong.example", "", "temperror strong.example", "temperror", "reject", "", 1),
    ("strong.example", "", "temperror mail.strong.example", "temperror", "reject", "", 3),
    ("mail.hidden.example", "", "pass hidden.example", "temperror", "reject", "", 3),
    ("mail.hidden.example", "", "pass mail.hidden.example", "pass", "reject", "dkim", 1),
    # -- but where the answer changes nothing, it is not waited for
    ("strong.example", "temperror evil.test", "temperror evil.example", "fail", "reject", "", 2),
    ("mail.hidden.example", "", "pass evil.example", "fail", "reject", "", 3),
    ("strong.example", "", "temperror a.b.strong.example, pass mail.strong.example", "pass", "reject", "dkim", 3),
    ("strict.example", "temperror mail.strict.example", "", "fail", "reject", "", 1),
    ("strong.example", "temperror strong.example", "pass strong.example", "pass", "reject", "dkim", 1),
    ("strong.example", "", "temperror strong.example, pass mail.strong.example", "pass", "reject", "dkim", 3),
]


@pytest.mark.parametrize(
    ("domain", "spf_text", "dkim_text", "word", "policy", "aligned", "queries"),
    PAGE,
    ids=[" | ".join(row[:4]) for row in PAGE],
)
def test_page(domain: str, spf_text: str, dkim_text: str, word: str, policy: str, aligned: str, queries: int) -> None:
    result, asked = check(f"From: A <a@{domain}>\r\n".encode(), spf_text, dkim_text)
    assert (result.word, result.policy, " ".join(result.aligned_by)) == (word, policy, aligned), result
    assert asked == queries
    assert result.domain == domain.lower()
    assert result.author_problem == ""
    assert bool(result.problem) >= (result.word is Word.TEMPERROR)


def test_a_broken_policy_is_told_apart_from_none() -> None:
    result, _ = check(b"From: a@typo.example\r\n")
    assert (result.word, result.policy_domain) == (Word.NONE, "typo.example")
    assert "no valid policy" in result.problem


def test_only_the_path_of_the_envelope_counts_not_helo() -> None:
    table = resolver()
    facts = DmarcFacts(
        identity_facts(Header(b"From: a@strong.example\r\n")),
        spf=SpfResult(SpfWord.NONE, "nobody.strong.example"),
        helo=SpfResult(SpfWord.PASS, "strong.example"),
    )
    assert asyncio.run(check_dmarc(table, facts)).word is Word.FAIL


def test_an_author_without_a_domain_name_has_no_policy() -> None:
    result, asked = check(b"From: a@[192.0.2.1]\r\n", "pass strong.example", "pass strong.example")
    assert (result.word, asked) == (Word.NONE, 0)


def test_what_is_published_goes_into_the_result() -> None:
    result, _ = check(b"From: a@no.closed.example\r\n")
    assert result.policy_domain == "closed.example"
    assert result.published == (
        ("p", "none"),
        ("sp", "quarantine"),
        ("np", "reject"),
        ("adkim", "r"),
        ("aspf", "r"),
    )
    assert check(b"From: a@trial.example\r\n")[0].testing


# The spoofer owns evil.test and proves it by SPF and DKIM; the victim is strong.example (reject) or soft (quarantine).
SPOOFS = {
    "two fields, victim first": (b"From: a@strong.example\r\nFrom: x@evil.test\r\n", "fail", "reject"),
    "two fields, victim last": (b"From: x@evil.test\r\nFrom: a@strong.example\r\n", "fail", "reject"),
    "two addresses": (b"From: x@evil.test, a@strong.example\r\n", "fail", "reject"),
    "a soft and a strong victim": (b"From: a@soft.example, a@strong.example\r\n", "fail", "reject"),
    "a victim that only watches": (b"From: x@evil.test, a@watch.example\r\n", "fail", "none"),
    "a victim that the DNS hides": (b"From: a@down.example, a@watch.example\r\n", "temperror", "none"),
    "a hidden victim beside a strong one": (b"From: a@down.example, a@strong.example\r\n", "fail", "reject"),
    "a space before the colon": (b"From : a@strong.example\r\nFrom: x@evil.test\r\n", "fail", "reject"),
    "a space before the name": (b" From: a@strong.example\r\nFrom: x@evil.test\r\n", "fail", "reject"),
    "a folded name": (b"From\r\n : a@strong.example\r\nFrom: x@evil.test\r\n", "fail", "reject"),
    "a control character in the name": (b"Fr\0om: a@strong.example\r\nFrom: x@evil.test\r\n", "fail", "reject"),
    "on a continuation line": (b"Subject: x\r\n From: a@strong.example\r\nFrom: x@evil.test\r\n", "permerror", "none"),
    "behind a bare line feed": (b"To: b\nFrom: a@strong.example\r\nFrom: x@evil.test\r\n", "permerror", "none"),
    "after a blank line that is none": (b"To: b\r\n \r\nFrom: a@strong.example\r\n", "fail", "reject"),
    "no From": (b"Sender: a@strong.example\r\nResent-From: a@strong.example\r\n", "permerror", "none"),
    "nothing": (b"", "permerror", "none"),
    "an encoded address": (b"From: =?utf-8?q?a=40strong.example?=\r\n", "fail", "reject"),
    "a source route": (b"From: <@evil.test:a@strong.example>\r\n", "fail", "reject"),
    "a route the other way": (b"From: <@strong.example:x@evil.test>\r\n", "permerror", "none"),
    "a quoted pair with a comma": (b"From: <a@strong.example\\,x@evil.test>\r\n", "fail", "reject"),
    "two addresses without a comma": (b"From: a@strong.example <x@evil.test>\r\n", "fail", "reject"),
    "text after the bracket": (b"From: <x@evil.test>a@strong.example\r\n", "fail", "reject"),
    "a comment with an address": (b"From: x@evil.test (<a@strong.example>)\r\n", "fail", "reject"),
    "a group": (b"From: a@strong.example: x@evil.test;\r\n", "fail", "reject"),
    "an old character set, and an address in the name": (
        b'From: "caf\xe9 v@strong.example" <x@evil.test>\r\n',
        "permerror",
        "none",
    ),
    "an empty group": (b"From: Team:;\r\n", "permerror", "none"),
    "a NUL": (b"From: a@strong.example\0 <x@evil.test>\r\n", "fail", "reject"),
}


@pytest.mark.parametrize(("header", "word", "policy"), SPOOFS.values(), ids=SPOOFS.keys())
def test_spoofs_never_pass(header: bytes, word: str, policy: str) -> None:
    result, asked = check(header, "pass evil.test", "pass evil.test")
    assert (result.word, result.policy) == (word, policy), result
    assert result.author_problem
    assert result.aligned_by == () or result.word is not Word.TEMPERROR
    assert asked <= 8


@pytest.mark.parametrize("header", [header for header, *_ in SPOOFS.values()], ids=SPOOFS.keys())
def test_an_unclear_author_never_passes_even_if_all_is_proven(header: bytes) -> None:
    proofs = "pass strong.example, pass evil.test, pass soft.example, pass watch.example, pass down.example"
    result, _ = check(header, "pass strong.example", proofs)
    assert result.word is not Word.PASS


def test_the_policy_of_a_domain_that_passes_does_not_count() -> None:
    result, _ = check(b"From: a@strong.example, b@watch.example\r\n", "", "pass strong.example")
    assert (result.word, result.policy, result.domain) == (Word.FAIL, DmarcPolicy.NONE, "watch.example")


def test_two_authors_of_one_domain_do_not_pass_either() -> None:
    result, asked = check(b"From: a@strong.example, b@strong.example\r\n", "pass strong.example")
    assert (result.word, asked) == (Word.PERMERROR, 1)


def test_many_domains_in_one_from_are_not_all_asked() -> None:
    names = ", ".join([f"a@d{n}.watch.example" for n in range(AUTHOR_DOMAINS)] + ["v@strong.example"])
    result, asked = check(f"From: {names}\r\n".encode())
    assert result.word is Word.PERMERROR
    assert asked <= 3 * AUTHOR_DOMAINS
    first = f"From: v@strong.example, {names}\r\n".encode()
    assert check(first)[0].policy is DmarcPolicy.REJECT


def test_a_sender_with_many_signatures_asks_a_bounded_number() -> None:
    deep = ".".join("abcdefgh")
    signatures = ", ".join([f"pass {letter}.{deep}.strong.example" for letter in "ijklmnop"])
    result, asked = check(b"From: a@strong.example\r\n", "", signatures)
    assert result.word is Word.PASS
    assert asked <= 10
    strangers = ", ".join([f"pass {letter}.{deep}.evil.example" for letter in "ijklmnop"])
    result, asked = check(b"From: a@strong.example\r\n", "", strangers)
    assert (result.word, asked) == (Word.FAIL, 2)


def test_results_are_json() -> None:
    result, _ = check(b"From: a@no.closed.example\r\n")
    assert msgspec.json.decode(msgspec.json.encode(result), type=DmarcResult) == result
