"""Starts the real things side by side on loopback: smtp-sink, Postfix, Staffetta. Each cleans up after itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.processes import (
    cpu_seconds,
    first_greeting,
    free_port,
    resident_octets,
    run,
    spawn,
    stop,
    tool,
    until_quiet,
)
from bench.results import Failed
from staffetta.spool.database import open_reader
from staffetta.spool.recovery import STORE_NAME

_COUNT = re.compile(rb"mesg=(\d+)")
COUNTER_PAUSE_SECONDS = 0.005
"""How often the sink's counter is read: rarely, since reading every line of it would take CPU from who is measured."""

COUNTER_PIPE_OCTETS = 1024 * 1024


@dataclass(frozen=True)
class Server:
    """A running mail server: where it listens, its main process, and what says that nothing waits in its queue."""

    port: int
    pid: int
    empty: Callable[[], bool] = lambda: True

    def settle(self) -> None:
        """Wait until it has nothing left to do, so that the next to be measured has the machine for itself."""
        until_quiet(self.pid, self.empty)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)


class Sink:
    """smtp-sink, with its message counter read as it prints it."""

    def __init__(self, port: int) -> None:
        user = ["-u", "root"] if os.getuid() == 0 else []
        self.port = port
        self.messages = 0
        self.changed = threading.Condition()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the sink
        self.process = spawn(
            [tool("smtp-sink"), *user, "-c", f"127.0.0.1:{port}", "1000"],
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, COUNTER_PIPE_OCTETS)
        self._reading = threading.Thread(target=self._read, args=(self.process.stdout.fileno(),), daemon=True)
        self._reading.start()
        try:
            first_greeting(port)
        except BaseException:
            self.stop()
            raise

    @property
    def server(self) -> Server:
        return Server(self.port, self.process.pid)

    def _read(self, descriptor: int) -> None:
        tail = b""
        while data := os.read(descriptor, COUNTER_PIPE_OCTETS):
            tail = tail[-200:] + data[-400:]
            found = _COUNT.findall(tail[: tail.rfind(b"\r")])
            if found:
                with self.changed:
                    self.messages = max(self.messages, int(found[-1]))
                    self.changed.notify_all()
            time.sleep(COUNTER_PAUSE_SECONDS)

    def wait_until(self, count: int, seconds: float) -> float:
        """When so many had come. Raises Failed."""
        end = time.monotonic() + seconds
        with self.changed:
            while self.messages < count:
                left = end - time.monotonic()
                if self.process.poll() is not None:
                    self._complaints.seek(0)
                    said = self._complaints.read().decode(errors="replace").strip()
                    raise Failed(f"smtp-sink ended with {self.process.returncode} after {self.messages}: {said}")
                if left <= 0:
                    raise Failed(f"the sink got {self.messages} of {count} messages in {seconds:g} s")
                self.changed.wait(min(left, 1.0))
        return time.monotonic()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._complaints.close()


@contextlib.contextmanager
def sink(port: int = 0) -> Iterator[Sink]:
    one = Sink(port or free_port())
    try:
        yield one
    finally:
        one.stop()


@contextlib.contextmanager
def folder(name: str) -> Iterator[Path]:
    """A directory on the disk where the stores shall lie (TMPDIR chooses it); gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


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
# Every message is logged to a file, as with Staffetta.
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
# No DNS: neither side is to wait for a resolver.
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated, reject
{extra}
"""
"""Queue, concurrency and process limits are those that Postfix comes with."""

POSTFIX_SECONDS = 300
"""No benchmark needs it longer."""


@contextlib.contextmanager
def postfix(
    sink_port: int,
    extra: str = "",
    prepare: Callable[[Path], None] | None = None,
    wrap: Callable[[list[str]], list[str]] = list,
) -> Iterator[Server]:
    """A private Postfix that relays everything to the sink. `prepare` gets its directory before it starts, `wrap`
    makes of its command another one that runs it."""
    with folder("postfix") as path:
        port = free_port()
        for name in ("etc", "spool", "data"):
            (path / name).mkdir()
        if os.getuid() == 0:
            shutil.chown(path / "data", "postfix")
        _configure_postfix(path, port, sink_port, extra)
        if prepare is not None:
            prepare(path)
        etc = str(path / "etc")
        run([tool("postfix"), "-c", etc, "check"], 30)
        daemons = run([tool("postconf"), "-c", etc, "-h", "daemon_directory"], 10).stdout.decode().strip()
        # Started without `postfix start`, the master stays our child, and on SIGTERM it ends its own children. It
        # changes its user, and with it forgets what the kernel shall do when we die: hence an end in any case.
        command = [f"{daemons}/master", "-c", etc, "-e", str(POSTFIX_SECONDS)]
        master = spawn(wrap(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            first_greeting(port, master)
            yield Server(port, master.pid, lambda: _postfix_empty(path / "spool"))
        except Failed as failure:
            raise Failed(f"{failure}; Postfix said: {_tail(path / 'log')}") from failure
        finally:
            stop(master, 10)


def _configure_postfix(path: Path, port: int, sink_port: int, extra: str) -> None:
    distributed = Path("/usr/share/postfix/master.cf.dist")
    master = (distributed if distributed.exists() else Path("/etc/postfix/master.cf")).read_text()
    master = re.sub(r"(?m)^smtp\s+inet.*$", f"127.0.0.1:{port} inet n - n - - smtpd", master)
    master = re.sub(r"(?m)^(\S+\s+(?:inet|unix)\s+\S+\s+\S+\s+)y", r"\1n", master)
    if not re.search(r"(?m)^postlog\s", master):
        master += "postlog unix-dgram n - n - 1 postlogd\n"
    (path / "etc" / "master.cf").write_text(master)
    main = POSTFIX_MAIN.format(folder=path, sink=sink_port, extra=extra)
    (path / "etc" / "main.cf").write_text(main)


def _postfix_empty(spool: Path) -> bool:
    for name in ("maildrop", "incoming", "active", "deferred"):
        for _, _, files in os.walk(spool / name):
            if files:
                return False
    return True


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


def staffetta_command() -> str:
    """The command beside the interpreter that runs us."""
    return str(Path(sys.executable).parent / "staffetta")


class Relay:
    """A running Staffetta. `started` is when its process began, `greeted` when it first said 220."""

    def __init__(self, path: Path, port: int) -> None:
        self.folder = path
        self.port = port
        self.config = path / "staffetta.toml"
        self.log = path / "log"
        self.started = time.monotonic()
        with self.log.open("ab") as output:
            self.process = spawn(
                [staffetta_command(), "run", "-c", str(self.config)], stdout=output, stderr=subprocess.STDOUT
            )
        try:
            self.greeted = first_greeting(port, self.process, pause=0.01)
        except BaseException as error:
            self.stop()
            if isinstance(error, Failed):
                raise Failed(f"{error}; Staffetta said: {_tail(self.log)}") from error
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def memory(self, field: str = "VmRSS") -> int:
        """Resident octets."""
        return resident_octets(self.pid, field)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def queued(self) -> int:
        """Recipients that wait, read from the store itself."""
        reader = open_reader(self.folder / "data" / STORE_NAME)
        try:
            return int(reader.execute("SELECT count(*) FROM recipients").fetchall()[0][0])
        finally:
            reader.close()

    def rest(self) -> None:
        """Wait until it burns no CPU."""
        until_quiet(self.pid)

    def settle(self) -> None:
        """Wait until it has nothing left to do."""
        until_quiet(self.pid, lambda: self.queued() == 0)

    def stop(self) -> None:
        stop(self.process)


@contextlib.contextmanager
def staffetta(
    sink_port: int, template: str = STAFFETTA, extra: str = "", prepare: Callable[[Path], None] | None = None
) -> Iterator[Relay]:
    """A Staffetta that relays everything to the sink. `prepare` gets its directory before it starts."""
    with folder("staffetta") as path:
        port = free_port()
        config = template.format(folder=path, port=port, sink=sink_port, extra=extra)
        (path / "staffetta.toml").write_text(config)
        if prepare is not None:
            prepare(path)
        relay = Relay(path, port)
        try:
            yield relay
        except Failed as failure:
            raise Failed(f"{failure}; Staffetta said: {_tail(relay.log)}") from failure
        finally:
            relay.stop()


def source(port: int, messages: int, connections: int = 20, octets: int = 4096) -> None:
    """smtp-source: a new connection per message."""
    command = [
        tool("smtp-source"),
        *("-s", str(connections), "-m", str(messages), "-l", str(octets)),
        *("-f", "sender@source.example", "-t", "recipient@target.example", f"127.0.0.1:{port}"),
    ]
    run(command, 120)


def send_one(port: int, recipient: str, seconds: float = 10.0) -> None:
    """One small message over a plain dialogue; returns after the 250 that follows the dot."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection, connection.makefile("rb") as replies:
        _expect(replies.readline, b"220")
        for line, code in (
            (b"EHLO client.example", b"250"),
            (b"MAIL FROM:<sender@source.example>", b"250"),
            (b"RCPT TO:<%s>" % recipient.encode(), b"250"),
            (b"DATA", b"354"),
            (b"Subject: fresh\r\n\r\nHello.\r\n.", b"250"),
            (b"QUIT", b"221"),
        ):
            connection.sendall(line + b"\r\n")
            _expect(replies.readline, code)


def _expect(readline: Callable[[], bytes], code: bytes) -> None:
    line = readline()
    while line[3:4] == b"-":
        line = readline()
    if line[:3] != code:
        raise Failed(f"expected {code.decode()}, got {line!r}")


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-600:].strip() if path.exists() else "nothing"
