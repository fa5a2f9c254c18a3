"""The image file by the rules that we care about: pinned, not root, one volume, and nothing that is not there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from staffetta.cli.main import VERBS
from staffetta.config.environment import NO_KEYS, Variables
from staffetta.control.init_file import HIGH_PORTS

ROOT = Path(__file__).parents[3]
FILE = ROOT / "packaging" / "Dockerfile"
ENTRY = ROOT / "packaging" / "entry.sh"


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the file: its word and the rest, lines that go on joined."""
    text = "\n".join(line for line in FILE.read_text().split("\n") if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    pairs = [line.partition(" ") for line in joined.split("\n") if line]
    return [(word, rest.strip()) for word, _, rest in pairs]


def rest_of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(place for place, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def test_only_known_instructions() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "VOLUME", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    assert {word for word, _ in instructions()} - known == {"ENTRYPOINT", "CMD"}
    assert not rest_of("ADD")


def test_images_are_named_with_a_version_and_equal() -> None:
    images = [rest.split(" ")[0] for rest in rest_of("FROM")]
    assert len(set(images)) == 1
    assert all(re.fullmatch(r"python:3\.\d+-slim-[a-z]+", image) for image in images)


def test_it_never_runs_as_root() -> None:
    words = [word for word, _ in last_stage()]
    users = [rest for word, rest in last_stage() if word == "USER"]
    assert users == ["10025:10025"]
    assert "RUN" not in words[words.index("USER") :]
    makes = " ".join(rest for word, rest in last_stage() if word == "RUN")
    assert "--uid 10025" in makes
    assert "--gid 10025" in makes


def test_what_survives_is_one_volume() -> None:
    assert [json.loads(rest) for rest in rest_of("VOLUME")] == [["/data"]]
    assert "STAFFETTA_DATA_DIR=/data" in " ".join(rest_of("ENV"))
    assert "install -d -o 10025 -g 10025 -m 0700 /data" in " ".join(rest_of("RUN"))


def test_commands_are_lists_and_the_verbs_exist() -> None:
    assert json.loads(rest_of("ENTRYPOINT")[0]) == ["staffetta-entry"]
    assert json.loads(rest_of("CMD")[0]) == ["run"]
    _, _, health = rest_of("HEALTHCHECK")[0].partition("CMD ")
    program, verb = json.loads(health)
    assert program == "staffetta"
    assert {verb, "run"} <= set(VERBS)
    assert rest_of("STOPSIGNAL") == ["SIGTERM"]


def test_ports_are_those_that_init_writes() -> None:
    ports = {int(port) for port in rest_of("EXPOSE")[0].split(" ")}
    assert {port for some in HIGH_PORTS.values() for port in some} <= ports
    assert all(port >= 1024 for port in ports)


def test_packages_are_pinned_and_leave_no_cache() -> None:
    pips = [rest for rest in rest_of("RUN") if "pip install" in rest]
    assert len(pips) == 1
    assert "--no-cache-dir" in pips[0]
    assert "-c constraints.txt" in pips[0]
    assert not any("apt-get" in rest or "curl" in rest for rest in rest_of("RUN"))


def test_what_is_copied_is_there_and_sent() -> None:
    ignored = (ROOT / "packaging" / "Dockerfile.dockerignore").read_text().split("\n")
    assert ignored[0] == "*"
    for rest in rest_of("COPY"):
        words = [word for word in rest.split(" ") if not word.startswith("--")]
        if "--from=build" in rest:
            continue
        for name in words[:-1]:
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name


def test_variables_are_known_and_no_secrets() -> None:
    names = re.findall(r"\b(STAFFETTA_[A-Z_]+)", FILE.read_text() + ENTRY.read_text())
    known = {*Variables({}).keys, *NO_KEYS, "STAFFETTA_ROUTE_DEFAULT_PASSWORD_FILE"}
    known |= {"STAFFETTA_TABLE_KEY", "STAFFETTA_CONSOLE_BIND"}
    assert set(names) <= known
    assert not re.search(r"(?i)passw|secret|token", " ".join(rest_of("ENV") + rest_of("LABEL")))


def test_shellcheck_has_nothing_to_say() -> None:
    program = Path(sys.executable).parent / "shellcheck"
    if not program.exists():
        pytest.fail("shellcheck is not installed: pip install '.[test]'")
    done = subprocess.run([program, "--shell=sh", ENTRY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert ENTRY.stat().st_mode & 0o111
