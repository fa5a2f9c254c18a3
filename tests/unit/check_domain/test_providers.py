"""Whose shared addresses a term passes, as a table."""

from __future__ import annotations

import pytest

from staffetta.policy.posture.findings import shown, txt_line
from staffetta.policy.posture.providers import SHARED, shared_by


@pytest.mark.parametrize(
    ("terms", "includes", "found"),
    [
        (["include:spf.protection.outlook.com"], [], ["Microsoft 365"]),
        (["+include:SPF.Protection.Outlook.com."], [], ["Microsoft 365"]),
        (["redirect=_spf.google.com"], [], ["Google Workspace"]),
        (["include:u1.wl.sendgrid.net"], [], ["SendGrid"]),
        (["include:%{ir}.%{v}.%{d}.spf.has.pphosted.com"], [], ["Proofpoint"]),
        (["?include:_spf.google.com"], ["_spf.google.com"], []),
        (["~include:_spf.google.com"], ["_spf.google.com"], []),
        (["-include:_spf.google.com"], ["_spf.google.com"], []),
        (["include:_spf.example"], ["_spf.example", "amazonses.com"], ["Amazon SES"]),
        (["include:_spf.google.com"], ["_spf.google.com", "_netblocks.google.com"], ["Google Workspace"]),
        (["include:notamazonses.com", "include:google.com", "mx", "ip4:192.0.2.1", "-all"], [], []),
        (["include:_spf.google.com.evil.example"], [], []),
        (["include:\udcff"], [], []),
    ],
)
def test_shared(terms: list[str], includes: list[str], found: list[str]) -> None:
    assert list(shared_by(terms, includes).values()) == found


def test_names_are_as_they_are_compared() -> None:
    assert all(name == name.lower() and not name.endswith(".") for name in SHARED)


def test_long_records_are_cut_into_strings() -> None:
    line = txt_line("a.example", 'v="' + "x" * 300)
    assert line == 'a.example. IN TXT "v=\\"' + "x" * 252 + '" "' + "x" * 48 + '"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"v=spf1 -all", "v=spf1 -all"),
        (b"\x1b[31m\xff\n", "\\x1b[31m\\xff\\x0a"),
        ("\u202e\U000e0001", "\\u202e\\U000e0001"),
        ("x" * 1000, "x" * 700 + "..."),
    ],
)
def test_evidence_is_escaped_and_short(text: bytes | str, expected: str) -> None:
    assert shown(text) == expected
