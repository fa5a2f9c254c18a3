"""The world in which a page is executed: a name server, a provider that asks for a login, somebody else's server.

Each page has its own, so that what one publishes is not seen by another. It runs in a thread, on ports of loopback, so
that the commands of the page, which are processes, can reach it as they would reach the real one.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from staffetta.testing.authority import Authority
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Script
from staffetta.testing.zone import ZoneServer

PROVIDER = "smtp.provider.example"
LOGIN = ("office@provider.example", "correct horse")

ZONES: dict[str, dict[str, list[str]]] = {
    PROVIDER: {"A": ["127.0.0.1"]},
    "provider.example": {"MX": [f"10 {PROVIDER}"], "A": ["127.0.0.1"]},
    # A partner that takes mail, and has done everything that can be done against forgers.
    "partner.example": {"MX": ["10 mx.partner.example"], "TXT": ["v=spf1 ip4:192.0.2.25 -all"]},
    "_dmarc.partner.example": {"TXT": ["v=DMARC1; p=reject"]},
    "mx.partner.example": {"A": ["127.0.0.1"]},
    "mail.careful.example": {"MX": ["10 mx.partner.example"]},
    # A shop that shares the addresses of a large provider with all its customers, and asks for nothing.
    "shop.example": {"MX": ["10 mx.shop.example"], "TXT": ["v=spf1 include:spf.protection.outlook.com -all"]},
    "_dmarc.shop.example": {"TXT": ["v=DMARC1; p=none; rua=mailto:postmaster@shop.example"]},
    "mx.shop.example": {"A": ["127.0.0.1"]},
    "spf.protection.outlook.com": {"TXT": ["v=spf1 ip4:192.0.2.128/25 -all"]},
    # A block list, with its entry for trying and one that is meant.
    "2.0.0.127.bl.example": {"A": ["127.0.0.2"]},
    "66.2.0.192.bl.example": {"A": ["127.0.0.2"], "TXT": ["spam was seen"]},
    "no-mail.example": {"MX": ["0 ."]},
    # Names that carry all records of one page: the page of the company publishes its own in `office.example`.
    "mail.office.example": {"A": ["192.0.2.10"]},
    "10.2.0.192.in-addr.arpa": {"PTR": ["mail.office.example."]},
    "office.example": {"MX": ["10 mail.office.example"]},
    "app.example": {"A": ["127.0.0.1"]},
    "example": {},
}


class World:
    """What the commands of a page can reach. Ports are known once it has begun."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        issued = self.authority.issue(PROVIDER)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        self.zone = ZoneServer(ZONES)
        self.provider = Sink(Script(name=PROVIDER, context=context, login=LOGIN))
        refusals = {
            b"gone@partner.example": b"550 5.1.1 no such user\r\n",
            b"full@partner.example": b"452 4.2.2 mailbox full\r\n",
        }
        self.partner = Sink(Script(name="mx.partner.example", rcpt=refusals))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> World:
        self._thread.start()
        self._run(self.zone.__aenter__())
        self._run(self.provider.start())
        self._run(self.partner.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.provider.stop())
        self._run(self.partner.stop())
        self._run(self.zone.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    @property
    def variables(self) -> dict[str, str]:
        """What leads the commands of a page into this world. All are variables that a user has, too."""
        return {
            "SSL_CERT_FILE": str(self.authority.ca),
            "STAFFETTA_DNS_SERVERS": f"{self.zone.address}:{self.zone.port}",
            "STAFFETTA_OUTBOUND_PORT": str(self.partner.port),
            "STAFFETTA_OUTBOUND_ALLOW": "127.0.0.0/8",
        }

    @property
    def ports(self) -> dict[int, int]:
        """Ports that the pages write, and those that stand for them here."""
        return {587: self.provider.port, 25: self.partner.port}


@pytest.fixture(scope="session")
def new_world() -> Callable[[Path], World]:
    """Makes one, in a folder; serves as a context manager."""
    return World
