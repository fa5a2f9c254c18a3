"""The first five minutes: a file that init wrote, a relay that runs on it, and a message that arrives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from staffetta.net.tls import ServerCertificate
from staffetta.testing.authority import Authority
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Script

MESSAGE = "From: anna@office.example\r\nTo: ben@x.example\r\nSubject: first\r\n\r\nIt works.\r\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "staffetta", *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return done


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("STAFFETTA_")}


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[dict[str, Any]]:
    """`staffetta run` in that folder; what its first line of log says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "staffetta",
        "run",
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            first = await process.stdout.readline()
        assert first, (await process.communicate())[1]
        yield json.loads(first)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            _, complaints = await process.communicate()
    assert process.returncode == 0, complaints


def test_a_smarthost_with_a_password(tmp_path: Path) -> None:
    """Two commands of ours between a fresh folder and a relayed message: init and run."""

    async def whole() -> None:
        authority = Authority(tmp_path / "authority")
        issued = authority.issue("localhost")
        certificate = ServerCertificate(issued.certificate, issued.key, report=print)
        script = Script(login=("office", "hunter2"), context=certificate.context("sink", legacy=False))
        script.extensions += ("STARTTLS",) if "STARTTLS" not in script.extensions else ()
        async with Sink(script) as sink:
            port = free_port()
            words = ["init", "smarthost", f"localhost:{sink.port}", "--hostname", "relay.office.example"]
            words += ["--login", "office", "--password-stdin", "--ca", str(authority.ca), "--unprivileged"]
            words += ["--listen", f"relay=127.0.0.1:{port}", "--no-input"]
            await asyncio.to_thread(command, tmp_path, *words, stdin="hunter2\n")
            (tmp_path / "staffetta.toml").write_text((tmp_path / "staffetta.toml").read_text() + CONSOLE_OFF)
            async with serving(tmp_path) as ready:
                assert ready["listeners"] == [f"relay 127.0.0.1:{port}"]
                await asyncio.to_thread(send, port)
                await sink.arrived(1)
        received = sink.messages[0]
        assert (received.login, received.tls, received.rcpts) == ("office", True, [b"TO:<ben@x.example>"])
        assert b"Subject: first" in received.content
        assert b"It works." in received.content

    asyncio.run(whole())


CONSOLE_OFF = '[console]\nbind = "off"\n'


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.ehlo()
        assert client.has_extn("starttls")  # the certificate for trying
        client.sendmail("anna@office.example", ["ben@x.example"], MESSAGE)


def test_a_domain_with_a_mailbox(tmp_path: Path) -> None:
    async def whole() -> None:
        ports = [free_port() for _ in range(3)]
        words = ["init", "domain", "example.org", "--unprivileged", "--no-input"]
        for door, port in zip(("mx", "submission", "submissions"), ports, strict=True):
            words += ["--listen", f"{door}=127.0.0.1:{port}"]
        await asyncio.to_thread(command, tmp_path, *words)
        (tmp_path / "staffetta.toml").write_text((tmp_path / "staffetta.toml").read_text() + CONSOLE_OFF)
        add = ["account", "add", "anna@example.org", "--password-stdin"]
        await asyncio.to_thread(command, tmp_path, *add, stdin="correct horse battery\n")
        async with serving(tmp_path) as ready:
            assert len(ready["listeners"]) == 3
            await asyncio.to_thread(deliver, ports)
            new = tmp_path / "data" / "mail" / "example.org" / "anna" / "new"
            async with asyncio.timeout(20):
                while not (new.is_dir() and len(list(new.iterdir())) == 2):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)

    asyncio.run(whole())


def deliver(ports: list[int]) -> None:
    """From outside, and from the mailbox's owner to itself over TLS from the first octet."""
    with smtplib.SMTP("127.0.0.1", ports[0], timeout=20) as client:
        client.sendmail("ben@x.example", ["anna@example.org"], MESSAGE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP_SSL("127.0.0.1", ports[2], timeout=20, context=context) as client:
        client.login("anna@example.org", "correct horse battery")
        client.sendmail("anna@example.org", ["anna@example.org"], MESSAGE.replace("office.example", "example.org"))
