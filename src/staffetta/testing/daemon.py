"""The installed daemon in a process of its own, on loopback, with everything that it accepts sent on to one sink.

    async with Daemon(folder, doors, accounts) as daemon:
        async with daemon.wire("mx") as wire: ...

Doors bind to port 0; where they are is read from the `ready` event. A wire is one TCP connection, for dialogues and
for tests that look at what an outsider can see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import apsw

from staffetta.accounts.store import AccountStore
from staffetta.mail.address import parse_mailbox
from staffetta.net.channel import Channel, ChannelClosed, ChannelTimeout
from staffetta.net.connect import SocketConnector
from staffetta.net.contract import Endpoint
from staffetta.net.tls import ClientContexts
from staffetta.spool.recovery import STORE_NAME
from staffetta.testing.authority import Authority
from staffetta.testing.sink import Sink

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 40.0
PATIENCE_SECONDS: Final = 10.0
"""How long an answer may take on a busy machine."""

OVERHEAR_SECONDS: Final = 0.2
"""How long to listen for what should not be said."""

CONFIG: Final = """\
version = 1
hostname = "mx.example.org"
data_dir = "data"
[console]
bind = "off"
[tls]
certificate = "mx.pem"
key = "mx.key"
[log]
format = "json"
[domain."example.org"]
deliver = "smtp:127.0.0.1:{sink}"
[route.sink]
via = "127.0.0.1:{sink}"
tls = "off"
"""


class Daemon:
    """One relay, started and stopped. `text` is TOML behind `head`; accounts are `address: password`."""

    def __init__(self, folder: Path, text: str, accounts: Mapping[str, str], *, head: str = CONFIG) -> None:
        self.folder = folder
        self.sink = Sink()
        self.doors: dict[str, Endpoint] = {}
        self.authority = Authority(folder)
        self.process: subprocess.Popen[bytes] | None = None
        self._text = text
        self._head = head
        self._accounts = accounts

    async def __aenter__(self) -> Daemon:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        self.authority.issue("mx.example.org", stem="mx")
        await self.sink.start()
        config = self.folder / "staffetta.toml"
        config.write_text(self._head.format(sink=self.sink.port) + self._text)
        config.chmod(0o600)
        data = self.folder / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        store = AccountStore.open(data)
        for address, password in self._accounts.items():
            if not store.exists(parse_mailbox(address)):
                store.add(parse_mailbox(address), password)
        store.close()
        await self.launch()

    async def launch(self) -> None:
        """Start it, once more when it has ended, by the configuration that was written last."""
        config = self.folder / "staffetta.toml"
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as complaints:
            process = self.process = subprocess.Popen(  # noqa: S603, ASYNC220
                [sys.executable, "-m", "staffetta", "run", "-c", str(config)],
                stdout=out,
                stderr=complaints,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        async with asyncio.timeout(START_SECONDS):
            while not self.doors:
                if process.poll() is not None:
                    raise RuntimeError(f"the relay did not start: {self.complaints()}")
                await asyncio.sleep(0.02)
                self._find_doors()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.sink.stop()

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        process = self.process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(process.wait, STOP_SECONDS)

    def family(self) -> list[int]:
        """Its process and all that came of it, the first one first."""
        process = self.process
        return [] if process is None or process.poll() is not None else family_of(process.pid)

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log so far. Raises ValueError for a line that is no JSON."""
        text = (self.folder / "stdout").read_bytes()
        return [json.loads(line) for line in text.split(b"\n")[:-1]]

    def complaints(self) -> str:
        """What it wrote to standard error, but for the warning that it runs as root, as tests may."""
        lines = (self.folder / "stderr").read_text().split("\n")
        return "\n".join([line for line in lines if not line.startswith("staffetta: running as root")])

    async def told(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """The events of that name in the log, once there are so many. Raises TimeoutError with what was complained."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(found := [event for event in self.log() if event["event"] == name]) < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TimeoutError(f"{len(found)} {name}, not {count}; {self.complaints()}") from None
        return found

    def write(self, text: str) -> None:
        """Another configuration behind CONFIG; `reload` makes the relay read it."""
        config = self.folder / "staffetta.toml"
        fresh = config.with_suffix(".new")
        fresh.write_text(self._head.format(sink=self.sink.port) + text)
        fresh.chmod(0o600)
        fresh.replace(config)

    async def reload(self, text: str | None = None) -> dict[str, Any]:
        """SIGHUP, with another configuration when one is given; the event that says what became of it."""
        ends = ("reloaded", "reload_refused")
        before = sum(event["event"] in ends for event in self.log())
        if text is not None:
            self.write(text)
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(found := [event for event in self.log() if event["event"] in ends]) <= before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        self._find_doors()
        return found[-1]

    def journal(self) -> list[dict[str, Any]]:
        """Every event that is on disk, in order."""
        connection = apsw.Connection(str(self.folder / "data" / STORE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            rows: list[tuple[Any, ...]] = connection.execute("SELECT lines FROM journal ORDER BY seq").fetchall()
        finally:
            connection.close()
        return [json.loads(line) for (lines,) in rows for line in str(lines, "utf-8").split("\n") if line]

    def accepted(self) -> int:
        """How many messages are or were on disk."""
        return sum(event["event"] == "accept" for event in self.journal())

    @contextlib.asynccontextmanager
    async def wire(self, door: str, *, tls: bool = False, address: str = "127.0.0.1") -> AsyncIterator[DaemonWire]:
        """A connection to a door."""
        loop = asyncio.get_running_loop()
        endpoint = Endpoint(address, self.doors[door].port)
        channel = await SocketConnector().connect([endpoint], deadline=loop.time() + PATIENCE_SECONDS)
        wire = DaemonWire(self, channel)
        try:
            if tls:
                await wire.start_tls()
            yield wire
        finally:
            channel.abort()
            await asyncio.sleep(0)

    def _find_doors(self) -> None:
        for event in self.log():
            if event["event"] in {"ready", "reloaded"}:
                self.doors.clear()
                for listener in event["listeners"]:
                    name, _, where = listener.rpartition(" ")
                    host, _, port = where.rpartition(":")
                    self.doors[name] = Endpoint(host, int(port))


def family_of(pid: int) -> list[int]:
    """A process and all that came of it and lives (proc(5))."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family_of(int(child))
    return found


class DaemonWire:
    """One TCP connection, as dialogues want it."""

    def __init__(self, daemon: Daemon, channel: Channel) -> None:
        self.daemon = daemon
        self.channel = channel
        self._ended = False
        self._accepted_before = daemon.accepted()
        self._arrived_before = daemon.sink.count

    async def send(self, octets: bytes) -> None:
        """Send."""
        self.channel.write(octets)

    async def receive_until_quiet(self) -> bytes:
        """What comes next; b"" when nothing comes, or nothing any more."""
        return await self._read(PATIENCE_SECONDS)

    async def overhear(self) -> bytes:
        """What comes although nothing should."""
        return await self._read(OVERHEAR_SECONDS)

    async def start_tls(self) -> None:
        """Shake hands."""
        context = ClientContexts().verified(self.daemon.authority.ca)
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        await self.channel.start_tls(context, server_name="mx.example.org", deadline=deadline)

    async def is_closed(self) -> bool:
        """True when the relay has closed."""
        return self._ended

    async def accepted(self) -> list[bytes]:
        """Messages accepted since this wire was made: the journal says how many, the sink what they were."""
        count = self.daemon.accepted() - self._accepted_before
        await self.daemon.sink.arrived(self._arrived_before + count)
        return [received.content for received in self.daemon.sink.messages[self._arrived_before :]]

    async def say(self, *lines: str) -> list[str]:
        """Send lines in one piece; the lines of as many replies."""
        await self.send(b"".join([line.encode() + b"\r\n" for line in lines]))
        return await self.replies(len(lines))

    async def replies(self, count: int = 1) -> list[str]:
        """The lines of so many replies; fewer when the relay closes."""
        heard = b""
        while True:
            lines = heard.decode().split("\r\n")
            if sum(line[3:4] == " " for line in lines[:-1]) >= count or self._ended:
                return lines[:-1]
            heard += await self.receive_until_quiet()

    async def _read(self, seconds: float) -> bytes:
        try:
            data = await self.channel.read(asyncio.get_running_loop().time() + seconds)
        except ChannelTimeout:
            return b""
        except ChannelClosed:
            data = b""
        self._ended = not data
        return data
