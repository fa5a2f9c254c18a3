"""The command as a whole: finding the configuration, help, versions, and how fast a verb starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from staffetta.cli import exits
from staffetta.cli.main import VERBS, cli
from staffetta.config.codes import CODES


def test_exit_statuses_are_a_contract() -> None:
    names = [
        "DONE",
        "PROBLEM",
        "USAGE",
        "NOTHING_MATCHED",
        "NOT_REACHABLE",
        "NOT_ALLOWED",
        "TEMPORARY",
        "REFUSED",
        "CONFIGURATION",
    ]
    assert [getattr(exits, name) for name in names] == list(range(9))


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_is_there_and_explains_itself(verb: str) -> None:
    result = CliRunner().invoke(cli, [verb, "--help"])
    assert result.exit_code == 0
    assert len(result.stdout) > 100


def test_every_leaf_takes_the_configuration(place: Any) -> None:
    leaves = ["account list", "account add", "account passwd", "account remove", "queue list", "queue show"]
    leaves += ["queue retry", "queue hold", "queue release", "queue drop", "trace", "lookup mx", "config check", "run"]
    leaves += ["queue age", "queue bounce", "explain route", "explain session", "check relay", "check upstream", "send"]
    for leaf in [*leaves, "config show"]:
        assert "-c, --config FILE" in CliRunner().invoke(cli, [*leaf.split(), "--help"]).stdout, leaf


@pytest.mark.parametrize("words", [["nonsense"], ["queue", "nonsense"], ["queue", "list", "--nonsense"], ["trace"]])
def test_wrong_usage_is_2(words: list[str]) -> None:
    assert CliRunner().invoke(cli, words).exit_code == 2


@pytest.mark.parametrize(
    "words", [["-c", "FILE", "config", "check"], ["config", "-c", "FILE", "check"], ["config", "check", "-c", "FILE"]]
)
def test_the_configuration_may_be_named_anywhere(place: Any, words: list[str]) -> None:
    named = [str(place.file) if word == "FILE" else word for word in words]
    assert CliRunner().invoke(cli, named).exit_code == 0


def test_it_is_found_in_the_working_directory(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.file.parent)
    assert CliRunner().invoke(cli, ["config", "check"]).exit_code == 0


def test_none_at_all_is_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("staffetta.cli.options.DEFAULT_FILES", (Path("staffetta.toml"), tmp_path / "other.toml"))
    result = CliRunner().invoke(cli, ["queue", "list"])
    assert result.exit_code == 8
    assert "staffetta.toml" in result.stderr
    assert "-c FILE" in result.stderr


def test_config_check_prints_every_mistake_on_stdout(place: Any) -> None:
    place.file.write_text(place.file.read_text() + "[limits]\nrecipents = 5\n[queue]\nretry = 7\n")
    result = place.run("config", "check")
    assert result.exit_code == 8
    assert "C103" in result.stdout
    assert '"recipients"' in result.stdout
    as_json = place.run("config", "check", "--json")
    assert as_json.exit_code == 8
    problems = [json.loads(line) for line in as_json.stdout.split("\n")[:-1]]
    assert len([problem for problem in problems if problem["level"] == "error"]) == 2
    assert list(problems[0])[:5] == ["schema", "code", "level", "file", "line"]


def test_config_show_has_values_and_origins_but_no_secret(place: Any) -> None:
    text = place.file.read_text().replace('tls = "off"', 'login = "u"\npassword = "hunter2"')
    place.file.write_text(text)
    place.file.chmod(0o600)
    result = place.run("config", "show")
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    assert "staffetta.toml:2" in result.stdout
    rows = place.lines("config", "show")
    assert list(rows[0]) == ["schema", "key", "value", "origin", "line"]
    assert "hunter2" not in json.dumps(rows)


def test_help_explains_codes() -> None:
    code = next(iter(CODES))
    result = CliRunner().invoke(cli, ["help", code.lower()])
    assert result.exit_code == 0
    assert CODES[code].explanation in result.stdout
    assert CliRunner().invoke(cli, ["help", "C999"]).exit_code == 3
    assert "queue" in CliRunner().invoke(cli, ["help"]).stdout


HEAVY = ("rich", "asyncio", "ssl", "cryptography", "argon2", "dns", "uvloop", "email", "idna.uts46data")


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--help"], set()),
        (["config", "check"], {"ssl"}),
        (["queue", "list"], {"ssl"}),
        (["queue", "list", "--json"], {"ssl"}),
        (["queue", "drop", "to:@nowhere.example", "--yes"], {"ssl", "asyncio"}),
        (["trace", "x"], {"ssl"}),
        (["account", "list", "--json"], {"ssl", "argon2"}),
    ],
    ids=" ".join,
)
def test_verbs_load_nothing_heavy(relay: Any, words: list[str], allowed: set[str]) -> None:
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "from staffetta.cli.main import main\n"
        "main()\n"
    )
    config = ["-c", str(relay.file)] if words != ["--help"] else []
    run = subprocess.run([sys.executable, "-c", script, *words, *config], capture_output=True, text=True, check=False)
    assert run.returncode in {0, 3}, run.stderr
    loaded = set(run.stderr.split("\n")[-2].split())
    assert "click" in loaded
    assert {name for name in HEAVY if name in loaded} - allowed == set()


def test_the_module_is_the_command(relay: Any) -> None:
    words = [sys.executable, "-m", "staffetta", "queue", "list", "state:held", "-c", str(relay.file)]
    run = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "LANG": "C"}, check=False)
    assert run.returncode == 0
    assert run.stdout.startswith(f"{relay.HELD}\teve@other.example\thal@x.example\theld\t")
    assert "queue show" in run.stderr
