"""Starts the real things side by side on loopback: smtp-sink, Postfix, Staffetta. Each cleans up after itself."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SBIN = "/usr/sbin:/sbin"
_COUNT = re.compile(rb"mesg=(\d+)")


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if found is None:
        raise SystemExit(f"{name} is not installed: run `make system` (Debian package postfix)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.settimeout(5)
            probe.recv(200)
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on port {port}")


class Sink:
    """smtp-sink, with its message counter read as it prints it."""

    def __init__(self, port: int) -> None:
        user = ["-u", "root"] if os.getuid() == 0 else []
        self.port = port
        self.messages = 0
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [tool("smtp-sink"), *user, "-c", f"127.0.0.1:{port}", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=self._read, daemon=True).start()
        wait_for_port(port)

    def _read(self) -> None:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        tail = b""
        while data := os.read(fd, 65536):
            tail = (tail + data)[-200:]
            found = _COUNT.findall(tail)
            if found:
                with self.changed:
                    self.messages = max(self.messages, int(found[-1]))
                    self.changed.notify_all()

    def wait_until(self, count: int, seconds: float) -> float:
        end = time.monotonic() + seconds
        with self.changed:
            while self.messages < count:
                left = end - time.monotonic()
                if left <= 0:
                    raise SystemExit(f"the sink got {self.messages} of {count} messages in {seconds} s")
                self.changed.wait(left)
        return time.monotonic()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    one = Sink(free_port())
    try:
        yield one
    finally:
        one.stop()


POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.bench.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{sink}
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated, reject
default_process_limit = 100
{extra}
"""


@contextlib.contextmanager
def postfix(sink_port: int, extra: str = "") -> Iterator[int]:
    """A private Postfix with default queue settings; yields the port of its smtpd."""
    folder = Path(tempfile.mkdtemp(prefix="bench-postfix-"))
    folder.chmod(0o755)
    port = free_port()
    for name in ("etc", "spool", "data"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    distributed = Path("/usr/share/postfix/master.cf.dist")
    master = (distributed if distributed.exists() else Path("/etc/postfix/master.cf")).read_text()
    master = re.sub(r"(?m)^smtp\s+inet.*$", f"127.0.0.1:{port} inet n - n - - smtpd", master)
    master = re.sub(r"(?m)^(\S+\s+(?:inet|unix)\s+\S+\s+\S+\s+)y", r"\1n", master)
    if "postlogd" not in master:
        master += "postlog unix-dgram n - n - 1 postlogd\n"
    (folder / "etc" / "master.cf").write_text(master)
    (folder / "etc" / "main.cf").write_text(POSTFIX_MAIN.format(folder=folder, sink=sink_port, extra=extra))
    command = [tool("postfix"), "-c", str(folder / "etc")]
    subprocess.run([*command, "start"], check=True, capture_output=True)
    try:
        wait_for_port(port)
        yield port
    finally:
        subprocess.run([*command, "stop"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


STAFFETTA = """
version = 1
hostname = "relay.bench.example"
data_dir = "{folder}/data"
[listen.relay]
bind = ["127.0.0.1:{port}"]
role = "relay"
tls = "off"
auth = false
[limits]
connections_per_client = 20000
connections = 20000
[route.sink]
via = "127.0.0.1:{sink}"
tls = "off"
[console]
bind = "off"
[log]
format = "json"
{extra}
"""


class Relay:
    """A running Staffetta."""

    def __init__(self, folder: Path, port: int, config: str) -> None:
        self.folder = folder
        self.port = port
        (folder / "staffetta.toml").write_text(config)
        self.log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "staffetta"), "run", "-c", str(folder / "staffetta.toml")],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for_port(port)
        except SystemExit:
            print((folder / "log").read_text()[-2000:], file=sys.stderr)
            self.stop()
            raise

    def memory(self) -> int:
        """Resident octets."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().split("\n"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise SystemExit("no memory figure")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@contextlib.contextmanager
def staffetta(sink_port: int, template: str = STAFFETTA, extra: str = "") -> Iterator[Relay]:
    folder = Path(tempfile.mkdtemp(prefix="bench-staffetta-"))
    port = free_port()
    relay = Relay(folder, port, template.format(folder=folder, port=port, sink=sink_port, extra=extra))
    try:
        yield relay
    finally:
        relay.stop()
        shutil.rmtree(folder, ignore_errors=True)


def source(port: int, messages: int, connections: int = 20, octets: int = 4096) -> None:
    """smtp-source: a new connection per message."""
    subprocess.run(
        [
            tool("smtp-source"),
            *("-s", str(connections), "-m", str(messages), "-l", str(octets)),
            *("-f", "sender@source.example", "-t", "recipient@target.example", f"127.0.0.1:{port}"),
        ],
        check=True,
    )
