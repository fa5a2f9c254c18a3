"""`status`, `health` and `reload` without a relay, with one that answers, and with a file that is wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from staffetta.app.control_socket import ControlSocket
from staffetta.cli.main import cli
from staffetta.control.channel import Ping, Pong, Reload, ReloadReport, Status
from staffetta.control.status import (
    Books,
    CertificateFacts,
    Disk,
    Listening,
    Running,
    WorkerFacts,
    is_nearly_full,
    problems_of,
)
from staffetta.observe.alarms import Alarm
from staffetta.observe.events import moment
from staffetta.spool.contract import Ledger
from staffetta.spool.recovery import RelayLock

HOSTILE = "\x1b]0;owned\x07\u202e"
SCHEMA: dict[str, Any] = {
    "schema": int,
    "version": str,
    "hostname": str,
    "started_at": (str, type(None)),
    "listeners": list,
    "queue": {"queued": int, "active": int, "deferred": int, "held": int},
    "ledger": dict.fromkeys(("accepted", "delivered", "bounced", "dropped", "queued", "unaccounted"), int),
    "destinations": list,
    "certificates": list,
    "disk": {"path": str, "free": int, "total": int, "queue": int},
    "reload": (dict, type(None)),
    "alarms": list,
    "problems": list,
}


def fits(value: Any, schema: Any) -> bool:
    if isinstance(schema, dict):
        return isinstance(value, dict) and all(fits(value.get(name), kind) for name, kind in schema.items())
    return isinstance(value, schema)


LIVE = Running(
    "0.0.0",
    "mx.example.org",
    7,
    moment(1000.0),
    "/etc/staffetta/staffetta.toml",
    "0a1b2c3d",
    (Listening("mx", "127.0.0.1:25", "mx", "starttls", 3),),
    (CertificateFacts("mx.example.org", ("mx.example.org",), "mx.pem", moment(1e9), 12),),
    None,
    (),
    (WorkerFacts(8, 2), WorkerFacts(9, 1)),
)
REFUSED = ReloadReport(moment(2000.0), False, f"staffetta.toml:3 C103 unknown key {HOSTILE}", "0a1b2c3d", "SIGHUP")


class Answering:
    """A relay as far as commands see it, in a thread with a loop of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.live = LIVE
        self.report = REFUSED
        self._data_dir = data_dir
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def start(self) -> None:
        self._lock = RelayLock.acquire(self._data_dir)
        self._control = ControlSocket(self._data_dir, lambda _: None)

        async def ping(_: Ping) -> Pong:
            return Pong(7, "0.0.0", "mx.example.org", ("mx 127.0.0.1:25",), "staffetta.toml", "0a1b2c3d")

        async def status(_: Status) -> Running:
            return self.live

        async def reload(_: Reload) -> ReloadReport:
            return self.report

        self._control.register(Ping, ping)
        self._control.register(Status, status)
        self._control.register(Reload, reload)
        self._thread.start()
        self._do(self._control.open())

    def stop(self) -> None:
        self._do(self._control.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._lock.release()


@pytest.fixture
def answering(relay: Any) -> Iterator[Answering]:
    found = Answering(relay.data_dir)
    found.start()
    yield found
    found.stop()


def test_without_a_relay_the_store_tells_its_half(relay: Any) -> None:
    result = relay.run("status", "--json")
    assert result.exit_code == 4
    answer = json.loads(result.stdout)
    assert fits(answer, SCHEMA), answer
    assert answer["started_at"] is None
    assert answer["listeners"] == []
    assert answer["hostname"] == "mx.example.org"
    assert answer["ledger"]["queued"] == sum(answer["queue"].values()) == 6
    assert answer["ledger"]["unaccounted"] == 0
    assert answer["queue"]["held"] == 1
    assert answer["oldest"]["queued"] is not None
    assert "no relay runs" in result.stderr
    text = relay.run("status")
    assert text.exit_code == 4
    assert "not running" in text.stdout


def test_with_a_relay_everything_is_on_one_screen(relay: Any, answering: Answering) -> None:
    result = relay.run("status")
    assert result.exit_code == 0, result.output
    assert "door     mx 127.0.0.1:25, mx, starttls, 3 sessions" in result.stdout
    assert "tls      mx.example.org, 12 days left" in result.stdout
    assert "workers  8 with 2 sessions, 9 with 1 sessions" in result.stdout
    assert "PROBLEM" not in result.stdout
    answer = json.loads(relay.run("status", "--json").stdout)
    assert fits(answer, SCHEMA)
    assert answer["started_at"] == "1970-01-01T00:16:40Z"
    assert list(answer)[:7] == ["schema", "version", "hostname", "started_at", "listeners", "queue", "ledger"]


def test_what_is_wrong_comes_first_and_is_status_1(relay: Any, answering: Answering) -> None:
    alarm = Alarm("clock", f"an hour ahead {HOSTILE}", moment(0.0))
    answering.live = msgspec.structs.replace(LIVE, alarms=(alarm,), reload=REFUSED)
    result = relay.run("status")
    assert result.exit_code == 1
    assert result.stdout.split("\n")[1].startswith("PROBLEM  the last reload was refused")
    assert "\nPROBLEM  clock: an hour ahead" in result.stdout
    for raw in ("\x1b", "\x07", "\u202e"):
        assert raw not in result.output


def test_reload_says_what_became_of_it(relay: Any, answering: Answering) -> None:
    result = relay.run("reload")
    assert result.exit_code == 8
    assert "Refused: staffetta.toml:3 C103 unknown key" in result.stderr
    assert "\x1b" not in result.output
    answering.report = msgspec.structs.replace(REFUSED, done=True, reason="configuration 11223344: queue changed")
    result = relay.run("reload")
    assert (result.exit_code, result.stdout) == (0, "Reloaded: configuration 11223344: queue changed\n")
    answer = json.loads(relay.run("reload", "--json").stdout)
    assert answer["schema"] == 1
    assert answer["done"] is True


def test_health_is_0_or_4(relay: Any) -> None:
    result = relay.run("health")
    assert result.exit_code == 4
    assert "no relay runs" in result.stderr
    assert relay.run("health", "--wait", "10x").exit_code == 2
    answering = Answering(relay.data_dir)
    answering.start()
    try:
        result = relay.run("health", "--wait", "5s")
        assert (result.exit_code, result.stdout) == (0, "mx.example.org answers, at mx 127.0.0.1:25\n")
    finally:
        answering.stop()


def test_health_waits_for_a_relay_that_starts(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = Answering(relay.data_dir)
    monkeypatch.setattr("staffetta.cli.status.time.sleep", lambda _: answering.start())
    try:
        assert relay.run("health", "--wait", "1m").exit_code == 0
    finally:
        answering.stop()


def test_before_the_first_start_there_is_nothing_to_tell(place: Any) -> None:
    for words in (("status",), ("health",), ("reload",)):
        assert place.run(*words).exit_code == 4


def wrong(text: str) -> Callable[[str], str]:
    return lambda before: before + text


@pytest.mark.parametrize(
    "spoil",
    [
        wrong("[rout]\n"),
        wrong("this is no TOML\n"),
        lambda before: before.replace('data_dir = "data"', "data_dir = 'data'  # here\nhostname = 7"),
        lambda before: "\n".join(line for line in before.split("\n") if "version" not in line),
    ],
)
@pytest.mark.parametrize("verb", ["status", "health", "reload"])
def test_a_file_that_is_wrong_does_not_hide_the_relay(
    relay: Any, answering: Answering, spoil: Callable[[str], str], verb: str
) -> None:
    answering.report = msgspec.structs.replace(REFUSED, done=True)
    relay.file.write_text(spoil(relay.file.read_text()))
    result = relay.run(verb)
    assert result.exit_code == 0, result.output


def test_no_file_at_all_is_status_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("staffetta.cli.options.DEFAULT_FILES", (Path("staffetta.toml"),))
    for verb in ("status", "health", "reload"):
        assert CliRunner().invoke(cli, [verb]).exit_code == 8


WELL = Ledger(5, 2, 1, 1, 1)
ROOMY = Disk("/data", 50 << 30, 100 << 30, 0)
GOOD = CertificateFacts("a.example", (), "a.pem", moment(0.0), 30)
DONE = msgspec.structs.replace(REFUSED, done=True)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ((WELL, (GOOD,), ROOMY, DONE, ()), []),
        ((WELL, (), ROOMY, None, ()), []),
        ((Ledger(5, 2, 1, 1, 0), (), ROOMY, None, ()), ["1 recipients are unaccounted"]),
        ((WELL, (msgspec.structs.replace(GOOD, days_left=0),), ROOMY, None, ()), []),
        ((WELL, (msgspec.structs.replace(GOOD, days_left=-1),), ROOMY, None, ()), ["a.example has expired"]),
        ((WELL, (msgspec.structs.replace(GOOD, fault="gone"),), ROOMY, None, ()), ["in use: gone"]),
        ((WELL, (), Disk("/data", 1 << 20, 100 << 30, 0), None, ()), ["/data is nearly full: 1 MiB"]),
        ((WELL, (), ROOMY, REFUSED, ()), ["the last reload was refused"]),
        ((WELL, (), ROOMY, None, (Alarm("x", "y", moment(0.0)),)), ["x: y"]),
        (
            (Ledger(1, 0, 0, 0, 0), (), Disk("/data", 0, 100, 0), REFUSED, (Alarm("x", "y", moment(0.0)),)),
            ["unaccounted", "nearly full", "last reload", "x: y"],
        ),
    ],
)
def test_problems(facts: Any, words: list[str]) -> None:
    found = problems_of(*facts)
    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("free", "total", "full"),
    [
        (300 << 20, 100 << 30, True),
        (5 << 30, 100 << 30, False),
        (3 << 30, 100 << 30, True),
        (5 << 30, 1000 << 30, False),
        (100 << 20, 200 << 20, False),
        (30 << 20, 200 << 20, True),
        (0, 0, False),
    ],
)
def test_nearly_full(free: int, total: int, full: bool) -> None:
    assert is_nearly_full(Disk("", free, total, 0)) is full


def test_the_books_of_the_answer_are_those_of_the_contract() -> None:
    assert Books.__struct_fields__ == ("accepted", "delivered", "bounced", "dropped", "queued", "unaccounted")
