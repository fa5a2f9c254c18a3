"""The installed daemon, and real peers around it on loopback.

A test whose peer is missing is skipped with the reason, and fails where CI=true.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.testing.authority import Authority
from staffetta.testing.sink import Sink

PASSWORD = "Geheim und lang 9"
SECONDS = 20.0


def component(command: str, package: str = "") -> str:
    """The path of a system component; without it the test is skipped, and fails where CI=true."""
    found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        missing(f"{command} is not installed (Debian package {package or command})")
    return str(found)


def missing(reason: str) -> None:
    """Skip for this reason, or fail where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run(command: list[str], *, seconds: float = SECONDS, **options: Any) -> subprocess.CompletedProcess[str]:
    """A client from start to end; what it said, both streams in one."""
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
        **({"stdin": subprocess.DEVNULL} if "input" not in options else {}),
        **options,
    )


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((address, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def greets(port: int, process: subprocess.Popen[bytes], log: Path, address: str = "127.0.0.1") -> None:
    """Wait until a server says 220."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 5) as probe:
            if probe.recv(3) == b"220":
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing greets: {log.read_text(errors='replace')[-2000:] if log.exists() else ''}")


CONFIG = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[tls]
certificate = "{certificate}"
key = "{key}"
[listen.submission]
bind = ["127.0.0.1:{submission}"]
role = "submission"
[listen.submissions]
bind = ["127.0.0.1:{submissions}"]
role = "submission"
tls = "implicit"
[listen.old]
bind = ["127.0.0.1:{old}"]
role = "relay"
tls = "legacy"
[listen.relay]
bind = ["127.0.0.1:{relay}"]
role = "relay"
tls = "starttls"
[domain."home.example"]
[queue]
retry = ["1s"]
[limits]
connections_per_client = 1000
[console]
bind = "off"
"""


class Daemon:
    """`staffetta run`, with doors `submission`, `submissions` (implicit TLS), `old` (legacy TLS) and `relay`."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self.file = folder / "staffetta.toml"
        self.log = folder / "log"
        self.submission, self.submissions, self.old, self.relay = free_ports(4)
        issued = self.authority.issue("relay.example", "localhost", "127.0.0.1")
        self.file.write_text(
            CONFIG.format(
                certificate=issued.certificate,
                key=issued.key,
                submission=self.submission,
                submissions=self.submissions,
                old=self.old,
                relay=self.relay,
            )
            + more
        )
        self.file.chmod(0o600)
        self.process: subprocess.Popen[bytes]

    def command(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A verb over its configuration."""
        return run([sys.executable, "-m", "staffetta", *words, "-c", str(self.file)], **options)

    def waiting(self) -> list[str]:
        """What `queue list --json` says, by line."""
        done = subprocess.run(
            [sys.executable, "-m", "staffetta", "queue", "list", "--json", "-c", str(self.file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return done.stdout.decode().split("\n")[:-1]

    def account(self, address: str, *may_send: str) -> None:
        """A login and mailbox."""
        grants = [word for one in may_send for word in ("--may-send", one)]
        done = self.command("account", "add", address, "--password-stdin", *grants, input=PASSWORD)
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Run until `stop`."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "staffetta", "run", "-c", str(self.file)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        greets(self.relay, self.process, self.log)

    def stop(self) -> None:
        """SIGTERM, which must end in order."""
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(SECONDS) == 0
        finally:
            self.process.kill()
            self.process.wait()
        assert "Traceback" not in self.log.read_text(errors="replace")

    def letter(self, marker: str, name: str = "ben", domain: str = "home.example") -> bytes:
        """The one message of a mailbox with these words in it, once it is there."""
        box = self.folder / "data" / "mail" / domain / name
        seen: set[Path] = set()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            files = {file for file in box.glob("new/*") if file not in seen}
            found = [content for content in (file.read_bytes() for file in files) if marker.encode() in content]
            if found:
                assert len(found) == 1, f"{len(found)} messages with {marker}"
                return found[0]
            seen |= files
            time.sleep(0.02)
        raise AssertionError(f"no {marker} came for {name}: {self.log.read_text(errors='replace')[-3000:]}")

    def mailbox(self, name: str, count: int = 1, domain: str = "home.example") -> list[bytes]:
        """The messages of a mailbox, once there are so many."""
        new = self.folder / "data" / "mail" / domain / name / "new"
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            files = sorted(new.iterdir()) if new.is_dir() else []
            if len(files) >= count:
                return [file.read_bytes() for file in files]
            time.sleep(0.03)
        raise AssertionError(f"nothing came for {name}: {self.log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running daemon with the accounts anna and ben of home.example, for the tests of one module."""
    one = Daemon(tmp_path_factory.mktemp("daemon"))
    one.account("anna@home.example")
    one.account("ben@home.example")
    one.account("jörg@home.example")
    one.start()
    yield one
    one.stop()


class Catcher(threading.Thread):
    """A Python sink in a thread of its own, so that a test may wait for other programs."""

    def __init__(self, script: Any = None) -> None:
        super().__init__(daemon=True)
        self.sink = Sink(script)
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self.sink.start())
        self.start()

    def run(self) -> None:
        self._loop.run_forever()

    def wait(self, count: int) -> list[Any]:
        """The messages, once there are so many."""
        end = time.monotonic() + SECONDS
        while self.sink.count < count and time.monotonic() < end:
            time.sleep(0.02)
        assert self.sink.count >= count, f"{self.sink.count} of {count} messages came"
        return list(self.sink.messages)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.sink.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(10)
        self._loop.close()
        assert self.sink.wrong == []


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    one = Catcher()
    yield one
    one.stop()


MAIN_CF = """
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_peername_lookup = no
minimal_backoff_time = 1s
queue_run_delay = 1s
{more}
"""


QUEUE = ("incoming", "active", "deferred", "bounce", "defer", "trace", "flush", "hold", "corrupt", "private", "public")


@contextlib.contextmanager
def postfix(folder: Path, more: str, address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A private Postfix with these settings; its port. Its own account must be able to enter `folder`."""
    component("postfix")
    postconf = component("postconf", "postfix")
    if os.getuid() != 0:
        missing("Postfix needs root to start")
    for name in ("etc", "spool", "data", "spool/pid"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    # What `postfix check` would make.
    for name in QUEUE:
        (folder / "spool" / name).mkdir(mode=0o700)
        shutil.chown(folder / "spool" / name, "postfix")
    shutil.chown(folder / "spool" / "public", group="postdrop")
    (folder / "spool" / "public").chmod(0o2710)
    port = port or free_ports(1)[0]
    distributed = Path("/usr/share/postfix/master.cf.dist")
    master_cf = (distributed if distributed.exists() else Path("/etc/postfix/master.cf")).read_text()
    master_cf = re.sub(r"(?m)^smtp\s+inet.*$", f"{address}:{port} inet n - n - - smtpd", master_cf)
    master_cf = re.sub(r"(?m)^(\S+\s+(?:inet|unix)\s+\S+\s+\S+\s+)y", r"\1n", master_cf)
    if not re.search(r"(?m)^postlog\s", master_cf):
        master_cf += "postlog unix-dgram n - n - 1 postlogd\n"
    (folder / "etc" / "master.cf").write_text(master_cf)
    (folder / "etc" / "main.cf").write_text(MAIN_CF.format(folder=folder, more=more))
    # Every part of Postfix waits until this file is two seconds old: somebody could still be writing it.
    os.utime(folder / "etc" / "main.cf", (0, 0))
    etc = str(folder / "etc")
    daemons = run([postconf, "-d", "-h", "daemon_directory"]).stdout.strip()
    # Not `postfix start`: as our child it ends with us, and after two minutes in any case.
    process = subprocess.Popen(
        [f"{daemons}/master", "-c", etc, "-e", "120"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        greets(port, process, folder / "log", address)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


TRACE = {b"return-path", b"delivered-to", b"received", b"received-spf", b"authentication-results", b"dkim-signature"}


def without_trace(content: bytes) -> bytes:
    """The message as it was sent: without the fields that servers put in front of it."""
    while (colon := content.find(b":")) > 0 and content[:colon].lower() in TRACE:
        end = content.find(b"\r\n") + 2
        while content[end : end + 1] in {b" ", b"\t"}:
            end = content.find(b"\r\n", end) + 2
        content = content[end:]
    return content


@pytest.fixture(name="without_trace", scope="session")
def _without_trace() -> Callable[[bytes], bytes]:
    return without_trace


@pytest.fixture(name="free_ports", scope="session")
def _free_ports() -> Callable[..., list[int]]:
    return free_ports


@pytest.fixture(name="greets", scope="session")
def _greets() -> Callable[..., None]:
    return greets


@pytest.fixture(name="missing", scope="session")
def _missing() -> Callable[[str], None]:
    return missing


def wait_for(look: Callable[[], Any]) -> Any:
    """The first true value that `look` has."""
    end = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < end, f"waited in vain; last: {found!r}"
        time.sleep(0.03)
    return found


@pytest.fixture(name="wait_for", scope="session")
def _wait_for() -> Callable[..., Any]:
    return wait_for


@pytest.fixture(scope="session")
def make_daemon() -> type[Daemon]:
    """For a folder: a daemon that is not started yet."""
    return Daemon


@pytest.fixture(name="component", scope="session")
def _component() -> Callable[..., str]:
    return component


@pytest.fixture(name="run", scope="session")
def _run() -> Callable[..., Any]:
    return run


@pytest.fixture(name="postfix")
def _postfix() -> Iterator[Callable[..., int]]:
    """Starts a Postfix with further settings (and `address`, `port`); its port. Ends with the test."""
    # Not in pytest's folder, which is root's alone.
    with tempfile.TemporaryDirectory(prefix="postfix-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with contextlib.ExitStack() as stack:
            yield lambda more, **where: stack.enter_context(postfix(Path(folder), more, **where))


@pytest.fixture
def smtp_sink(tmp_path: Path) -> Iterator[int]:
    """The port of Postfix's smtp-sink."""
    program = component("smtp-sink", "postfix")
    port = free_ports(1)[0]
    user = ["-u", "root"] if os.getuid() == 0 else []
    with (tmp_path / "smtp-sink").open("wb") as log:
        process = subprocess.Popen([program, *user, f"127.0.0.1:{port}", "500"], stdout=log, stderr=log)
    try:
        greets(port, process, tmp_path / "smtp-sink")
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def trusting(daemon: Daemon) -> ssl.SSLContext:
    """TLS as a client has it that knows the daemon's authority."""
    return ssl.create_default_context(cafile=str(daemon.authority.ca))


@pytest.fixture(scope="session")
def password() -> str:
    return PASSWORD


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[[str], Daemon]]:
    """Starts a daemon of the test's own, with more configuration."""
    started: list[Daemon] = []

    def start(more: str, prepare: Callable[[Daemon], None] = lambda _: None) -> Daemon:
        one = Daemon(tmp_path, more)
        prepare(one)
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()
