"""The scripts for three shells, each run by its shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from staffetta.cli.completion import SHELLS

BASH = """
source "$1"
COMP_WORDS=(staffetta $2 "$3")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_staffetta_completion staffetta
printf "%s\\n" "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { }
compadd() { print -l -- ${(P)@[-1]} }
_describe() { local one; for one in ${(P)3}; do print -- ${one%%:*}; done }
source $1
words=(staffetta ${=2} "$3")
CURRENT=$#words
_staffetta_completion
"""
FISH = 'source $argv[1]; complete -C "staffetta $argv[2] $argv[3]" | string replace -r "\\t.*" ""'


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder with the command `staffetta`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "staffetta"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m staffetta "$@"\n')
    command.chmod(0o755)
    return folder


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        ("", "qu", {"queue"}),
        ("queue", "re", {"retry", "release"}),
        ("queue list", "--js", {"--json"}),
        ("completion", "", {"bash", "zsh", "fish"}),
    ],
)
def test_shells_complete(
    bin_folder: Path, tmp_path: Path, shell: str, words: str, incomplete: str, offered: set[str]
) -> None:
    program = shutil.which(shell)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{shell} is not installed")
        pytest.skip(f"{shell} is not installed")
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    made = subprocess.run(
        ["staffetta", "completion", shell], capture_output=True, check=True, timeout=20, env=environment
    )
    script = tmp_path / "script"
    script.write_bytes(made.stdout)
    code = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    name = [] if shell == "fish" else [shell]
    done = subprocess.run(
        [program, *options, "-c", code, *name, str(script), words, incomplete],
        capture_output=True,
        timeout=20,
        check=False,
        env=environment,
    )
    assert set(done.stdout.decode().split()) == offered, done.stderr
