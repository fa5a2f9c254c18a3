"""What verbs write: safe for terminals, whole for programs, quiet when the reader leaves."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from staffetta.cli import output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode 漢字 🙂", "plain text, ünïcode 漢字 🙂"),
        ("\x1b[31m", "\\u001b[31m"),
        ("a\nb\tc", "a b c"),
        ("a\rb", "a\\u000db"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u061c\u200b\u200f\u2066\ufeff", "\\u061c\\u200b\\u200f\\u2066\\ufeff"),
        ("\x7f\x9b", "\\u007f\\u009b"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\u0085"),
    ],
)
def test_safe(text: str, shown: str) -> None:
    assert output.safe(text) == shown
    assert output.safe(text).isprintable()


@pytest.mark.parametrize("text", ["ü\u202e\x1b\x7f\x9b\U000e0041🙂", "\udcff", "a\ud83dz"])
def test_json_is_printable_and_means_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    output.print_json({"text": text, "list": [text]})
    output.finish()
    line = written.getvalue().decode()
    assert line.removesuffix("\n").isprintable()
    assert json.loads(line) == {"text": text, "list": [text]}


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (12, "12 s"), (300, "5 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_span(seconds: float, text: str) -> None:
    assert output.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (26_214_400, "25.0 MiB"), (1 << 40, "1024.0 GiB")]
)
def test_octets(count: int, text: str) -> None:
    assert output.octets(count) == text


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(relay: Any, unbuffered: str) -> None:
    words = [sys.executable, "-m", "staffetta", "queue", "list", "--json", "-c", str(relay.file)]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_an_ascii_terminal_gets_escapes_instead_of_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with contextlib.suppress(SystemExit):
        output.line("ü")
        output.finish()
    assert written.getvalue() == b"\\xfc\n"
