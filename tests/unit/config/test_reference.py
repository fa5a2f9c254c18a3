"""The reference in docs/ is what the program's tables say today; codes are explained, and keep their kind."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec

from staffetta.config import schema
from staffetta.config.codes import CODES
from staffetta.config.keys import TABLES
from staffetta.config.problems import Level
from staffetta.config.reference import reference

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "reference" / "configuration.md"
SOURCE = ROOT / "src" / "staffetta" / "config"
STRUCTS = {
    (): schema.Config,
    ("tls",): schema.Tls,
    ("listen",): schema.Listen,
    ("domain",): schema.LocalDomain,
    ("route",): schema.Route,
    ("outbound",): schema.Outbound,
    ("queue",): schema.Queue,
    ("limits",): schema.Limits,
    ("checks",): schema.Checks,
    ("checks", "blocklist"): schema.BlockList,
    ("checks", "domain_blocklist"): schema.BlockList,
    ("dns",): schema.Dns,
    ("console",): schema.Console,
    ("log",): schema.Log,
    ("journal",): schema.Journal,
}


def test_the_document_is_not_stale() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == reference(), f"run python {Path(__file__).name} to write it anew"


def test_every_key_has_a_field() -> None:
    for table in TABLES:
        fields = {field.name for field in msgspec.structs.fields(STRUCTS[table.path])}
        assert {key.field for key in table.keys.values()} <= fields | {"version"}, table.header


def test_every_code_in_the_program_is_explained() -> None:
    said = {
        code for path in SOURCE.glob("*.py") for code in re.findall(r'"(C\d{3})"', path.read_text(encoding="utf-8"))
    }
    assert said == set(CODES)
    for code, what in CODES.items():
        assert re.fullmatch(r"C[1234]\d\d", code)
        assert what.level in Level
        assert len(what.explanation) > 40
        assert what.explanation.endswith(".")


if __name__ == "__main__":
    DOCUMENT.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT}\n")
