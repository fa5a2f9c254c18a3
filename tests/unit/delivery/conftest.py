"""Certificates and contexts for sessions with TLS."""

from __future__ import annotations

import ssl

import pytest

from staffetta.net.tls import ClientContexts, ServerCertificate
from staffetta.testing.authority import Authority, Issued


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return authority.issue("sink.example")


@pytest.fixture(scope="session")
def server(issued: Issued) -> ssl.SSLContext:
    return ServerCertificate(issued.certificate, issued.key).context("sink")


@pytest.fixture(scope="session")
def verified(authority: Authority) -> ssl.SSLContext:
    return ClientContexts().verified(authority.ca)


@pytest.fixture(scope="session")
def unverified() -> ssl.SSLContext:
    return ClientContexts().unverified()
