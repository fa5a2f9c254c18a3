"""Records inspected without a message: what is counted, what passes, what is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest

from staffetta.dns.resolver import Lookup, RecordKind, Unavailable
from staffetta.dns.table import TableResolver, Texts
from staffetta.mailauth.results import SpfWord
from staffetta.mailauth.spf.count import SpfInspection, inspect_spf, spf_allows
from staffetta.mailauth.spf.walk import COUNTED_TERMS, QUERIES

Table = Mapping[str, Texts | Lookup]


def inspect(record: str, more: Table | None = None, **others: list[str]) -> SpfInspection:
    resolver = TableResolver({"example.com": {"TXT": [record], **others}, **(more or {})})
    return asyncio.run(inspect_spf(resolver, "Example.COM."))


def codes(inspection: SpfInspection) -> list[str]:
    return [problem.code for problem in inspection.problems]


def test_a_whole_inspection() -> None:
    more: Table = {
        "mx.example.com": {"A": ["192.0.2.99"], "AAAA": ["2001:db8::1"]},
        "www.example.com": {"A": ["192.0.2.80"]},
        "_spf.provider.example": {"TXT": ["v=spf1 include:one.%{d} ip4:203.0.113.0/24 ?all"]},
        "one._spf.provider.example": {"TXT": ["v=spf1 ip6:2001:db8:1::/48 -all"]},
    }
    record = (
        "v=spf1 mx a:www.%{o}/28 include:_spf.provider.example ?include:one._spf.provider.example exists:%{i}.x.y ~all"
    )
    inspection = inspect(record, more, MX=["10 mx.example.com"])
    assert inspection == SpfInspection(
        domain="example.com",
        record=record,
        terms=tuple(record.split(" ")[1:]),
        lookups=6,
        voids=0,
        problems=(),
        networks=("192.0.2.80/28", "192.0.2.99/32", "203.0.113.0/24", "2001:db8::1/128", "2001:db8:1::/48"),
        everything=False,
        conditional=("exists:%{i}.x.y",),
        includes=("_spf.provider.example", "one._spf.provider.example"),
        redirects=(),
        final=SpfWord.SOFTFAIL,
    )


@pytest.mark.parametrize(
    ("record", "final", "found"),
    [
        ("v=spf1 -all", SpfWord.FAIL, []),
        ("v=spf1 ?all", SpfWord.NEUTRAL, []),
        ("v=spf1 all", SpfWord.PASS, ["passes_everybody"]),
        ("v=spf1 ip4:192.0.2.1", SpfWord.NEUTRAL, ["no_all"]),
        ("v=spf1 -all ip4:192.0.2.1 moo=1", SpfWord.FAIL, ["unreachable"]),
        ("v=spf1 -all redirect=no.example", SpfWord.FAIL, ["unreachable"]),
        ("v=spf1 ptr -all", SpfWord.FAIL, ["ptr"]),
        ("v=spf1 exists:%{p}.x.y -all", SpfWord.FAIL, ["ptr"]),
        ("v=spf1 a:no.example -all", SpfWord.FAIL, ["void"]),
        ("v=spf1 a:1.no.example mx:2.no.example -all", SpfWord.FAIL, ["void"] * 2),
        (
            "v=spf1 a:1.no.example mx:2.no.example exists:3.no.example -all",
            SpfWord.FAIL,
            ["void"] * 3 + ["too_many_voids"],
        ),
        ("v=spf1 include:no.example -all", SpfWord.FAIL, ["include_without_record"]),
        ("v=spf1 redirect=no.example", SpfWord.PERMERROR, ["include_without_record"]),
        ("v=spf1 redirect=%{l}.no.example", SpfWord.NEUTRAL, []),
        ("v=spf1 include:example.com -all", SpfWord.FAIL, ["loop"]),
        ("v=spf1 redirect=example.com", SpfWord.PERMERROR, ["loop"]),
        ("v=spf1 redirect=strict.example", SpfWord.FAIL, []),
        ("v=spf1 redirect=open.example", SpfWord.PASS, ["passes_everybody"]),
        ("v=spf1 redirect=loose.example", SpfWord.NEUTRAL, ["no_all"]),
        ("v=spf1 include:open.example -all", SpfWord.FAIL, ["passes_everybody"]),
        ("v=spf1 ?include:open.example -all", SpfWord.FAIL, []),
        ("v=spf1 include:strict.example include:loose.example -all", SpfWord.FAIL, []),
        ("v=spf1 include:wrong.example -all", SpfWord.FAIL, ["syntax"]),
        ("v=spf1 include:twice.example -all", SpfWord.FAIL, ["several_records"]),
        ("v=spf1 exists:www.example -all", SpfWord.FAIL, ["passes_everybody"]),
        ("v=spf1 a a a a a a a a a a -all", SpfWord.FAIL, []),
        ("v=spf1 a a a a a a a a a a a -all", SpfWord.FAIL, ["too_many_lookups"]),
        ("v=spf1 moo ip4:1 -all", SpfWord.PERMERROR, ["syntax", "syntax"]),
        ("v=spf1 mx:many.example -all", SpfWord.FAIL, ["too_many_mx"]),
    ],
)
def test_findings(record: str, final: SpfWord, found: list[str]) -> None:
    more: Table = {
        "strict.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
        "loose.example": {"TXT": ["v=spf1 ip4:192.0.2.1"]},
        "open.example": {"TXT": ["v=spf1 +all"]},
        "wrong.example": {"TXT": ["v=spf1 moo"]},
        "twice.example": {"TXT": ["v=spf1 -all", "v=spf1 -all"]},
        "www.example": {"A": ["192.0.2.80"]},
        "many.example": {"MX": [f"{n} mx.example" for n in range(11)]},
    }
    inspection = inspect(record, more, A=["192.0.2.9"])
    assert (inspection.final, codes(inspection)) == (final, found)
    assert inspection.everything is ("passes_everybody" in found)
    assert inspection.error == ""


def test_problems_name_the_record_and_the_term() -> None:
    more: Table = {"inc.example": {"TXT": ["v=spf1 include:no.example a:gone.example ~all"]}}
    found = [(problem.domain, problem.term) for problem in inspect("v=spf1 include:inc.example -all", more).problems]
    assert found == [("inc.example", "include:no.example"), ("inc.example", "a:gone.example")]


@pytest.mark.parametrize(
    ("networks", "everything"),
    [
        ("ip4:0.0.0.0/0", True),
        ("ip4:128.0.0.0/1 ip4:0.0.0.0/2 ip4:64.0.0.0/2", True),
        ("ip4:128.0.0.0/1 ip4:0.0.0.0/2 ip4:64.0.0.0/3", False),
        ("ip6:::/0", True),
        ("ip6:::/1 ip4:0.0.0.0/1", False),
        ("a/0", True),
        ("-ip4:0.0.0.0/0", False),
    ],
)
def test_everything(networks: str, everything: bool) -> None:
    assert inspect(f"v=spf1 {networks} -all", A=["192.0.2.9"]).everything is everything


@pytest.mark.parametrize(
    ("entry", "found", "final"),
    [
        (None, ["no_record"], SpfWord.NONE),
        ({"TXT": ["hello", "v=spf10"]}, ["no_record"], SpfWord.NONE),
        ({"TXT": ["v=spf1 -all", "V=SPF1"]}, ["several_records"], SpfWord.PERMERROR),
        (Unavailable("SERVFAIL"), [], SpfWord.TEMPERROR),
    ],
)
def test_no_record(entry: Texts | Lookup | None, found: list[str], final: SpfWord) -> None:
    resolver = TableResolver({} if entry is None else {"example.com": entry})
    inspection = asyncio.run(inspect_spf(resolver, "example.com"))
    assert (codes(inspection), inspection.final, inspection.record) == (found, final, "")
    assert inspection.error == ("TXT of example.com: SERVFAIL" if final is SpfWord.TEMPERROR else "")


@pytest.mark.parametrize("domain", ["", "localhost", "[192.0.2.1]", "192.0.2.1", "\u2028.example"])
def test_what_is_no_domain_is_not_asked_for(domain: str) -> None:
    resolver = TableResolver({})
    assert codes(asyncio.run(inspect_spf(resolver, domain))) == ["no_record"]
    assert not resolver.asked


def test_a_lookup_that_fails_is_an_error_and_no_finding() -> None:
    more = {"broken.example": Unavailable("timeout")}
    inspection = inspect(
        "v=spf1 include:broken.example a:broken.example mx:broken.example exists:broken.example -all", more
    )
    assert (codes(inspection), inspection.error) == ([], "TXT of broken.example: timeout")
    assert (inspection.lookups, inspection.voids, inspection.final) == (4, 0, SpfWord.FAIL)


def test_what_one_record_needs_is_asked_for_once_and_at_once() -> None:
    class Slow(TableResolver):
        waiting = most = 0

        async def query(self, name: str, kind: RecordKind) -> Lookup:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            await asyncio.sleep(0)
            self.waiting -= 1
            return await super().query(name, kind)

    table: Table = {
        "example.com": {"TXT": ["v=spf1 a a:x.example include:y.example include:y.example redirect=y.example"]},
        "y.example": {"TXT": ["v=spf1 a:x.example -all"]},
    }
    resolver = Slow(table)
    inspection = asyncio.run(inspect_spf(resolver, "example.com"))
    assert resolver.most == 5
    assert max(resolver.asked.values()) == 1
    assert inspection.lookups == 8


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 include:a.%{d} include:b.%{d}",
        "v=spf1 redirect=a.%{d}",
        "v=spf1" + " include:a.%{d} a:%{d} mx:%{d}" * 300,
        "v=spf1" + " mx:%{d}" * 50,
        "v=spf1" + "".join(f" mx:m{n}.%{{d}}" for n in range(300)),
        "v=spf1" + " -all" * 1000,
    ],
)
def test_hostile_records_cost_little(record: str) -> None:
    entry = {"TXT": [record], "MX": [f"{n} h{n}.example.com" for n in range(40)], "A": ["192.0.2.1"]}
    resolver = TableResolver({"example.com": entry, "*.example.com": entry})
    start = time.process_time()
    inspection = asyncio.run(inspect_spf(resolver, "example.com"))
    assert time.process_time() - start < 1
    assert inspection.lookups <= COUNTED_TERMS
    assert sum(resolver.asked.values()) <= QUERIES
    assert len(inspection.problems) < 300


def test_questions_end_even_where_terms_are_few() -> None:
    table: dict[str, Texts | Lookup] = {
        "example.com": {
            "TXT": ["v=spf1" + "".join(f" mx:m{n}.example" for n in range(40)) + " redirect=unasked.example"]
        }
    }
    table |= {f"m{n}.example": {"MX": [f"{m} h{m}.m{n}.example" for m in range(10)]} for n in range(40)}
    resolver = TableResolver(table)
    inspection = asyncio.run(inspect_spf(resolver, "example.com"))
    assert sum(resolver.asked.values()) == QUERIES
    assert "more DNS queries than" in inspection.error


def test_a_redirect_that_is_never_followed_is_not_asked_for() -> None:
    resolver = TableResolver({"example.com": {"TXT": ["v=spf1 redirect=no.example -all"]}})
    asyncio.run(inspect_spf(resolver, "example.com"))
    assert sum(resolver.asked.values()) == 1


def test_forecast() -> None:
    resolver = TableResolver({"example.com": {"TXT": ["v=spf1 ip4:192.0.2.0/24 exists:%{l}.%{h}.x ~all"]}})

    async def ask(address: str) -> tuple[SpfWord, str]:
        result = await spf_allows(resolver, "example.com", address)
        return result.word, result.mechanism

    assert asyncio.run(ask("192.0.2.7")) == (SpfWord.PASS, "ip4:192.0.2.0/24")
    assert asyncio.run(ask("::ffff:192.0.2.7")) == (SpfWord.PASS, "ip4:192.0.2.0/24")
    assert asyncio.run(ask("198.51.100.7")) == (SpfWord.SOFTFAIL, "~all")
