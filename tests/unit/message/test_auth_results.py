"""Authentication-Results: escaping of what comes from outside, removal of what others wrote in our name."""

from __future__ import annotations

import pytest

from staffetta.message.auth_results import (
    MethodResult,
    Property,
    authentication_results,
    claimed_id,
    without_ours,
)
from staffetta.message.header import Header, field_from

OURS = "mx.example.com"


def test_none() -> None:
    assert authentication_results(OURS, ()) == b"Authentication-Results: mx.example.com; none\r\n"


def test_the_whole_field() -> None:
    written = authentication_results(
        OURS,
        (
            MethodResult("spf", "pass", properties=(Property("smtp", "mailfrom", "a@x.example"),)),
            MethodResult("dkim", "fail", "body hash (changed)", (Property("header", "d", "x.example"),)),
        ),
    )
    assert written == (
        b"Authentication-Results: mx.example.com;\r\n"
        b"\tspf=pass smtp.mailfrom=a@x.example;\r\n"
        b'\tdkim=fail reason="body hash (changed)" header.d=x.example\r\n'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("x.example", "x.example"),
        ("a@x.example", "a@x.example"),
        ("@x.example", "@x.example"),
        ("", '""'),
        ("a b", '"a b"'),
        ("x; dkim=pass", '"x; dkim=pass"'),
        ('"; dkim=pass (', '"\\"; dkim=pass ("'),
        ("\\", '"\\\\"'),
        ("a\r\nX-Evil: y", '"a??X-Evil: y"'),
        ("a\0b\u2028\u212a", '"a?b??"'),
        ("'a'(c)", "\"'a'(c)\""),
        ("a=b", '"a=b"'),
        ("v" * 999, "v" * 300),
    ],
)
def test_nothing_breaks_out(value: str, written: str) -> None:
    result = MethodResult("spf", "fail", properties=(Property("smtp", "helo", value),))
    field = authentication_results(OURS, (result,))
    assert field.endswith(b"smtp.helo=" + written.encode() + b"\r\n")
    assert [one.name for one in Header(field).fields] == [b"authentication-results"]
    assert Header(field).well_formed


@pytest.mark.parametrize("word", ["", "a b", "spf=pass;", "x\r\n", "-", "kelvin\u212a"])
def test_keywords_are_ours_or_a_bug(word: str) -> None:
    with pytest.raises(ValueError, match="keyword"):
        authentication_results(OURS, (MethodResult("spf", word),))


@pytest.mark.parametrize(
    ("raw", "goes"),
    [
        (b"Authentication-Results: mx.example.com; spf=pass\r\n", True),
        (b"authentication-results:\r\n\tMX.Example.COM;\r\n\tspf=pass\r\n", True),
        (b"Authentication-Results : mx.example.com 1; spf=pass\r\n", True),
        (b"Authentication-Results\r\n : mx.example.com; spf=pass\r\n", True),
        (b"Authentication-\0Results: mx.example.com; spf=pass\r\n", True),
        (b'Authentication-Results: "mx.example.com"; spf=pass\r\n', True),
        (b'Authentication-Results: "mx\\.example.com"; spf=pass\r\n', True),
        (b"Authentication-Results: (c (d)) mx.example.com (e); spf=pass\r\n", True),
        (b"Authentication-Results: mx.example.com.; spf=pass\r\n", True),
        (b"Authentication-Results: mx.example.com\r\n", True),
        (b"Authentication-Results: ; spf=pass\r\n", True),
        (b"Authentication-Results: (unfinished mx.example.com; spf=pass\r\n", True),
        (b"Authentication-Results: other.example; spf=pass\r\n", False),
        (b"Authentication-Results: mx.example.com.evil.example; spf=pass\r\n", False),
        (b"Authentication-Results: (mx.example.com) other.example; spf=pass\r\n", False),
        (b"ARC-Authentication-Results: i=1; mx.example.com; spf=pass\r\n", False),
        (b"Subject: mx.example.com\r\n", False),
    ],
)
def test_fields_in_our_name_go(raw: bytes, goes: bool) -> None:
    before, after = b"A: b\r\n", b"From: a@x.example\r\n"
    kept = without_ours(Header(before + raw + after), OURS)
    assert kept == before + (b"" if goes else raw) + after


def test_nothing_to_remove_costs_nothing() -> None:
    block = b"From: a@x.example\r\n"
    assert without_ours(Header(block), OURS) is block


def test_internationalised_names_are_one() -> None:
    assert claimed_id(field_from("Authentication-Results: bücher.example; none\r\n".encode())) == (
        claimed_id(field_from(b"Authentication-Results: XN--BCHER-KVA.example; none\r\n"))
    )
