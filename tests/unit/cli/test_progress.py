"""How far a long act is, on a terminal and elsewhere; and a bulk act that tells it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from staffetta.cli.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def played(monkeypatch: pytest.MonkeyPatch, *, watched: bool, total: int) -> tuple[Progress, Clock]:
    clock = Clock()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched, raising=False)
    return Progress(total, clock), clock


def test_a_terminal_sees_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    progress, clock = played(monkeypatch, watched=True, total=1000)
    progress(10)
    assert capfd.readouterr().err == ""
    clock.now += 1
    progress(250)
    progress(260)
    assert capfd.readouterr().err == "\r\033[K[######..................] 250 of 1000, 250/s, 3 s left"
    progress.finish()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "\r\033[K")


def test_what_is_over_at_once_shows_nothing(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    progress, _ = played(monkeypatch, watched=True, total=5)
    progress(5)
    progress.finish()
    assert capfd.readouterr() == ("", "")


def test_elsewhere_it_is_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    progress, clock = played(monkeypatch, watched=False, total=0)
    for second in range(25):
        clock.now = 100.0 + second
        progress(second * 10)
    progress.finish()
    assert capfd.readouterr().err == "100 done, 10/s\n200 done, 10/s\n"


def test_bulk_acts_tell_how_far_they_are(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def noted(_: Progress, done: int) -> None:
        told.append(done)

    monkeypatch.setattr(Progress, "__call__", noted)
    assert relay.run("queue", "hold", "state:deferred", "--yes").exit_code == 0
    assert told
    assert told[-1] > 0
