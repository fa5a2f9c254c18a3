"""The programs that sign and check for Postfix, started privately on loopback: OpenDKIM, OpenDMARC, an SPF policy
server. They find the DNS of the benchmark through a resolv.conf of their own, which needs root and a mount namespace.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.peers import folder
from bench.processes import free_port, spawn, stop, tool
from bench.results import Failed, Missing
from staffetta.mailauth.dkim.record import Algorithm, write_record
from staffetta.mailauth.dkim.sign import Signer, SigningKey, new_body_hash
from staffetta.message.header import Header
from staffetta.testing.sink import Sink

DOMAIN = "source.example"
SELECTOR = "bench"
DNS_ADDRESS = "127.0.0.53"
"""The old programs know no resolver on another port than 53."""

OPENDKIM = """
Syslog yes
SyslogSuccess no
UserID root
UMask 002
Socket inet:{port}@127.0.0.1
Mode {mode}
Canonicalization relaxed/relaxed
OversignHeaders From
KeyTable file:{folder}/keys
SigningTable file:{folder}/signing
InternalHosts {internal}
RequireSafeKeys no
TestPublicKeys {folder}/public
AutoRestart no
Background no
"""

OPENDMARC = """
Syslog yes
UserID root
Socket inet:{port}@127.0.0.1
AuthservID relay.bench.example
TrustedAuthservIDs relay.bench.example
IgnoreHosts {folder}/none
RejectFailures true
SPFIgnoreResults false
Background no
"""

POLICYD_SPF = """
debugLevel = 0
TestOnly = 1
HELO_reject = False
Mail_From_reject = Fail
PermError_reject = False
TempError_Defer = False
skip_addresses = ::ffff:192.0.2.0/104
Header_Type = AR
Authserv_Id = relay.bench.example
"""


class Key:
    """One RSA-2048 key, as OpenDKIM and as the DNS want it."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(65537, 2048)
        self.pem = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def zones(self) -> dict[str, dict[str, list[str]]]:
        """What the sending domain publishes; loopback is where its mail comes from."""
        return {
            DOMAIN: {"TXT": ["v=spf1 ip4:127.0.0.0/8 -all"], "MX": [f"10 mail.{DOMAIN}"]},
            f"mail.{DOMAIN}": {"A": ["127.0.0.1"]},
            f"_dmarc.{DOMAIN}": {"TXT": ["v=DMARC1; p=reject"]},
            f"{SELECTOR}._domainkey.{DOMAIN}": {"TXT": [write_record(self.private.public_key())]},
            "1.0.0.127.in-addr.arpa": {"PTR": [f"mail.{DOMAIN}"]},
        }

    def signed(self, content: bytes) -> bytes:
        """The message under a signature of this key."""
        head, _, body = content.partition(b"\r\n\r\n")
        hasher = new_body_hash()
        hasher.feed(body)
        signer = Signer([SigningKey(DOMAIN, SELECTOR, Algorithm.RSA_SHA256, self.private)])
        return signer.sign(Header(head + b"\r\n").fields, hasher.finish(), time.time()) + content


def one_message(port: int, send: Callable[[], object]) -> bytes:
    """What arrives at a port of ours, where nobody else may listen yet, after `send`. Raises Failed."""

    async def main() -> bytes:
        sink = Sink()
        await sink.start(host="127.0.0.1", port=port)
        try:
            await asyncio.to_thread(send)
            for _ in range(500):
                if sink.messages:
                    return sink.messages[0].content
                await asyncio.sleep(0.02)
            raise Failed("a message that should be looked at did not arrive")
        finally:
            await sink.stop()

    return asyncio.run(main())


@contextmanager
def dns(zones: dict[str, dict[str, list[str]]]) -> Iterator[None]:
    """A DNS server at DNS_ADDRESS, port 53, and a resolv.conf for `with_dns`."""
    if os.getuid() != 0:
        raise Missing("root, to serve DNS on port 53 of loopback")
    process = subprocess.Popen(
        [sys.executable, "-m", "staffetta.testing.zone", "53", DNS_ADDRESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(zones).encode() + b"\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise Failed("the DNS server of the benchmark did not start")
        yield
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def with_dns(path: Path, command: list[str]) -> list[str]:
    """The command, run where /etc/resolv.conf names the DNS of the benchmark and nobody else sees it."""
    (path / "resolv.conf").write_text(f"nameserver {DNS_ADDRESS}\n")
    script = f'mount --bind {path}/resolv.conf /etc/resolv.conf && exec "$@"'
    return [tool("unshare", "util-linux"), "-m", "sh", "-c", script, "sh", *command]


@contextmanager
def opendkim(key: Key, *, verify: bool) -> Iterator[int]:
    """OpenDKIM that signs for DOMAIN, or checks; its port."""
    with folder("opendkim") as path:
        port = free_port()
        (path / "key.pem").write_bytes(key.pem)
        (path / "key.pem").chmod(0o600)
        (path / "keys").write_text(f"one {DOMAIN}:{SELECTOR}:{path}/key.pem\n")
        (path / "signing").write_text(f"{DOMAIN} one\n")
        # Debian's OpenDKIM breaks down when its resolver library is asked twenty questions at once, so it gets the
        # key from a file: it is spared a question that we ask.
        public = write_record(key.private.public_key())
        (path / "public").write_text(f"{SELECTOR}._domainkey.{DOMAIN} {public}\n")
        internal = "192.0.2.1" if verify else "127.0.0.1"
        text = OPENDKIM.format(port=port, folder=path, mode="v" if verify else "s", internal=internal)
        (path / "opendkim.conf").write_text(text)
        command = [tool("opendkim", "opendkim"), "-f", "-x", str(path / "opendkim.conf")]
        with running(with_dns(path, command), port, "opendkim"):
            yield port


@contextmanager
def opendmarc() -> Iterator[int]:
    """OpenDMARC that refuses; its port."""
    with folder("opendmarc") as path:
        port = free_port()
        (path / "none").write_text("192.0.2.1\n")
        (path / "opendmarc.conf").write_text(OPENDMARC.format(port=port, folder=path))
        command = [tool("opendmarc", "opendmarc"), "-f", "-c", str(path / "opendmarc.conf")]
        with running(with_dns(path, command), port, "opendmarc"):
            yield port


@contextmanager
def spf_policy() -> Iterator[str]:
    """The service line of master.cf for Debian's SPF policy server, which Postfix itself starts."""
    program = shutil.which("policyd-spf")
    if program is None:
        raise Missing("policyd-spf (Debian package postfix-policyd-spf-python)")
    with folder("policyd") as path:
        (path / "policyd-spf.conf").write_text(POLICYD_SPF)
        (path / "policyd-spf.conf").chmod(0o644)
        start = path / "start"
        start.write_text(f"#!/bin/sh\nexec {program} {path}/policyd-spf.conf\n")
        start.chmod(0o755)
        yield f"policyd-spf unix - n n - 0 spawn user=nobody argv={start}\n"


@contextmanager
def running(command: list[str], port: int, name: str) -> Iterator[None]:
    """A program while it runs, from when it listens. Raises Failed."""
    process = spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _listens(process, port, name)
        yield
    finally:
        stop(process, 10)
        if process.stderr is not None:
            process.stderr.close()


def _listens(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    """Wait until it listens: a milter says nothing by itself. Raises Failed."""
    sought = f"{port:04X}"
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if process.poll() is not None:
            said = process.stderr.read().decode(errors="replace")[-300:] if process.stderr else ""
            raise Failed(f"{name} ended with {process.returncode}: {said}")
        for line in Path("/proc/net/tcp").read_text().split("\n")[1:]:
            words = line.split()
            if len(words) > 3 and words[1].endswith(f":{sought}") and words[3] == "0A":
                return
        time.sleep(0.02)
    raise Failed(f"{name} does not listen")
