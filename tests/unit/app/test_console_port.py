"""Binding the console's port: what is asked for must be had, what is not is done without."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from staffetta.app.console_port import ConsolePort
from staffetta.config.schema import Config, Console
from staffetta.mail.domain import Domain
from staffetta.net.endpoint import Bind
from staffetta.net.listener import BindFailed
from staffetta.spool.recovery import AlreadyRunning, RelayLock


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def port_at(bind: Bind | None, data_dir: Path, *, insist: bool) -> ConsolePort:
    config = Config(Domain("mail.example.org"), data_dir=data_dir, console=Console(bind))
    relay: Any = SimpleNamespace(config=config)
    return ConsolePort(relay, insist=insist)


def test_a_named_port_that_is_taken(taken: int, tmp_path: Path) -> None:
    port = port_at(Bind("127.0.0.1", taken), tmp_path, insist=True)
    with pytest.raises(
        BindFailed, match=rf"\[console\] bind: 127.0.0.1:{taken}: another program already listens there"
    ):
        port.bind()


def test_a_relay_on_the_same_store_has_it(taken: int, tmp_path: Path) -> None:
    lock = RelayLock.acquire(tmp_path)
    try:
        with pytest.raises(AlreadyRunning):
            port_at(Bind("127.0.0.1", taken), tmp_path, insist=True).bind()
    finally:
        lock.release()


def test_the_default_port_that_is_taken_is_done_without(taken: int, tmp_path: Path) -> None:
    port = port_at(Bind("127.0.0.1", taken), tmp_path, insist=False)
    port.bind()
    assert port.addresses() == ()


def test_off_is_no_port(tmp_path: Path) -> None:
    port = port_at(None, tmp_path, insist=True)
    port.bind()
    assert port.addresses() == ()
