"""Starts that fail half-way, stops in which something fails, and what is made for whom."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.accounts.store import AccountStore
from staffetta.app import privileges, serve
from staffetta.app.relay import Relay
from staffetta.app.reload import Reloads
from staffetta.app.standing import Standing
from staffetta.config.load import Loaded, Problems, load
from staffetta.net.listener import BindFailed, Listener
from staffetta.spool.database import StoreError
from staffetta.spool.recovery import AlreadyRunning, relay_alive
from staffetta.spool.sqlite import SqliteSpool

TOML = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[console]
bind = "off"
[listen.relay]
bind = ["127.0.0.1:{port}"]
role = "relay"
tls = "off"
auth = false
"""


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """A start sets the process's umask; the tests that follow are not ours."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def loaded(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.setattr(privileges, "DEFAULT_USER", "nobody-of-that-name")
    file = tmp_path / "staffetta.toml"
    file.write_text(TOML.replace("{port}", str(port)))
    found = load(file, {}, now=0)
    assert not isinstance(found, Problems), found
    return found


def fails(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


async def fails_later(*_: object) -> None:
    raise OSError("the system says no")


@pytest.mark.parametrize(
    ("owner", "name", "what"),
    [
        ("staffetta.app.relay", "private_directory", fails(PermissionError("no"))),
        (SqliteSpool, "open", fails(StoreError("damaged"))),
        (AccountStore, "open", fails(StoreError("damaged"))),
        ("staffetta.app.relay", "Parts", fails(OSError("no"))),
        (Listener, "start", fails_later),
    ],
)
def test_a_start_that_fails_leaves_nothing_open(
    loaded: Loaded, port: int, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, what: Any
) -> None:
    threads = threading.active_count()

    async def main() -> None:
        with monkeypatch.context() as patch:
            place = importlib.import_module(owner) if isinstance(owner, str) else owner
            patch.setattr(place, name, what)
            with pytest.raises((OSError, StoreError)):
                await Relay(loaded.config).start()
        assert len(asyncio.all_tasks()) == 1
        assert not (loaded.config.data_dir.exists() and relay_alive(loaded.config.data_dir))
        relay = Relay(loaded.config)  # the port is free again, and so is the store
        await relay.start()
        await relay.stop("test")

    asyncio.run(main())
    assert threading.active_count() <= threads


def test_a_stop_that_fails_still_closes_the_store(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        relay = Relay(loaded.config)
        await relay.start()
        dispatcher = relay.parts.dispatcher
        stop = dispatcher.stop

        async def bad() -> None:
            await stop()
            raise KeyError("a bug")

        monkeypatch.setattr(type(dispatcher), "stop", lambda _: bad())
        with pytest.raises(KeyError):
            await relay.stop("test")
        assert not relay_alive(loaded.config.data_dir)
        assert relay.spool._closed

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "cause", "status"),
    [
        (BindFailed("in use"), OSError("in use"), 8),
        (BindFailed("not allowed"), PermissionError("no"), 5),
        (PermissionError("no"), None, 5),
        (privileges.PrivilegeError("no"), None, 5),
        (StoreError("damaged"), None, 8),
    ],
)
def test_the_exit_status_tells_what_is_not_allowed_from_what_is_wrong(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None, status: int
) -> None:
    error.__cause__ = cause
    monkeypatch.setattr("staffetta.app.relay.bind", fails(error))
    assert serve.serve(loaded) == status


def test_one_session_that_fails_takes_no_deadline_from_the_others(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad:
        looked = 0

        def look_at_clock(self, now: float) -> None:
            self.looked += 1
            raise KeyError("a bug")

        def stop(self) -> None:
            return

    monkeypatch.setattr("staffetta.app.sessions.CLOCK_SECONDS", 0.01)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        relay = Relay(loaded.config)
        await relay.start()
        bad: Any = Bad()
        relay.parts.house.sessions.add(bad)
        await asyncio.sleep(0.1)
        relay.parts.house.sessions.discard(bad)
        await relay.stop("test")
        assert bad.looked > 2

    asyncio.run(main())


def test_the_data_directory_is_ours_and_the_folders_above_can_be_passed(tmp_path: Path) -> None:
    data = tmp_path / "srv" / "mail" / "data"
    privileges.private_directory(data, None)
    modes = [oct(folder.stat().st_mode & 0o777) for folder in (data.parent.parent, data.parent, data)]
    assert modes == ["0o755", "0o755", "0o700"]
    assert os.umask(0o077) == 0o077


def test_a_busy_relay_forgets_as_fast_as_it_writes(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """5000 rows a minute would be less than what 50 messages a second write."""
    monkeypatch.setattr("staffetta.app.relay.JOURNAL_SECONDS", 0.001)
    monkeypatch.setattr("staffetta.app.relay.JOURNAL_HURRY_SECONDS", 0.001)
    monkeypatch.setattr("staffetta.app.relay.JOURNAL_ROWS", 10)
    left = 35
    pauses: list[float] = []

    async def main() -> None:
        nonlocal left
        relay = Relay(loaded.config)
        done = asyncio.Event()

        class Spool:
            async def expire_journal(self, before: float, limit: int) -> int:
                nonlocal left
                gone = min(left, limit)
                left -= gone
                pauses.append(gone)
                if gone < limit:
                    monkeypatch.setattr("staffetta.app.relay.JOURNAL_SECONDS", 1000.0)
                    done.set()
                return gone

        spool: Any = Spool()
        relay.spool = spool
        task = asyncio.create_task(relay._forget_journal())
        await done.wait()
        task.cancel()

    asyncio.run(main())
    assert pauses == [10, 10, 10, 5]


def test_a_port_that_another_relay_of_this_store_has_names_its_process(loaded: Loaded) -> None:
    async def main() -> None:
        relay = Relay(loaded.config)
        await relay.start()
        try:
            with pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}\)"):
                await Relay(loaded.config).start()
        finally:
            await relay.stop("test")

    asyncio.run(main())


@pytest.mark.parametrize(("user", "warns"), [(0, True), (1000, False)])
def test_a_relay_that_stays_root_says_so(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], user: int, warns: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)

    async def main() -> None:
        relay = Relay(loaded.config)
        await relay.start()
        await relay.stop("test")

    asyncio.run(main())
    assert ("running as root" in capsys.readouterr().err) is warns


def test_a_relay_whose_control_socket_cannot_be_made_runs_and_says_so(
    loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded.config.data_dir.mkdir()
    (loaded.config.data_dir / "control.sock").mkdir()

    async def main() -> None:
        relay = Relay(loaded.config)
        await relay.start()
        reloads = Reloads(relay, lambda _: loaded)
        await serve._open_control(relay, Standing(relay, reloads, Path("staffetta.toml")))
        assert [alarm.name for alarm in relay.parts.alarms.active()] == [serve.CONTROL_ALARM]
        await relay.stop("test")

    asyncio.run(main())
    assert "SIGHUP still reloads it" in capsys.readouterr().err


def test_a_bug_in_a_reload_leaves_the_old_configuration_and_no_open_door(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        added = probe.getsockname()[1]
    file = tmp_path / "staffetta.toml"
    file.write_text(file.read_text().replace('"]', f'", "127.0.0.1:{added}"]', 1))
    heard: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(repr(context["exception"])))
        relay = Relay(loaded.config)
        await relay.start()
        doors = list(relay.doors)
        monkeypatch.setattr(type(relay.parts), "adopt", fails(KeyError("a bug")))
        report = await Reloads(relay, lambda _: load(file, {}, now=0)).reload("test")
        assert not report.done
        assert "please report it: KeyError('a bug')" in report.reason
        assert relay.config is loaded.config
        assert relay.doors == doors
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", added)) != 0
        await relay.stop("test")

    asyncio.run(main())
    assert heard == ["KeyError('a bug')"]


def test_reloads_take_turns_and_none_begins_after_the_end(loaded: Loaded) -> None:
    running = threading.Lock()
    reads: list[bool] = []

    def read(files: bool) -> Loaded:
        assert running.acquire(blocking=False), "two reloads at a time"
        reads.append(files)
        running.release()
        return loaded

    async def main() -> None:
        relay = Relay(loaded.config)
        await relay.start()
        reloads = Reloads(relay, read)
        for _ in range(50):
            reloads.ask()
        reports = await asyncio.gather(*(reloads.reload(f"asker {number}") for number in range(5)))
        assert all(report.done for report in reports)
        assert {report.by for report in reports} == {f"asker {number}" for number in range(5)}
        assert len(reads) == 6, "fifty signals before the first was served are one"
        await reloads.close()
        late = await reloads.reload("too late")
        assert not late.done
        assert late.reason == "the relay is stopping"
        reloads.ask()
        await relay.stop("test")

    asyncio.run(main())
    assert len(reads) == 6
