"""What a DMARC record says, and what it does not say: RFC 9989 sections 4.7, 4.8 and 4.10."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.mailauth.dmarc.record import RECORD_OCTETS, Record, parse_record, the_record
from staffetta.mailauth.results import DmarcPolicy

NONE, QUARANTINE, REJECT = DmarcPolicy.NONE, DmarcPolicy.QUARANTINE, DmarcPolicy.REJECT

NOT_A_RECORD = {
    "empty": b"",
    "something else": b"v=spf1 -all",
    "the version in lower case": b"v=dmarc1; p=reject",
    "another version": b"v=DMARC2; p=reject",
    "a longer version": b"v=DMARC11; p=reject",
    "the version not first": b"p=reject; v=DMARC1",
    "no semicolon after the version": b"v=DMARC1 p=reject",
    "a comma after the version": b"v=DMARC1, p=reject",
    "white space in front": b" v=DMARC1; p=reject",
    "a quotation mark in front": b'"v=DMARC1; p=reject"',
    "no value": b"v=; p=reject",
    "a backslash before the semicolon": b"v=DMARC1\\; p=reject",
}


@pytest.mark.parametrize("text", NOT_A_RECORD.values(), ids=NOT_A_RECORD.keys())
def test_not_a_record(text: bytes) -> None:
    assert parse_record(text) is None


READINGS = {
    "the least": (b"v=DMARC1; p=none", Record(policy=NONE)),
    "no blanks": (b"v=DMARC1;p=reject;sp=quarantine;np=none", Record(REJECT, QUARANTINE, NONE)),
    "blanks everywhere": (b"v = DMARC1 ;\tp  = reject ; sp= none ; ", Record(REJECT, NONE)),
    "values in any case": (
        b"v=DMARC1; p=REJECT; aspf=S; t=Y; psd=N",
        Record(REJECT, strict_spf=True, testing=True, psd="n"),
    ),
    "tag names in any case": (b"V=DMARC1; P=reject", Record(REJECT)),
    "strict alignment": (b"v=DMARC1; p=none; adkim=s; aspf=s", Record(NONE, strict_dkim=True, strict_spf=True)),
    "relaxed for what is neither": (b"v=DMARC1; p=none; adkim=strict; aspf=", Record(NONE)),
    "test mode": (b"v=DMARC1; p=reject; t=y", Record(REJECT, testing=True)),
    "no test mode for what is neither": (b"v=DMARC1; p=reject; t=yes", Record(REJECT)),
    "a public suffix": (b"v=DMARC1; p=reject; psd=y", Record(REJECT, psd="y")),
    "an unknown psd": (b"v=DMARC1; p=reject; psd=x", Record(REJECT)),
    "pct is history": (b"v=DMARC1; p=reject; pct=0", Record(REJECT)),
    "rf and ri are history": (b"v=DMARC1; p=reject; rf=afrf; ri=3600", Record(REJECT)),
    "unknown tags": (b"v=DMARC1; p=reject; zz=1; future=yes", Record(REJECT)),
    "rubbish between": (b"v=DMARC1; ; =; x; p=reject; \xff\xfe=1; q=\x00", Record(REJECT)),
    "the first of two": (b"v=DMARC1; p=reject; p=none", Record(REJECT)),
    "no policy": (b"v=DMARC1", Record()),
    "a bad policy": (b"v=DMARC1; p=rejct", Record(bad_policy=("p",))),
    "a bad policy of subdomains": (b"v=DMARC1; p=reject; sp=yes", Record(REJECT, bad_policy=("sp",))),
    "a bad policy of absent ones": (b"v=DMARC1; p=reject; np=1", Record(REJECT, bad_policy=("np",))),
    "reports": (b"v=DMARC1; p=none; rua=mailto:a@example.com", Record(NONE, reports=("mailto:a@example.com",))),
    "the obsolete size": (
        b"v=DMARC1; p=none; rua=mailto:a@example.com!10m, https://example.com/r",
        Record(NONE, reports=("mailto:a@example.com", "https://example.com/r")),
    ),
    "reports to nowhere": (b"v=DMARC1; p=none; rua=a@example.com, mailto:, mailto:nobody, x:!y", Record(NONE)),
    "failure options without ruf": (b"v=DMARC1; p=none; fo=1:d:s", Record(NONE)),
    "failure options": (
        b"v=DMARC1; p=none; fo=1:d:s; ruf=mailto:f@example.com",
        Record(NONE, failure_options="1:d:s", failure_reports=("mailto:f@example.com",)),
    ),
    "wrong failure options": (
        b"v=DMARC1; p=none; fo=7; ruf=mailto:f@example.com",
        Record(NONE, failure_reports=("mailto:f@example.com",)),
    ),
}


@pytest.mark.parametrize(("text", "record"), READINGS.values(), ids=READINGS.keys())
def test_reading(text: bytes, record: Record) -> None:
    assert parse_record(text) == record


DEFECTIVE = {
    b"v=DMARC1; p=reject": False,
    b"v=DMARC1; p=none; rua=mailto:a@example.com": False,
    b"v=DMARC1": True,
    b"v=DMARC1; p=rejct; rua=mailto:a@example.com": True,
    b"v=DMARC1; p=reject; sp=yes": True,
}


@pytest.mark.parametrize(("text", "defective"), DEFECTIVE.items())
def test_defective(text: bytes, defective: bool) -> None:
    record = parse_record(text)
    assert record is not None
    assert record.is_defective is defective


GOOD, OTHER, SPF = b"v=DMARC1; p=reject", b"v=DMARC1; p=none", b"v=spf1 -all"

CHOICES = {
    "none": ((), None),
    "one": ((GOOD,), REJECT),
    "one among others": ((SPF, GOOD, b"hello"), REJECT),
    "two are none": ((GOOD, OTHER), None),
    "the same twice is two": ((GOOD, GOOD), None),
    "three are none": ((GOOD, OTHER, GOOD), None),
}


@pytest.mark.parametrize(("texts", "policy"), CHOICES.values(), ids=CHOICES.keys())
def test_the_record(texts: tuple[bytes, ...], policy: DmarcPolicy | None) -> None:
    record = the_record(texts)
    assert (record.policy if record else None) is policy


def test_published_for_reports() -> None:
    record = parse_record(b"v=DMARC1; p=reject; sp=none; np=reject; aspf=s; t=y; psd=n; rua=mailto:a@example.com")
    assert record is not None
    assert record.published() == (
        ("p", "reject"),
        ("sp", "none"),
        ("np", "reject"),
        ("adkim", "r"),
        ("aspf", "s"),
        ("psd", "n"),
        ("t", "y"),
        ("rua", "mailto:a@example.com"),
    )


PIECES = [
    b"v=DMARC1",
    b";",
    b"=",
    b"p",
    b"reject",
    b"none",
    b" ",
    b"\t",
    b"sp",
    b"rua",
    b"mailto:a@b",
    b",",
    b"!",
    b"\xff",
    b"t=y",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join) | st.binary(max_size=200))
def test_total(text: bytes) -> None:
    record = parse_record(text)
    if record is not None:
        assert text.lower().startswith(b"v")
        assert b"DMARC1" in text
        again = "; ".join(["v=DMARC1", *[f"{name}={value}" for name, value in record.published()]])
        copy = parse_record(again.encode())
        assert copy is not None
        assert copy.published() == record.published()


def test_a_record_of_any_length_is_read_up_to_a_limit() -> None:
    record = parse_record(b"v=DMARC1; p=reject; " + b"x=y; " * 20_000 + b"sp=none")
    assert record == Record(REJECT)
    many = b"v=DMARC1; p=none; rua=" + b",".join([b"mailto:a@b"] * (RECORD_OCTETS // 20))
    record = parse_record(many)
    assert record is not None
    assert len(record.reports) == 10
