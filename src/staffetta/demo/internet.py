"""The small internet: a certificate authority, a DNS server, a sending provider and a receiving company.

The provider and the company are full Staffetta instances in processes of their own, configured by files as anybody
would write them; nothing here reaches into them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from staffetta.testing.authority import Authority
from staffetta.testing.zone import ZoneServer

PROVIDER: Final = "posta.example"
COMPANY: Final = "ditta.example"
STRANGER: Final = "altrove.example"
START_SECONDS: Final = 20.0
"""How long an instance may take until it greets."""


class Place(msgspec.Struct):
    """One instance: where its file, its doors and its data are."""

    domain: str
    folder: Path
    address: str
    mx_port: int
    submission_port: int
    console_port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def hostname(self) -> str:
        """The name it greets with."""
        return f"mx.{self.domain}"

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / "staffetta.toml"

    def mailbox(self, local_part: str) -> list[Path]:
        """The messages in one of its mailboxes, oldest first."""
        new = self.folder / "data" / "mail" / self.domain / local_part / "new"
        return sorted(new.iterdir(), key=lambda path: path.stat().st_mtime) if new.is_dir() else []


class Internet:
    """Everything that runs. Use `running`."""

    def __init__(self, folder: Path, zone: ZoneServer, provider: Place, company: Place, authority: Path) -> None:
        self.folder = folder
        self.zone = zone
        self.provider = provider
        self.company = company
        self.authority = authority

    def client_context(self) -> ssl.SSLContext:
        """TLS as a mail client has it: the authority is trusted, names are checked."""
        return ssl.create_default_context(cafile=str(self.authority))

    async def start(self, place: Place) -> None:
        """Start an instance and wait until its door greets."""
        place.process = await asyncio.to_thread(_spawn, place)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if place.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(place.address, place.mx_port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        tail = (place.folder / "log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{place.hostname} did not start:\n{tail}")

    async def stop(self, place: Place) -> int:
        """Ask an instance to drain and go; its exit status."""
        process, place.process = place.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(process.wait, 40)

    async def ask(self, place: Place, *words: str) -> list[dict[str, Any]]:
        """What a command with `--json` says about an instance, one object per line."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "staffetta", *words, "--json", "-c", str(place.config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # hints for people
        )
        output, _ = await process.communicate()
        return [json.loads(line) for line in output.decode().split("\n") if line]


def _spawn(place: Place) -> subprocess.Popen[bytes]:
    with (place.folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "staffetta", "run", "-c", str(place.config)]
        return subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603


def _free_ports(address: str, count: int) -> Sequence[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((address, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _loopback(number: int) -> str:
    # Linux owns all of 127/8; elsewhere only 127.0.0.1 answers without set-up.
    return f"127.0.0.{number}" if sys.platform == "linux" else "127.0.0.1"


CONFIG: Final = """\
version = 1
hostname = "{hostname}"
data_dir = "data"

[tls]
certificate = "{certificate}"
key = "{key}"

[listen.mx]                      # other servers bring mail for {domain} here
bind = ["{address}:{mx_port}"]
role = "mx"

[listen.submission]              # users of {domain} send from here, after login under TLS
bind = ["{address}:{submission_port}"]
role = "submission"

[domain."{domain}"]

[route.default]
source = ["{address}"]           # where its SPF record says that its mail comes from

[outbound]
port = {peer_port}
allow = ["127.0.0.0/8"]          # this whole internet is on loopback

[queue]
retry = ["1s", "1s", "2s"]

[dns]
servers = ["127.0.0.1:{dns_port}"]

[console]                        # health and metrics over HTTP
bind = "{address}:{console_port}"
"""


def _add_account(place: Place, local_part: str, password: str) -> None:
    subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "staffetta", "account", "add", f"{local_part}@{place.domain}"),
            *("--password-stdin", "-c", str(place.config)),
        ],
        input=password.encode(),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextlib.asynccontextmanager
async def running(folder: Path, password: str) -> AsyncIterator[Internet]:
    """The whole internet below `folder`, started; stopped at the end. Accounts: anna and carla here, bruno there."""
    authority = Authority(folder / "authority")
    places = []
    for number, domain in ((2, PROVIDER), (3, COMPANY)):
        address = _loopback(number)
        mx_port, submission_port, console_port = _free_ports(address, 3)
        place = Place(domain, folder / domain, address, mx_port, submission_port, console_port)
        place.folder.mkdir(mode=0o700)
        places.append(place)
    provider, company = places
    zones: dict[str, dict[str, list[str]]] = {}
    for place in places:
        zones[place.domain] = {"MX": [f"10 {place.hostname}"], "TXT": ["v=spf1 mx -all"]}
        zones[f"_dmarc.{place.domain}"] = {"TXT": ["v=DMARC1; p=reject"]}
        zones[place.hostname] = {"A": [place.address]}
    async with ZoneServer(zones) as zone:
        for place, peer in ((provider, company), (company, provider)):
            issued = authority.issue(place.hostname, stem=place.domain)
            place.config.write_text(
                CONFIG.format(
                    hostname=place.hostname,
                    domain=place.domain,
                    address=place.address,
                    mx_port=place.mx_port,
                    submission_port=place.submission_port,
                    console_port=place.console_port,
                    peer_port=peer.mx_port,
                    dns_port=zone.port,
                    certificate=issued.certificate,
                    key=issued.key,
                )
            )
            os.chmod(place.config, 0o600)
        for place, local_part in ((provider, "anna"), (provider, "carla"), (company, "bruno")):
            await asyncio.to_thread(_add_account, place, local_part, password)
        internet = Internet(folder, zone, provider, company, authority.ca)
        for place in places:
            # The domain's owner publishes what the relay says: the public halves of its DKIM keys.
            for record in await internet.ask(place, "dkim", "publish", place.domain):
                zone.put(record["name"], {record["type"]: [record["value"]]})
        try:
            await asyncio.gather(internet.start(provider), internet.start(company))
            yield internet
        finally:
            await asyncio.gather(internet.stop(provider), internet.stop(company))
