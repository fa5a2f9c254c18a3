"""Mistakes of real life: each folder of tests/bad_configs has a file, and the exact words that it gets.

`setup.txt` makes what the file names: lines of PATH, WHAT and mode (see `make_file`), `env NAME=VALUE`, or
`machine NAME`. Run this file as a program to write expected.txt anew, then read every change.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from staffetta.config.codes import CODES
from staffetta.config.load import Loaded, Problems, load
from staffetta.config.problems import Level, render

FOLDERS = sorted((Path(__file__).parents[2] / "bad_configs").iterdir())


def judge(source: Path, folder: Path, make_file: Any, now: float) -> Loaded | Problems:
    """What the loader says of a copy of `source` in `folder`."""
    shutil.copy(source / "staffetta.toml", folder)
    (folder / "staffetta.toml").chmod(0o600)
    environ, machine = {}, "box.example.net"
    setup = source / "setup.txt"
    for line in setup.read_text().split("\n") if setup.exists() else ():
        words = line.split(" ")
        if words[0] == "env":
            name, _, value = words[1].partition("=")
            environ[name] = value
        elif words[0] == "machine":
            machine = words[1]
        elif line:
            make_file(folder, *words)
    return load(folder / "staffetta.toml", environ, machine_name=machine, now=now)


@pytest.mark.parametrize("source", FOLDERS, ids=lambda folder: folder.name)
def test_each_mistake_gets_its_words(source: Path, tmp_path: Path, workshop: Any) -> None:
    found = judge(source, tmp_path, workshop.make_file, workshop.now)
    problems = found.problems if isinstance(found, Problems) else found.warnings
    assert render(problems) + "\n" == (source / "expected.txt").read_text(encoding="utf-8")
    assert any(problem.level is Level.ERROR for problem in problems) == isinstance(found, Problems)


def test_there_are_more_than_sixty() -> None:
    refused = [folder for folder in FOLDERS if " error" in (folder / "expected.txt").read_text(encoding="utf-8")]
    assert len(refused) > 100


def test_every_code_is_met() -> None:
    said = "".join((folder / "expected.txt").read_text(encoding="utf-8") for folder in FOLDERS)
    # C4 is what the file alone cannot tell: tests/scenarios/test_config_live.py
    assert set(re.findall(r"  (C\d{3})  ", said)) == {code for code in CODES if not code.startswith("C4")}


def test_no_password_is_ever_shown() -> None:
    for folder in FOLDERS:
        assert "hunter2" not in (folder / "expected.txt").read_text(encoding="utf-8"), folder.name


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import NOW, make_file  # type: ignore[import-not-found]

    for each in FOLDERS:
        with tempfile.TemporaryDirectory() as temporary:
            outcome = judge(each, Path(temporary), make_file, NOW)
            problems = outcome.problems if isinstance(outcome, Problems) else outcome.warnings
            (each / "expected.txt").write_text(render(problems) + "\n", encoding="utf-8")
