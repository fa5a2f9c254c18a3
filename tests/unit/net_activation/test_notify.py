"""What the service manager hears, from a relay in a process of its own and from the words alone."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from staffetta.net.notify import LONGEST_STATUS, Notify

CONFIG = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[console]
bind = "off"
[listen.lan]
bind = ["127.0.0.1:0"]
role = "relay"
auth = false
"""


class Manager:
    """A service manager's ear."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(20)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hear(self) -> dict[str, str]:
        """The next words, as a table."""
        pairs = self.socket.recv(4096).decode().split("\n")
        return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def next_word(manager: Manager) -> dict[str, str]:
    """What is said next besides signs of life."""
    heard = manager.hear()
    while "WATCHDOG" in heard:
        heard = manager.hear()
    return heard


def test_a_relay_says_ready_alive_reloading_and_stopping(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    (tmp_path / "staffetta.toml").write_text(CONFIG)
    with Manager(address) as manager:
        process = subprocess.Popen(
            [sys.executable, "-m", "staffetta", "run", "-c", str(tmp_path / "staffetta.toml")],
            env={**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                first = manager.hear()
                assert first["READY"] == "1"
                assert first["STATUS"].startswith("Serving as relay.example: lan 127.0.0.1:")
                # The doors are open when it says so.
                port = int(first["STATUS"].rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                    assert client.recv(100).startswith(b"220 ")
                assert [manager.hear() for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
                process.send_signal(signal.SIGHUP)
                heard = next_word(manager)
                assert heard["RELOADING"] == "1"
                assert int(heard["MONOTONIC_USEC"]) > 0
                assert next_word(manager)["READY"] == "1"
            finally:
                process.send_signal(signal.SIGTERM)
            heard = next_word(manager)
            assert heard == {"STOPPING": "1", "STATUS": "Stopping: SIGTERM"}
            _, err = process.communicate(timeout=40)
        assert process.returncode == 0, err


def test_abstract_names_are_spoken(tmp_path: Path) -> None:
    name = f"staffetta-test-{os.getpid()}"
    with Manager("\x00" + name) as manager:
        Notify({"NOTIFY_SOCKET": "@" + name}).status("here")
        assert manager.hear() == {"STATUS": "here"}


def test_reloading_has_the_time_that_the_manager_compares(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "n")) as manager:
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n")})
        notify.reloading()
        heard = manager.hear()
        assert heard["RELOADING"] == "1"
        assert int(heard["MONOTONIC_USEC"]) > 0
        notify.ready("again")
        assert manager.hear() == {"READY": "1", "STATUS": "again"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "/nowhere/at/all"},
        {"NOTIFY_SOCKET": "relative"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "/x\x00y"},
        {"NOTIFY_SOCKET": "/" + "x" * 500},
        {"NOTIFY_SOCKET": "/tmp", "WATCHDOG_USEC": "x"},
    ],
)
def test_where_nobody_listens_nothing_happens(environ: dict[str, str]) -> None:
    async def whole() -> None:
        notify = Notify({"WATCHDOG_USEC": "1000000", **environ})
        notify.reloading()
        notify.ready("ready")
        notify.status("x")
        notify.stopping("y")
        notify.keep_alive(asyncio.get_running_loop())
        notify.close()

    asyncio.run(whole())


def test_a_status_is_one_line_and_not_long(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "n")) as manager:
        Notify({"NOTIFY_SOCKET": str(tmp_path / "n")}).status("a\nREADY=1\x1b[2J" + "b" * 1000)
        heard = manager.hear()
        assert list(heard) == ["STATUS"]
        assert len(heard["STATUS"]) == LONGEST_STATUS
        assert heard["STATUS"].startswith("a READY=1 [2Jb")


@pytest.mark.parametrize(
    ("environ", "alive"),
    [
        ({"WATCHDOG_USEC": "50000"}, True),
        ({"WATCHDOG_USEC": "50000", "WATCHDOG_PID": "7"}, True),
        ({"WATCHDOG_USEC": "50000", "WATCHDOG_PID": "8"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "\u0665"}, False),
        ({}, False),
    ],
)
def test_the_watchdog_is_for_whom_it_names(tmp_path: Path, environ: dict[str, str], alive: bool) -> None:
    async def whole() -> None:
        with Manager(str(tmp_path / "n")) as manager:
            notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n"), **environ}, pid=7)
            loop = asyncio.get_running_loop()
            notify.keep_alive(loop)
            notify.status("end")
            assert manager.hear() == ({"WATCHDOG": "1"} if alive else {"STATUS": "end"})
            notify.close()

    asyncio.run(whole())


def test_a_sign_of_life_comes_twice_in_the_interval(tmp_path: Path) -> None:
    class Loop:
        """Remembers when it should call."""

        def __init__(self) -> None:
            self.delays: list[float] = []

        def call_later(self, delay: float, *_: Any) -> asyncio.TimerHandle | None:
            self.delays.append(delay)
            return None

    loop: Any = Loop()
    with Manager(str(tmp_path / "n")):
        Notify({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "30000000"}).keep_alive(loop)
    assert loop.delays == [15.0]


def test_a_blocked_loop_is_not_alive(tmp_path: Path) -> None:
    """The sign of life comes from the loop: no thread would give it for a loop that hangs."""

    async def whole() -> None:
        with Manager(str(tmp_path / "n")) as manager:
            manager.socket.settimeout(0)
            notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "20000"}, pid=7)
            notify.keep_alive(asyncio.get_running_loop())
            assert manager.hear() == {"WATCHDOG": "1"}
            with pytest.raises(BlockingIOError):
                manager.hear()
            manager.socket.settimeout(0.1)
            with pytest.raises(TimeoutError):  # this thread holds the loop meanwhile
                manager.hear()
            notify.close()

    asyncio.run(whole())
