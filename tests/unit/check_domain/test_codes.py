"""Every code of a finding is explained, once, and the reference page says so."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from staffetta.cli.main import cli
from staffetta.policy import posture
from staffetta.policy.posture.codes import CODES, GROUPS, page

ROOT = Path(__file__).parents[3]


def test_codes_that_are_given_are_explained() -> None:
    folder = Path(posture.__file__).parent
    given = {code for path in folder.glob("*.py") if path.stem != "codes" for code in codes_in(path)}
    assert given == set(CODES)
    assert list(CODES) == sorted(CODES)
    assert {code[1] for code in CODES} == set(GROUPS)


def codes_in(path: Path) -> list[str]:
    return re.findall(r'"(D[0-9]{3})"', path.read_text())


def test_reference_page_is_made_of_them() -> None:
    assert (ROOT / "docs" / "reference" / "checks.md").read_text() == page()


def test_help_says_one() -> None:
    assert CliRunner().invoke(cli, ["help", "d401"]).stdout == "D401  There is no DMARC record.\n"
    assert CliRunner().invoke(cli, ["help", "D999"]).exit_code == 3
