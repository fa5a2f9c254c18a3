"""SPF records read: which texts are one, what each term means, and every kind of mistake."""

from __future__ import annotations

import time

import pytest

from staffetta.mailauth.results import SpfWord
from staffetta.mailauth.spf.macros import Macro
from staffetta.mailauth.spf.record import (
    PROBLEMS,
    RECORD_OCTETS,
    TERMS,
    Kind,
    Malformed,
    Mechanism,
    SpfRecord,
    read_spf_record,
    spf_records,
)


def read(text: str) -> SpfRecord:
    record = read_spf_record(text.encode("latin-1"))
    assert isinstance(record, SpfRecord), record
    return record


def one(term: str) -> Mechanism:
    return read(f"v=spf1 {term}").mechanisms[0]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (b"v=spf1", True),
        (b"v=spf1 ", True),
        (b"V=SPF1 -all", True),
        (b"v=spf1\t-all", False),
        (b"v=spf10 -all", False),
        (b" v=spf1 -all", False),
        (b"v=spf2.0/pra -all", False),
        (b"", False),
        (b"\xffv=spf1", False),
    ],
)
def test_which_texts_are_records(text: bytes, is_one: bool) -> None:
    assert bool(spf_records((text,))) is is_one


@pytest.mark.parametrize(
    ("term", "kind", "word"),
    [
        ("all", Kind.ALL, SpfWord.PASS),
        ("+all", Kind.ALL, SpfWord.PASS),
        ("-ALL", Kind.ALL, SpfWord.FAIL),
        ("~a", Kind.A, SpfWord.SOFTFAIL),
        ("?mx", Kind.MX, SpfWord.NEUTRAL),
        ("-Ptr", Kind.PTR, SpfWord.FAIL),
        ("include:a.b", Kind.INCLUDE, SpfWord.PASS),
        ("exists:%{i}.b.c", Kind.EXISTS, SpfWord.PASS),
    ],
)
def test_mechanisms(term: str, kind: Kind, word: SpfWord) -> None:
    mechanism = one(term)
    assert (mechanism.kind, mechanism.result, mechanism.text) == (kind, word, term)


@pytest.mark.parametrize(
    ("term", "network"),
    [
        ("ip4:192.0.2.7", "192.0.2.7/32"),
        ("ip4:192.0.2.7/24", "192.0.2.0/24"),
        ("ip4:1.1.1.1/0", "0.0.0.0/0"),
        ("ip6:2001:DB8::1", "2001:db8::1/128"),
        ("ip6:2001:db8::1/32", "2001:db8::/32"),
        ("ip6:::1.1.1.1/0", "::/0"),
    ],
)
def test_networks(term: str, network: str) -> None:
    assert str(one(term).network) == network


def test_a_mapped_address_stays_ipv6() -> None:
    network = one("ip6:::ffff:192.0.2.1").network
    assert network is not None
    assert (network.version, network.first) == (6, 0xFFFFC0000201)


@pytest.mark.parametrize(
    ("term", "target", "bits4", "bits6"),
    [
        ("a", None, 32, 128),
        ("a/24", None, 24, 128),
        ("a//64", None, 32, 64),
        ("a/24//64", None, 24, 64),
        ("mx:example.com", ("example.com",), 32, 128),
        ("mx:example.com/0//0", ("example.com",), 0, 0),
        ("a:foo:bar/baz.example.com", ("foo:bar/baz.example.com",), 32, 128),
        ("a:a//b/8.example/8", ("a//b/8.example",), 8, 128),
        ("a:%{h}", (Macro("h"),), 32, 128),
        ("a:%{h}/24", (Macro("h"),), 24, 128),
        ("a:%{d2}.x.y.", (Macro("d", 2), ".x.y."), 32, 128),
        ("a:x%%", ("x", "%"), 32, 128),
    ],
)
def test_targets_and_lengths(term: str, target: tuple[str | Macro, ...] | None, bits4: int, bits6: int) -> None:
    mechanism = one(term)
    assert (mechanism.target, mechanism.bits4, mechanism.bits6) == (target, bits4, bits6)


def test_modifiers() -> None:
    record = read("v=spf1 exp=e.%{d} a moo=%{c} redirect=r.example.com moo=2 Op=")
    assert record.redirect == ("r.example.com",)
    assert record.redirect_text == "r.example.com"
    assert record.explanation == ("e.", Macro("d"))
    assert [mechanism.text for mechanism in record.mechanisms] == ["a"]


@pytest.mark.parametrize(
    "term",
    [
        "moo",
        "-",
        "+",
        "++all",
        "all.",
        "all:x.y",
        "all/8",
        "a:",
        "a/",
        "a/33",
        "a//129",
        "a/024",
        "a/24/64",
        "a//64/24",
        "a///64",
        "a/\u0664".encode().decode("latin-1"),
        "a:museum",
        "a:museum.",
        "a:abc.123",
        "a:192.0.2.1",
        "a:example.-com",
        "a:example.com-",
        "a:example.com..",
        "a:%{h}.",
        "a:%{h}com",
        "a:x%%-",
        "a:%",
        "a:%{",
        "a:%{a}",
        "a:%{d0}",
        "a:%{d00}",
        "a:%{d1r2}",
        "a:%{d;}",
        "a:%{c}.x.y",
        "a:%{r}.x.y",
        "a:%{T}.x.y",
        "include",
        "include:",
        "include/8",
        "include:a.b/8",
        "exists",
        "ptr/0",
        "ptr:",
        "ip4",
        "ip4:",
        "ip4:1.2.3",
        "ip4:1.2.3.4/33",
        "ip4:1.2.3.4/032",
        "ip4:1.2.3.4//32",
        "ip4:1.2.3.04",
        "ip4:1.2.3.4:8080",
        "ip4:::1",
        "ip4/8",
        "ip6:1.2.3.4",
        "ip6::CAFE::BABE",
        "ip6:fe80::1%eth0",
        "ip6:::/129",
        "redirect:a.b",
        "redirect=",
        "redirect=-all",
        "exp=",
        "exp=-all",
        "exp=%{c}.x.y",
        "=all",
        "1up=foo",
        "moo/x=y",
        "moo=%abc",
        "moo=%{x}",
        "a\t-all",
        "a\x7f",
        "a:\xe4.example.com",
        "\u017fpf".encode().decode("latin-1"),
        "redirect=a.b redirect=a.b",
        "exp=a.b EXP=a.b",
    ],
)
def test_mistakes(term: str) -> None:
    record = read_spf_record(f"v=spf1 mx {term} -all".encode("latin-1"))
    assert isinstance(record, Malformed)
    assert [problem.term for problem in record.problems] == [term.rpartition(" ")[2]]


def test_all_mistakes_of_a_record_are_named_up_to_a_bound() -> None:
    record = read_spf_record(b"v=spf1 moo a:b ip4:1 -all")
    assert isinstance(record, Malformed)
    assert [str(problem) for problem in record.problems] == [
        "moo: no mechanism has that name",
        "a:b: a domain needs at least two labels",
        "ip4:1: not an IPv4 address",
    ]
    many = read_spf_record(b"v=spf1" + b" moo" * 50)
    assert isinstance(many, Malformed)
    assert len(many.problems) == PROBLEMS


@pytest.mark.parametrize(
    "text",
    [
        b"v=spf1 " + b"a " * (TERMS + 1),
        b"v=spf1 a:" + b"x" * RECORD_OCTETS + b".example.com",
        b"v=spf1 " + b"ip4:192.0.2.1 " * 4700,
    ],
)
def test_records_too_large_to_be_honest_say_nothing(text: bytes) -> None:
    assert isinstance(read_spf_record(text), Malformed)


def test_a_large_record_is_read_whole() -> None:
    record = read("v=spf1 " + "".join(f"ip4:10.{n >> 8}.{n & 255}.0/24 " for n in range(600)) + "-all")
    assert len(record.mechanisms) == 601


@pytest.mark.parametrize(
    "term",
    ["%{", "%{d" + "1" * 30, "a:%{d", "x=%{l.-+,/_=", "/1", "a/1/1", "a//", "ip6::", ".a", "-", "x", "a:x-", "%%"],
)
def test_work_is_linear(term: str) -> None:
    """Sixteen times the octets of a hostile term must not take much more than sixteen times as long."""

    def seconds(octets: int) -> float:
        text = b"v=spf1 a:" + (term.encode() * octets)[:octets]
        best = 1.0
        for _ in range(3):
            start = time.perf_counter()
            read_spf_record(text)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(16_000) < max(48 * seconds(1_000), 0.005)


def test_what_is_remembered_is_the_same() -> None:
    assert read_spf_record(b"v=spf1 a -all") is read_spf_record(b"v=spf1 a -all")
