"""Manual pages: complete, well formed for two programs that read them, and harmless whatever a text holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from staffetta.cli.main import VERBS, cli
from staffetta.cli.manual import ALSO, PAGES, make
from staffetta.cli.roff import Page
from staffetta.config.keys import TABLES
from staffetta.sendmail import flags
from staffetta.sendmail.flags import read_flags
from staffetta.sendmail.manual_words import FLAGS, IGNORED

READERS = {
    "mandoc": ["-T", "lint", "-W", "warning"],
    "groff": ["-man", "-ww", "-z"],
}


def reader(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return str(found)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("program", READERS)
def test_pages_are_well_formed(tmp_path: Path, page: str, program: str) -> None:
    file = tmp_path / page
    file.write_text(make(cli, page))
    done = subprocess.run([reader(program), *READERS[program], str(file)], capture_output=True, timeout=30, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)


def shown(page: str, tmp_path: Path) -> str:
    """A page as a person reads it, in one line."""
    file = tmp_path / page
    file.write_text(make(cli, page))
    done = subprocess.run([reader("mandoc"), "-T", "ascii", str(file)], capture_output=True, timeout=30, check=True)
    text = done.stdout.decode()
    while "\b" in text:
        at = text.index("\b")
        text = text[: at - 1] + text[at + 1 :]
    return " ".join(text.split())


def test_every_verb_key_and_flag_is_told(tmp_path: Path) -> None:
    verbs = shown("staffetta.1", tmp_path)
    assert all(f" {verb}" in verbs for verb in VERBS)
    assert "queue list [FILTER]..." in verbs
    assert "--password-stdin" in verbs
    keys = shown("staffetta.toml.5", tmp_path)
    for table in TABLES:
        assert table.header in keys
        assert all(f" {key.name} = " in keys for key in table.keys.values())
    told = shown("sendmail.1", tmp_path)
    assert all(f" {flag} " in told for flag, _, _ in FLAGS)


def test_what_is_told_of_sendmail_is_what_it_reads() -> None:
    for flag, value, _ in FLAGS:
        given = {"WISHES": "never", "full|hdrs": "hdrs", "": None}.get(value, value)
        wish = read_flags([flag] if given is None else [flag, given])
        assert not wish.ignored
        assert not wish.recipients
    told = {flag[1] for flag, _, _ in FLAGS} | set(IGNORED) | {"r", "I"}
    assert told >= flags._TAKES_VALUE | flags._GLUED_VALUE
    for letter in IGNORED:
        assert not read_flags([f"-{letter}x" if letter not in "GUcmns" else f"-{letter}"]).ignored


def test_text_is_never_a_request(tmp_path: Path) -> None:
    page = Page("odd", 1, "a \\fBname\\fR", date="2026-01-01", version="1")
    page.section('a "title" \\')
    page.paragraph(".so /etc/passwd\n'ig\n\\[rs] \\n(.x `back\\quoted` Ä")
    page.items([(".TH x", "'so y"), ("-x", ".ab")])
    file = tmp_path / "odd.1"
    file.write_text(page.text())
    done = subprocess.run([reader("mandoc"), "-T", "utf8", str(file)], capture_output=True, timeout=30, check=True)
    text = done.stdout.decode()
    while "\b" in text:
        at = text.index("\b")
        text = text[: at - 1] + text[at + 1 :]
    words = " ".join(text.split())
    for expected in (
        "a \\fBname\\fR",
        'a "title" \\',
        ".so /etc/passwd 'ig \\[rs] \\n(.x back\\quoted Ä",
        ".TH x",
        "'so y",
    ):
        assert expected in words


def test_pages_are_written_where_man_looks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "staffetta", "manual", "--to", str(tmp_path)],
        capture_output=True,
        timeout=20,
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "86400"},
    )
    assert done.stdout == b""
    assert sorted(path.name for path in tmp_path.glob("man*/*")) == sorted([*PAGES, *ALSO])
    assert (tmp_path / "man1" / "mailq.1").read_text() == ".so man1/sendmail.1\n"
    assert '"1970-01-02"' in (tmp_path / "man5" / "staffetta.toml.5").read_text()
    failed = subprocess.run(
        [sys.executable, "-m", "staffetta", "manual", "--to", "/proc/nowhere"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert failed.returncode == 5
