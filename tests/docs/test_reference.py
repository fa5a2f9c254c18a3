"""The reference says what the program says today, and explains every word that the program uses."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from click.testing import CliRunner

from staffetta.cli.main import VERBS, cli
from staffetta.cli.reference import PAGES
from staffetta.console.rules import LOGIN_RULES, REFUSALS
from staffetta.control.rule_words import GROUPS, RULES
from staffetta.observe.event_words import FIELDS, all_events, name_of
from staffetta.observe.events import Event

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "staffetta"
FOLDER = ROOT / "docs" / "reference"

RULE_AT = {"Refusal": 1, "Allowed": 0, "_Finding": 0, "Why": 0, "cut_off": 0}
"""Where a call names its rule."""

NAMED_ELSEWHERE = {"checks", "known_forwarder"}
"""Rules that stand in constants: policy/authentication."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_program_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "stale: make reference"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} == set(PAGES)


def test_every_verb_is_there() -> None:
    text = PAGES["commands.md"]()
    for verb in VERBS:
        assert f"\n## `staffetta {verb}" in text, verb
    for verb in ("queue drop [FILTER]...", "explain session", "check relay", "dkim rotate DOMAIN"):
        assert f"\n## `staffetta {verb}`\n" in text, verb
    assert "| 8 | The configuration is invalid. |" in text


def rules_in_the_code() -> set[str]:
    found: set[str] = set()
    for folder in ("policy", "intake", "protocol", "app"):
        for path in (SOURCE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    place = RULE_AT.get(getattr(node.func, "id", getattr(node.func, "attr", "")))
                    given = node.args[place : place + 1] if place is not None else []
                    found |= {
                        one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)
                    }
    return found


def test_every_rule_has_its_sentence_and_no_other_has() -> None:
    used = rules_in_the_code() | {rule for _, rule in REFUSALS} | LOGIN_RULES | NAMED_ELSEWHERE
    assert "relaying_denied" in used
    assert used - set(RULES) == set(), "say in control/rule_words.py what they mean"
    assert set(RULES) - used == set(), "no longer used"
    assert sum(len(group.rules) for group in GROUPS) == len(RULES), "in two groups"
    for rule, words in RULES.items():
        assert words.endswith((".", ".)", "`.")), rule
        assert "|" not in words, rule


def test_help_explains_a_rule() -> None:
    said = CliRunner().invoke(cli, ["help", "RELAYING_DENIED"])
    assert said.stdout == f"relaying_denied  {RULES['relaying_denied']}\n"
    assert CliRunner().invoke(cli, ["help", "no_such_rule"]).exit_code == 3


def test_every_field_of_every_event_is_explained_and_no_other() -> None:
    kinds: list[type[Event]] = [Event, *all_events()]
    used = {name for event in kinds for name in event.__struct_fields__}
    assert used == set(FIELDS)
    names = [name_of(event) for event in all_events()]
    assert len(names) == len(set(names))
    assert {"accept", "reload_refused", "login_refused", "notice"} <= set(names)
