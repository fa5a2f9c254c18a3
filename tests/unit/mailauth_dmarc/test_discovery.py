"""The walk up the tree: RFC 9989 section 4.10 with its examples, counted query by query."""

from __future__ import annotations

import asyncio

import pytest

from staffetta.dns.resolver import Answer, Lookup, NoSuchName, RecordKind, Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mailauth.dmarc.discovery import Discovery, Failure, Walk, targets


def resolver_of(records: dict[str, str]) -> TableResolver:
    """A resolver with DMARC records: domain to the tags after the version, `DOWN` for a server failure."""
    table = TableResolver({})
    for domain, tags in records.items():
        if tags == "DOWN":
            table.put(f"_dmarc.{domain}", Unavailable("SERVFAIL"))
        else:
            table.put(f"_dmarc.{domain}", {"TXT": [f"v=DMARC1; {text}" for text in tags.split(" / ")]})
    return table


def walk(records: dict[str, str], start: str) -> tuple[Walk, list[str]]:
    resolver = resolver_of(records)
    result = asyncio.run(Discovery(resolver).walk(start))
    assert set(resolver.asked.values()) <= {1}
    return result, [name.removeprefix("_dmarc.") for name, kind in resolver.asked if kind is RecordKind.TXT]


# What is published, where the walk starts; the organizational domain, and whose record applies.
WALKS = {
    "nothing anywhere": ({}, "mail.example.com", "mail.example.com", None),
    "own record, nothing above": ({"example.com": "p=reject"}, "example.com", "example.com", "example.com"),
    "B.4.1: a subdomain without a record": (
        {"example.com": "p=reject"},
        "mail.example.com",
        "example.com",
        "example.com",
    ),
    "4.10.2, first example: the shortest name": (
        {"mail.example.com": "p=none", "example.com": "p=reject"},
        "a.mail.example.com",
        "example.com",
        "example.com",
    ),
    "4.10.2, second example: psd=n stops": (
        {"mail.example.com": "p=none; psd=n", "example.com": "p=reject"},
        "a.mail.example.com",
        "mail.example.com",
        "mail.example.com",
    ),
    "4.10.2, third example: psd=y at the top": ({"com": "p=none; psd=y"}, "a.mail.example.com", "example.com", "com"),
    "one label below psd=y": (
        {"mail.example.com": "p=none", "example.com": "p=reject; psd=y"},
        "mail.example.com",
        "mail.example.com",
        "mail.example.com",
    ),
    "psd=y at the start is no suffix for itself": (
        {"gov.example": "p=reject; psd=y"},
        "gov.example",
        "gov.example",
        "gov.example",
    ),
    "own record, and an organization above": (
        {"mail.example.com": "p=none", "example.com": "p=reject"},
        "mail.example.com",
        "example.com",
        "mail.example.com",
    ),
    "the suffix's record where the organization has none": (
        {"a.b.example.com": "p=none", "com": "p=reject; psd=y"},
        "x.a.b.example.com",
        "example.com",
        "com",
    ),
    "a top-level domain that forgot psd=y is no organization": (
        {"com": "p=reject"},
        "mail.example.com",
        "example.com",
        "com",
    ),
    "a top-level domain of one owner": ({"brand": "p=reject; psd=n"}, "mail.shop.brand", "brand", "brand"),
    "several records at one name are none": (
        {"mail.example.com": "p=reject / p=none", "example.com": "p=quarantine"},
        "mail.example.com",
        "example.com",
        "example.com",
    ),
    "long names jump to seven labels": (
        {"g.h.i.j.mail.example.com": "p=none; psd=n"},
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
    ),
    "what stands in the jump is not seen": (
        {"f.g.h.i.j.mail.example.com": "p=none; psd=n"},
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        None,
    ),
}


@pytest.mark.parametrize(("records", "start", "organization", "applied"), WALKS.values(), ids=WALKS.keys())
def test_walk(records: dict[str, str], start: str, organization: str, applied: str | None) -> None:
    result, _ = walk(records, start)
    assert result.failure == ""
    assert result.organizational_domain == organization
    assert (result.policy.domain if result.policy else None) == applied


def test_the_eight_queries_of_the_standard() -> None:
    _, asked = walk({}, "a.b.c.d.e.f.g.h.i.j.mail.example.com")
    assert asked == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]


@pytest.mark.parametrize("labels", range(1, 127))
def test_never_more_than_eight(labels: int) -> None:
    names = targets(".".join(["x"] * labels))
    assert len(names) == min(labels, 8)
    assert len(set(names)) == len(names)
    assert names[-1] == "x"


def test_a_record_that_says_where_it_stands_ends_the_walk_at_once() -> None:
    for psd in ("y", "n"):
        _, asked = walk({"mail.example.com": f"p=none; psd={psd}", "example.com": "p=none"}, "mail.example.com")
        assert asked == ["mail.example.com"]


FAILURES = {
    "at the start": ({"mail.example.com": "DOWN", "example.com": "p=reject"}, True),
    "above": ({"example.com": "DOWN"}, True),
    "above a record that could be topped": ({"mail.example.com": "p=none", "example.com": "DOWN"}, True),
    "beyond the end of the walk": ({"example.com": "p=none; psd=n", "com": "DOWN"}, False),
}


@pytest.mark.parametrize(("records", "fails"), FAILURES.values(), ids=FAILURES.keys())
def test_failures_stay_failures(records: dict[str, str], fails: bool) -> None:
    result, _ = walk(records, "mail.example.com")
    assert bool(result.failure) is fails


def test_two_walks_ask_each_name_once() -> None:
    resolver = resolver_of({"example.com": "p=none"})

    async def scenario() -> None:
        discovery = Discovery(resolver)
        await discovery.walk("a.example.com")
        await discovery.walk("b.example.com")
        await discovery.walk("a.example.com")

    asyncio.run(scenario())
    assert sum(resolver.asked.values()) == 4


def test_what_is_remembered_is_not_asked_again() -> None:
    class Remembering(TableResolver):
        def cached(self, name: str, kind: RecordKind) -> Lookup | None:
            return {"_dmarc.example.com": Answer((b"v=DMARC1; p=reject",), 60), "_dmarc.com": NoSuchName()}.get(name)

    resolver = Remembering({})
    result = asyncio.run(Discovery(resolver).walk("a.example.com"))
    assert result.organizational_domain == "example.com"
    assert list(resolver.asked) == [("_dmarc.a.example.com", RecordKind.TXT)]


def test_existence() -> None:
    resolver = TableResolver({"example.com": {"A": ["192.0.2.1"]}, "down.example": Unavailable("SERVFAIL")})

    async def scenario() -> None:
        discovery = Discovery(resolver)
        assert await discovery.exists("example.com") is True
        assert await discovery.exists("no.example.com") is False
        assert isinstance(await discovery.exists("down.example"), Failure)

    asyncio.run(scenario())
