"""Both loops, a certificate, and a client that speaks TLS octet by octet."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from staffetta.net.tls import ClientContexts, ServerCertificate
from staffetta.testing.authority import Authority, Issued

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine; anything that reaches the loop's exception handler fails the test."""

    def go(work: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        wrong: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: wrong.append(context))
            runner.run(work)
        assert not wrong

    return go


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return authority.issue("mx.example.org", "127.0.0.1")


@pytest.fixture(scope="session")
def server(issued: Issued) -> ssl.SSLContext:
    return ServerCertificate(issued.certificate, issued.key).context("mx")


@pytest.fixture(scope="session")
def client(authority: Authority) -> ssl.SSLContext:
    return ClientContexts().verified(authority.ca)


@pytest.fixture(scope="session")
def ca(authority: Authority) -> Path:
    return authority.ca
