"""Every case of the public RFC 7208 suite, against a resolver that answers from the scenario's zone data.

Of the zone data: SPF records stand for TXT records unless the name has some; `TXT: NONE` says that it has none;
TIMEOUT is the answer for every type not listed. Unlike the resolvers of the relay this one can ask for names with
spaces, which one case wants.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from staffetta.dns.resolver import LABEL_OCTETS, Answer, Lookup, NoSuchName, Record, RecordKind, Unavailable
from staffetta.dns.table import parse_record
from staffetta.mailauth.results import SpfResult
from staffetta.mailauth.spf.check import SpfQuestion, check_spf

SUITE = Path(__file__).parents[2] / "vectors" / "rfc7208" / "rfc7208-tests.yml"

TIMEOUT = Unavailable("timeout")


def scenarios() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(SUITE.read_bytes()))


def cases() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each case: its name, the case, and the zone data of its scenario."""
    return [(name, case, scenario["zonedata"]) for scenario in scenarios() for name, case in scenario["tests"].items()]


class SuiteResolver:
    """Answers from zone data; suspends before each answer, as a resolver that has to ask does."""

    def __init__(self, zonedata: dict[str, list[Any]]) -> None:
        self.asked: Counter[tuple[str, RecordKind]] = Counter()
        self._names = {name.lower(): entries for name, entries in zonedata.items()}

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        await asyncio.sleep(0)
        wanted = name.lower().removesuffix(".")
        self.asked[wanted, kind] += 1
        for _ in range(8):
            if not all(0 < len(label) <= LABEL_OCTETS for label in wanted.split(".")):
                return NoSuchName()
            entries = self._names.get(wanted)
            if entries is None:
                return NoSuchName()
            aliases = _values(entries, "CNAME")
            if not aliases:
                return _lookup(entries, kind)
            wanted = aliases[0].lower().removesuffix(".")
        return Unavailable("CNAME circle")

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        return None


def _values(entries: list[Any], kind: str) -> list[Any]:
    return [entry[kind] for entry in entries if isinstance(entry, dict) and kind in entry]


def _lookup(entries: list[Any], kind: RecordKind) -> Lookup:
    values = _values(entries, kind.name)
    if kind is RecordKind.TXT and not values:
        values = _values(entries, "SPF")
    values = [value for value in values if value != "NONE"]
    if not values and "TIMEOUT" in entries:
        return TIMEOUT
    return Answer(tuple([_record(kind, value) for value in values]), 60)


def _record(kind: RecordKind, value: Any) -> Record:
    if kind is RecordKind.TXT:
        strings = [value] if isinstance(value, str) else value
        return b"".join([string.encode("utf-8") for string in strings])
    if kind is RecordKind.MX:
        return parse_record(kind, f"{value[0]} {value[1]}")
    return parse_record(kind, value)


def ask(case: dict[str, Any], zonedata: dict[str, list[Any]]) -> SpfResult:
    local_part, _, domain = case["mailfrom"].rpartition("@")
    question = SpfQuestion(case["host"], case["helo"], local_part, domain, "receiver.example", 1e9)
    return asyncio.run(check_spf(SuiteResolver(zonedata), question))


CASES = cases()


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 203


@pytest.mark.parametrize(("name", "case", "zonedata"), CASES, ids=[name for name, _, _ in CASES])
def test_case(name: str, case: dict[str, Any], zonedata: dict[str, list[Any]]) -> None:
    result = ask(case, zonedata)
    allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
    assert result.word in allowed, result
    if "explanation" in case:
        expected = "" if case["explanation"] == "DEFAULT" else case["explanation"]
        assert result.explanation == expected
