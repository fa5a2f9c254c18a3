"""SPF checks beyond the public suite: who is asked about, what is counted, what hostile records cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec
import pytest

from staffetta.dns.resolver import Answer, Lookup, RecordKind, Unavailable
from staffetta.dns.table import TableResolver, Texts
from staffetta.mailauth.asking import QUERIES, Asker
from staffetta.mailauth.results import SpfResult, SpfWord
from staffetta.mailauth.spf.check import EXPLANATION_OCTETS, SpfQuestion, check_helo, check_spf
from staffetta.mailauth.spf.macros import TEXT_OCTETS

QUESTION = SpfQuestion("192.0.2.3", "mail.example.com", "bob", "example.com", "mx.receiver.example", 1234567890.0)

Table = Mapping[str, Texts | Lookup]


def ask(table: Table, **changes: str) -> tuple[SpfResult, TableResolver]:
    resolver = TableResolver(table)
    question = msgspec.structs.replace(QUESTION, **changes)
    return asyncio.run(check_spf(Asker(resolver, lambda: 0.0), question)), resolver


def spf(record: str, **others: list[str]) -> Texts:
    return {"TXT": [record], **others}


def asked(resolver: TableResolver) -> int:
    return sum(resolver.asked.values())


# Who is asked about


def test_the_null_path_is_postmaster_at_the_helo_name() -> None:
    table = {
        "mail.example.com": spf("v=spf1 exists:%{l}.%{o}.x -all"),
        "postmaster.mail.example.com.x": {"A": ["127.0.0.2"]},
    }
    result, _ = ask(table, sender_domain="", sender_local_part="")
    assert (result.word, result.domain) == (SpfWord.PASS, "mail.example.com")


@pytest.mark.parametrize(
    "helo", ["mailhost", "[192.0.2.3]", "[IPv6:2001:db8::1]", "192.0.2.3", "", ".", "..", "a..b", "x" * 64 + ".y"]
)
def test_a_helo_that_is_no_domain_is_none(helo: str) -> None:
    resolver = TableResolver({})
    result = asyncio.run(check_helo(resolver, msgspec.structs.replace(QUESTION, helo=helo)))
    assert result.word is SpfWord.NONE


def test_helo_is_asked_for_itself() -> None:
    resolver = TableResolver({"mail.example.com": spf("v=spf1 a -all", A=["192.0.2.4"])})
    result = asyncio.run(check_helo(resolver, QUESTION))
    assert result == SpfResult(SpfWord.FAIL, "mail.example.com", "-all")


@pytest.mark.parametrize("domain", ["b\u00fccher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE."])
def test_internationalised_domains_are_asked_as_a_labels(domain: str) -> None:
    result, _ = ask({"xn--bcher-kva.example": spf("v=spf1 ip4:192.0.2.3 -all")}, sender_domain=domain)
    assert (result.word, result.domain) == (SpfWord.PASS, "xn--bcher-kva.example")


@pytest.mark.parametrize("domain", ["\u212aelvin.example", "a\u3002b.example", "\ud800.example", "\u0661.\u0662"])
def test_domains_that_are_none(domain: str) -> None:
    result, resolver = ask({}, sender_domain=domain)
    assert result.word is SpfWord.NONE
    assert asked(resolver) <= 1


@pytest.mark.parametrize(
    ("client", "word"),
    [
        ("192.0.2.3", SpfWord.PASS),
        ("::ffff:192.0.2.3", SpfWord.PASS),
        ("::FFFF:c000:203", SpfWord.PASS),
        ("::192.0.2.3", SpfWord.FAIL),
        ("2001:db8::3", SpfWord.FAIL),
        ("", SpfWord.NONE),
        ("/run/socket", SpfWord.NONE),
        ("192.0.2.03", SpfWord.NONE),
    ],
)
def test_clients(client: str, word: SpfWord) -> None:
    result, _ = ask({"example.com": spf("v=spf1 ip4:192.0.2.3 -all")}, client_address=client)
    assert result.word is word


def test_a_local_part_beyond_ascii_matches_nothing() -> None:
    """RFC 8616 section 4."""
    table = {"example.com": spf("v=spf1 exists:%{l}.example.com ~all"), "*.example.com": {"A": ["127.0.0.2"]}}
    assert ask(table)[0].word is SpfWord.PASS
    assert ask(table, sender_local_part="b\u00f6b")[0].word is SpfWord.SOFTFAIL


# What is said


@pytest.mark.parametrize(
    ("record", "mechanism"),
    [
        ("v=spf1 include:inc.example -all", "include:inc.example"),
        ("v=spf1 redirect=inc.example", "IP4:192.0.2.0/24"),
        ("v=spf1 ?mx -a +all", "+all"),
    ],
)
def test_the_mechanism_that_matched_is_told_as_written(record: str, mechanism: str) -> None:
    table = {
        "example.com": spf(record, MX=["0 ."], A=["192.0.2.9"]),
        "inc.example": spf("v=spf1 IP4:192.0.2.0/24 -all"),
    }
    assert ask(table)[0] == SpfResult(SpfWord.PASS, "example.com", mechanism)


@pytest.mark.parametrize(
    ("table", "word", "problem"),
    [
        (
            {"example.com": spf("v=spf1 moo -all")},
            SpfWord.PERMERROR,
            "SPF record of example.com: moo: no mechanism has that name",
        ),
        ({"example.com": {"TXT": ["v=spf1 -all", "v=spf1 +all"]}}, SpfWord.PERMERROR, "example.com has 2 SPF records"),
        ({"example.com": Unavailable("SERVFAIL")}, SpfWord.TEMPERROR, "TXT of example.com: SERVFAIL"),
        (
            {"example.com": spf("v=spf1 a:broken.example +all"), "broken.example": Unavailable("timeout")},
            SpfWord.TEMPERROR,
            "A of broken.example: timeout",
        ),
        (
            {"example.com": spf("v=spf1 include:no.example +all")},
            SpfWord.PERMERROR,
            "include of no.example, which has no SPF record",
        ),
        (
            {"example.com": spf("v=spf1 redirect=no.example")},
            SpfWord.PERMERROR,
            "redirect to no.example, which has no SPF record",
        ),
        ({"example.com": {"TXT": ["something else"]}}, SpfWord.NONE, ""),
        ({}, SpfWord.NONE, ""),
    ],
)
def test_what_goes_wrong_is_told(table: Table, word: SpfWord, problem: str) -> None:
    assert ask(table)[0] == SpfResult(word, "example.com", problem=problem)


@pytest.mark.parametrize(
    ("text", "local_part", "explanation"),
    [
        ("%{s} may not, %{c}.", "bob", "bob@example.com may not, 192.0.2.3."),
        ("%{l}", "a\r\nSubject: x", "a??Subject: x"),
        ("%{l}", "\x1b]0;x\x07", "?]0;x?"),
        ("%{l}", "\u202egnp.exe", "?gnp.exe"),
        ("%{L}", "a b\r\n", "a%20b%0D%0A"),
        ("no\r\nX-Injected: yes", "bob", ""),
        ("no\x00", "bob", ""),
        ("\x1b[2J", "bob", ""),
        ("\u00fcber", "bob", ""),
        ("50% off", "bob", ""),
        ("x" * TEXT_OCTETS, "bob", "x" * TEXT_OCTETS),
        ("x" * EXPLANATION_OCTETS, "bob", "x" * TEXT_OCTETS),
        ("x" * (EXPLANATION_OCTETS + 1), "bob", ""),
        ("%{p}", "bob", "unknown"),
    ],
)
def test_explanations_are_printable_and_short(text: str, local_part: str, explanation: str) -> None:
    table = {"example.com": spf("v=spf1 -all exp=why.%{d}"), "why.example.com": {"TXT": [text]}}
    result, _ = ask(table, sender_local_part=local_part)
    assert (result.word, result.explanation) == (SpfWord.FAIL, explanation)


@pytest.mark.parametrize("record", ["v=spf1 ~all exp=why.example.com", "v=spf1 include:why.example.com -all"])
def test_only_a_fail_is_explained(record: str) -> None:
    table = {"example.com": spf(record), "why.example.com": {"TXT": ["v=spf1 -all exp=why.example.com"]}}
    result, resolver = ask(table)
    assert result.explanation == ""
    assert resolver.asked["why.example.com", RecordKind.TXT] == (1 if "include" in record else 0)


def test_an_explanation_that_cannot_be_afforded_changes_nothing() -> None:
    table = {"example.com": spf("v=spf1 -all exp=why.example.com"), "why.example.com": {"TXT": ["because"]}}
    resolver = TableResolver(table)
    result = asyncio.run(check_spf(Asker(resolver, lambda: 0.0, queries=1), QUESTION))
    assert result == SpfResult(SpfWord.FAIL, "example.com", "-all")
    assert ask(table)[0].explanation == "because"


# What is counted


@pytest.mark.parametrize(("terms", "word"), [(10, SpfWord.PASS), (11, SpfWord.PERMERROR)])
def test_ten_terms_may_need_the_dns(terms: int, word: SpfWord) -> None:
    table = {"example.com": spf("v=spf1 " + "a " * terms + "+all", A=["192.0.2.9"])}
    assert ask(table)[0].word is word


def test_includes_and_their_terms_count_together() -> None:
    table = {
        "example.com": spf("v=spf1 include:one.example include:two.example +all"),
        "one.example": spf("v=spf1 a a a a ip4:192.0.2.9 -all", A=["192.0.2.9"]),
        "two.example": spf("v=spf1 a a a a redirect=three.example", A=["192.0.2.9"]),
        "three.example": spf("v=spf1 -all"),
    }
    result, _ = ask(table)
    assert (result.word, result.problem) == (SpfWord.PERMERROR, "more than 10 terms need the DNS")
    table["two.example"] = spf("v=spf1 a a a redirect=three.example", A=["192.0.2.9"])
    assert ask(table)[0].word is SpfWord.PASS


@pytest.mark.parametrize(
    ("record", "word"),
    [
        ("v=spf1 a:1.no.example a:2.no.example +all", SpfWord.PASS),
        ("v=spf1 a:1.no.example a:2.no.example a:3.no.example +all", SpfWord.PERMERROR),
        ("v=spf1 a:1.no.example mx:2.no.example exists:3.no.example +all", SpfWord.PERMERROR),
        ("v=spf1 mx mx mx +all", SpfWord.PASS),
        ("v=spf1 ptr ptr ptr +all", SpfWord.PASS),
    ],
)
def test_two_lookups_may_find_nothing(record: str, word: SpfWord) -> None:
    """MX hosts without an address of the client's family, and clients without a name, are not the record's fault."""
    table = {"example.com": spf(record, MX=["1 x.example", "2 y.example", "3 z.example"])}
    assert ask(table)[0].word is word


@pytest.mark.parametrize(("hosts", "word"), [(10, SpfWord.PASS), (11, SpfWord.PERMERROR)])
def test_ten_mx_hosts(hosts: int, word: SpfWord) -> None:
    table: dict[str, Texts | Lookup] = {
        "example.com": spf("v=spf1 mx", MX=[f"{n} mx{n}.example.com" for n in range(hosts)])
    }
    table |= {f"mx{n}.example.com": {"A": [f"192.0.2.{12 - n}"]} for n in range(hosts)}
    assert ask(table)[0].word is word


def test_an_mx_host_that_fails_hides_no_match_of_another() -> None:
    table: dict[str, Texts | Lookup] = {
        "example.com": spf("v=spf1 mx -all", MX=["1 dead.example.com", "2 mx.example.com"]),
        "dead.example.com": Unavailable("timeout"),
        "mx.example.com": {"A": ["192.0.2.3"]},
    }
    assert ask(table)[0].word is SpfWord.PASS
    table["mx.example.com"] = {"A": ["192.0.2.4"]}
    assert ask(table)[0].word is SpfWord.TEMPERROR


def test_addresses_of_mx_hosts_are_asked_for_at_once() -> None:
    class Slow(TableResolver):
        waiting = most = 0

        async def query(self, name: str, kind: RecordKind) -> Lookup:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            await asyncio.sleep(0)
            self.waiting -= 1
            return await super().query(name, kind)

    resolver = Slow({"example.com": spf("v=spf1 mx -all", MX=[f"{n} mx{n}.example.com" for n in range(8)])})
    asyncio.run(check_spf(resolver, QUESTION))
    assert resolver.most == 8


def test_what_is_known_is_asked_without_a_task() -> None:
    class Known(TableResolver):
        def cached(self, name: str, kind: RecordKind) -> Lookup | None:
            return Answer(("192.0.2.3",), 60) if kind is RecordKind.A else None

    resolver = Known({"example.com": spf("v=spf1 mx -all", MX=["1 mx.example.com", "2 mx2.example.com"])})
    assert asyncio.run(check_spf(resolver, QUESTION)).word is SpfWord.PASS
    assert set(resolver.asked) == {("example.com", RecordKind.TXT), ("example.com", RecordKind.MX)}


def test_ten_names_of_the_client_are_looked_at() -> None:
    names = [f"h{n}.example.com" for n in range(12)]
    table: dict[str, Texts | Lookup] = {
        "example.com": spf("v=spf1 ptr exists:%{p}.x ptr:other.example -all"),
        "3.2.0.192.in-addr.arpa": {"PTR": names},
        "h10.example.com": {"A": ["192.0.2.3"]},
    }
    result, resolver = ask(table)
    assert result.word is SpfWord.FAIL
    assert resolver.asked["3.2.0.192.in-addr.arpa", RecordKind.PTR] == 1
    assert sum(resolver.asked[name, RecordKind.A] for name in names) == 10
    table["h9.example.com"] = {"A": ["192.0.2.3"]}
    assert ask(table)[0] == SpfResult(SpfWord.PASS, "example.com", "ptr")


@pytest.mark.parametrize(
    ("proven", "used"),
    [
        (["other.example", "b.example.com", "example.com"], "example.com"),
        (["other.example", "badexample.com", "b.example.com"], "b.example.com"),
        (["other.example", "badexample.com"], "other.example"),
        ([], "unknown"),
    ],
)
def test_the_clients_own_name_is_the_best_there_is(proven: list[str], used: str) -> None:
    """RFC 7208 section 7.3: the domain, then one below it, then any; names that lead elsewhere never."""
    table: dict[str, Texts | Lookup] = {
        "example.com": spf("v=spf1 include:inc.example -all exp=why.example"),
        "inc.example": spf("v=spf1 -all"),
        "why.example": {"TXT": ["%{p}"]},
        "3.2.0.192.in-addr.arpa": {"PTR": ["claimed.example.com", *proven]},
        "claimed.example.com": {"A": ["192.0.2.4"]},
    }
    table |= {name: {"A": ["192.0.2.3"]} for name in proven if name != "example.com"}
    if "example.com" in proven:
        table["example.com"] = {"TXT": ["v=spf1 -all exp=why.example"], "A": ["192.0.2.3"]}
    assert ask(table)[0].explanation == used


def test_the_domain_macro_is_that_of_the_record_it_stands_in() -> None:
    table = {
        "example.com": spf("v=spf1 include:inc.example redirect=red.example"),
        "inc.example": spf("v=spf1 exists:no.%{o} -all"),
        "red.example": spf("v=spf1 exists:%{d}.%{o}.x -all"),
        "red.example.example.com.x": {"A": ["127.0.0.2"]},
    }
    assert ask(table)[0] == SpfResult(SpfWord.PASS, "example.com", "exists:%{d}.%{o}.x")


def test_records_that_are_there_but_unusable_are_not_void() -> None:
    unusable = Answer((), 60, unusable=1)
    table = {"example.com": spf("v=spf1 a:x.example a:x.example mx:x.example ~all"), "x.example": unusable}
    assert ask(table)[0].word is SpfWord.SOFTFAIL


def test_an_explanation_beside_unusable_records_is_not_the_only_one() -> None:
    table: Table = {"example.com": spf("v=spf1 -all exp=x.example"), "x.example": Answer((b"because",), 60, unusable=1)}
    assert ask(table)[0].explanation == ""


def test_a_null_mx_costs_nothing_more() -> None:
    result, resolver = ask({"example.com": spf("v=spf1 mx -all", MX=["0 ."])})
    assert result.word is SpfWord.FAIL
    assert asked(resolver) == 2


def test_names_that_cannot_match_are_not_looked_up() -> None:
    table = {
        "example.com": spf("v=spf1 ptr -all"),
        "3.2.0.192.in-addr.arpa": {"PTR": ["a.other.example", "badexample.com", "b.example.com"]},
        "b.example.com": {"A": ["192.0.2.3"]},
    }
    result, resolver = ask(table)
    assert result.word is SpfWord.PASS
    assert asked(resolver) == 3


# Hostile records: each case with the most questions it may cost

BOMBS: list[tuple[str, dict[str, Texts | Lookup], SpfWord, int]] = [
    ("self-include", {"example.com": spf("v=spf1 include:example.com")}, SpfWord.PERMERROR, 11),
    ("self-redirect", {"example.com": spf("v=spf1 redirect=example.com")}, SpfWord.PERMERROR, 11),
    (
        "mutual redirect",
        {"example.com": spf("v=spf1 redirect=b.example"), "b.example": spf("v=spf1 redirect=example.com")},
        SpfWord.PERMERROR,
        11,
    ),
    (
        "a tree of includes",
        {
            "example.com": spf("v=spf1 include:a.%{d} include:b.%{d}"),
            "*.example.com": spf("v=spf1 include:a.%{d} include:b.%{d}"),
        },
        SpfWord.PERMERROR,
        11,
    ),
    (
        "ten times ten MX hosts",
        {
            "example.com": spf("v=spf1" + "".join(f" mx:m{n}.example" for n in range(10)) + " -all"),
            **{f"m{n}.example": {"MX": [f"{m} h{m}.m{n}.example" for m in range(10)]} for n in range(10)},
        },
        SpfWord.TEMPERROR,
        QUERIES,
    ),
    (
        "macro blow-up",
        {"example.com": spf("v=spf1 exists:" + "%{s}" * 4000 + ".example.com -all")},
        SpfWord.FAIL,
        2,
    ),
    ("64 KB in one TXT", {"example.com": spf("v=spf1 " + "?ip4:192.0.2.9 " * 4300 + "+all")}, SpfWord.PERMERROR, 1),
    (
        "a CNAME circle",
        {"example.com": spf("v=spf1 a:c.example +all"), "c.example": {"CNAME": ["c.example"]}},
        SpfWord.TEMPERROR,
        2,
    ),
    ("a CNAME circle instead of a record", {"example.com": {"CNAME": ["example.com"]}}, SpfWord.TEMPERROR, 1),
    (
        "512 addresses of one name",
        {"example.com": spf("v=spf1 a -all", A=[f"10.0.{n >> 8}.{n & 255}" for n in range(512)])},
        SpfWord.FAIL,
        2,
    ),
    ("512 TXT records", {"example.com": {"TXT": ["v=spf1 -all"] * 512}}, SpfWord.PERMERROR, 1),
    (
        "the explanation explains itself",
        {"example.com": {"TXT": ["v=spf1 -all exp=example.com"]}},
        SpfWord.FAIL,
        2,
    ),
]


@pytest.mark.parametrize(("table", "word", "queries"), [bomb[1:] for bomb in BOMBS], ids=[bomb[0] for bomb in BOMBS])
def test_hostile_records_cost_little(table: dict[str, Texts | Lookup], word: SpfWord, queries: int) -> None:
    start = time.process_time()
    result, resolver = ask(table)
    seconds = time.process_time() - start
    assert result.word is word
    assert asked(resolver) <= queries
    assert seconds < 0.5


def test_large_records_leave_room_for_others() -> None:
    """All answers known and every record as large as may be: the loop turns once for each of them."""
    large = spf("v=spf1 " + "?ip4:198.51.100.0/24 " * 700 + "include:x%{d}")
    resolver = TableResolver({"example.com": large, **{"x" * n + "example.com": large for n in range(1, 12)}})

    async def turns() -> int:
        task = asyncio.create_task(check_spf(resolver, QUESTION))
        count = 0
        while not task.done():
            await asyncio.sleep(0)
            count += 1
        assert (await task).word is SpfWord.PERMERROR
        return count

    assert asyncio.run(turns()) >= 11


def test_a_message_of_both_identities_stays_within_its_questions() -> None:
    table = dict(BOMBS[4][1])
    table["mail.example.com"] = table["example.com"]
    resolver = TableResolver(table)
    asker = Asker(resolver, lambda: 0.0)

    async def both() -> tuple[SpfResult, SpfResult]:
        return await check_helo(asker, QUESTION), await check_spf(asker, QUESTION)

    assert [result.word for result in asyncio.run(both())] == [SpfWord.TEMPERROR, SpfWord.TEMPERROR]
    assert asked(resolver) == QUERIES


def test_time_that_is_up_is_a_temporary_error() -> None:
    resolver = TableResolver({"example.com": spf("v=spf1 a +all", A=["192.0.2.9"])})
    hours = iter([0.0, 0.0, 30.0])
    result = asyncio.run(check_spf(Asker(resolver, lambda: next(hours)), QUESTION))
    assert result.word is SpfWord.TEMPERROR
    assert asked(resolver) == 1
