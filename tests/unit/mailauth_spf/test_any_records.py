"""Any records, any names, any client: a result, no exception, and never more than so many questions."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from staffetta.dns.resolver import Answer, Lookup, MailExchanger, NoSuchName, RecordKind, Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mailauth.results import SpfResult, SpfWord
from staffetta.mailauth.spf.check import SpfQuestion, check_helo, check_spf
from staffetta.mailauth.spf.count import inspect_spf
from staffetta.mailauth.spf.macros import TEXT_OCTETS
from staffetta.mailauth.spf.walk import QUERIES

NAMES = ["a.example", "b.example", "c.example", "x.a.example", "3.2.0.192.in-addr.arpa"]
TERMS = [
    *[
        "all",
        "-all",
        "~all",
        "?all",
        "a",
        "-a",
        "mx",
        "ptr",
        "a/24",
        "mx//64",
        "a/0",
        "?a",
        "~mx",
        "ip4:192.0.2.3",
        "ip6:2001:db8::/32",
        "moo=1",
        "exp=a.example",
    ],
    *[f"{kind}{name}" for kind in ("include:", "redirect=", "a:", "-mx:", "exists:", "ptr:", "exp=") for name in NAMES],
    *[
        "include:%{d2}",
        "exists:%{l}.%{o}",
        "a:%{h}",
        "redirect=x.%{d}",
        "include:%{p}",
        "exists:%{ir}.%{v}.a.example",
        "exp=%{l}.x.y",
    ],
    *["moo", "a:", "ip4:1", "%{", "\x00", "\xff", "a:b.c\r\n", "exists:%{L99r-+}"],
]

MOST_QUESTIONS = 1 + 10 * 11 + 11 + 1
"""A record, ten terms with ten hosts each, the names of the client, an explanation."""

records = st.lists(st.sampled_from(TERMS), max_size=14).map(
    lambda terms: " ".join(["v=spf1", *terms]).encode("latin-1")
)
texts = records | st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"v=spf1 " + tail)
addresses = (
    st.sampled_from(["192.0.2.3", "192.0.2.9", "10.0.0.1"]),
    st.sampled_from(["2001:db8::3", "::1", "::ffff:192.0.2.3"]),
)
hosts = st.sampled_from([*NAMES, ""])


def answers(records: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Lookup]:
    some = st.lists(records, max_size=most).map(lambda found: Answer(tuple(found), 60))
    return some | st.sampled_from([NoSuchName(), Unavailable("SERVFAIL"), Answer((), 60, unusable=1)])


zones = st.fixed_dictionaries(
    {
        **{(name, RecordKind.TXT): records.map(lambda text: Answer((text,), 60)) | answers(texts, 3) for name in NAMES},
        **{(name, RecordKind.A): answers(addresses[0], 3) for name in NAMES},
        **{(name, RecordKind.AAAA): answers(addresses[1], 3) for name in NAMES},
        **{(name, RecordKind.MX): answers(st.builds(MailExchanger, st.integers(0, 9), hosts), 12) for name in NAMES},
        **{(name, RecordKind.PTR): answers(st.sampled_from(NAMES), 12) for name in NAMES},
    }
)
names = st.sampled_from([*NAMES, "A.Example.", "[192.0.2.3]", "mail", ""]) | st.text(max_size=80)
clients = st.sampled_from(["192.0.2.3", "::ffff:192.0.2.3", "2001:db8::3", "10.9.9.9"]) | st.text(max_size=20)


class Zones(TableResolver):
    """Answers to exact questions."""

    def __init__(self, zones: dict[tuple[str, RecordKind], Lookup]) -> None:
        super().__init__({})
        self._zones = zones

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        self.asked[name, kind] += 1
        return self._zones.get((name, kind), NoSuchName())


def judge(result: SpfResult, resolver: Zones) -> None:
    assert sum(resolver.asked.values()) <= MOST_QUESTIONS
    assert len(result.explanation) <= TEXT_OCTETS
    assert result.explanation == "" or (result.explanation.isascii() and result.explanation.isprintable())
    assert bool(result.problem) >= (result.word in (SpfWord.PERMERROR, SpfWord.TEMPERROR))
    assert len(result.problem) < 1000
    if result.explanation:
        assert result.word is SpfWord.FAIL


@given(zones, clients, names, st.text(max_size=80), names)
def test_checks(
    zones: dict[tuple[str, RecordKind], Lookup], client: str, helo: str, local_part: str, domain: str
) -> None:
    question = SpfQuestion(client, helo, local_part, domain, "mx.example.org", 1e9)
    for check in (check_spf, check_helo):
        resolver = Zones(zones)
        judge(asyncio.run(check(resolver, question)), resolver)


@given(zones, names)
def test_inspections(zones: dict[tuple[str, RecordKind], Lookup], domain: str) -> None:
    resolver = Zones(zones)
    inspection = asyncio.run(inspect_spf(resolver, domain))
    assert sum(resolver.asked.values()) <= QUERIES
    assert max(resolver.asked.values(), default=0) <= 1
    if inspection.final is SpfWord.TEMPERROR:
        assert inspection.error
