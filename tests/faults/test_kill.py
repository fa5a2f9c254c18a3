"""SIGKILL of the installed daemon under load, ten times, judged by the client's own record (threats R1, R7).

What the client heard 250 for arrives, whole, at least once; a second copy exists only of what was in flight when the
relay died; the books balance, and the journal tells the journey of every message.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from staffetta.cli.main import cli
from staffetta.spool.operator import audit, open_for_command
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Fault, Kind, Received, Script

CYCLES = 10
CLIENTS = 6
CONNECTIONS = 4
RECIPIENTS = 5
GREETED_SECONDS = 5.0
DOMAINS = ("a.example", "b.example")

CONFIG = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[listen.relay]
bind = ["127.0.0.1:{port}"]
role = "relay"
tls = "off"
auth = false
[route.a]
to = ["a.example"]
via = "127.0.0.1:{a}"
tls = "off"
connections = {connections}
[route.b]
to = ["b.example"]
via = "127.0.0.1:{b}"
tls = "off"
connections = {connections}
[queue]
retry = ["1s"]
[console]
bind = "off"
"""


class Moody(Fault):
    """Strikes every eleventh time."""

    def strikes(self) -> bool:
        self.struck += 1
        return self.struck % 11 == 0


class Counting(Sink):
    """Knows, for each message and recipient, in which life of the relay and when it came; and that it came whole."""

    def __init__(self, record: Record) -> None:
        faults = (
            Moody("mail", Kind.REPLY, b"451 4.3.0 not now\r\n"),
            Moody("rcpt", Kind.REPLY, b"450 4.2.0 later\r\n"),
        )
        super().__init__(Script(faults=faults, keep=False))
        self.record = record
        self.began: list[int] = []

    def take(self, received: Received) -> None:
        super().take(received)
        head, _, body = received.content.partition(b"\r\n\r\n")
        number = int(head.partition(b"X-Number: ")[2].partition(b"\r\n")[0])
        life = sum(received.session > first for first in self.began) - 1
        if hashlib.sha256(body).digest() != self.record.digests[number]:
            self.wrong.append(f"message {number} is not what was sent")
        for rcpt in received.rcpts:
            address = rcpt.partition(b"<")[2].partition(b">")[0].decode()
            self.record.arrived[number, address].append((life, time.monotonic()))
        self.record.changed.set()


class Record:
    """The client's: what it sent, and what was acknowledged."""

    def __init__(self) -> None:
        self.digests: dict[int, bytes] = {}
        self.acknowledged: dict[int, tuple[str, ...]] = {}
        self.ids: dict[int, str] = {}
        self.arrived: dict[tuple[int, str], list[tuple[int, float]]] = defaultdict(list)
        self.killed: list[float] = []
        self.changed = asyncio.Event()

    def missing(self) -> list[tuple[int, str]]:
        return [
            (number, address)
            for number, recipients in self.acknowledged.items()
            for address in recipients
            if (number, address) not in self.arrived
        ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def expect(reader: asyncio.StreamReader, code: bytes) -> bytes:
    while True:
        line = await reader.readline()
        if line[:3] != code:
            raise ConnectionError(f"{line!r} in place of {code!r}")
        if line[3:4] == b" ":
            return line


async def send(port: int, record: Record, number: int, random: Random) -> None:
    """One message on a new connection. Raises OSError when the relay died meanwhile."""
    size = random.choice([1_000, 1_000, 4_000, 4_000, 4_000, 70_000, 300_000, 600_000])
    body = (random.randbytes(24).hex().encode() + b"\r\n") * (size // 50)
    record.digests[number] = hashlib.sha256(body).digest()
    count = random.randint(1, RECIPIENTS)
    recipients = tuple(f"u{n}@{random.choice(DOMAINS)}" for n in range(count))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await expect(reader, b"220")
        commands = ["EHLO client.example", "MAIL FROM:<anna@near.example>", *(f"RCPT TO:<{r}>" for r in recipients)]
        for command in commands:
            writer.write(command.encode() + b"\r\n")
            await expect(reader, b"250")
        writer.write(b"DATA\r\n")
        await expect(reader, b"354")
        writer.write(b"Subject: kill\r\nX-Number: %d\r\n\r\n" % number + body + b".\r\n")
        await writer.drain()
        answer = await expect(reader, b"250")
        record.acknowledged[number] = recipients
        record.ids[number] = answer.decode().split(" ")[-1].strip()
    finally:
        writer.transport.abort()


async def load(port: int, record: Record, numbers: Counter[str], random: Random) -> None:
    """Send one message after the other until cancelled."""
    while True:
        numbers["next"] += 1
        try:
            await send(port, record, numbers["next"], random)
        except OSError:
            await asyncio.sleep(0.01)


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "staffetta", "run", "-c", str(folder / "staffetta.toml")],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


async def greeted(port: int, process: subprocess.Popen[bytes], folder: Path) -> float:
    """Seconds until the relay said 220."""
    begun = time.monotonic()
    while time.monotonic() < begun + 20 and process.poll() is None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            line = await reader.readline()
            writer.transport.abort()
            if line[:3] == b"220":
                return time.monotonic() - begun
        await asyncio.sleep(0.02)
    raise AssertionError((folder / "log").read_text()[-2000:])


async def ten_lives(folder: Path, record: Record, random: Random) -> list[float]:
    port = free_port()
    sinks = [Counting(record), Counting(record)]
    for sink in sinks:
        await sink.start()
    config = CONFIG.format(port=port, a=sinks[0].port, b=sinks[1].port, connections=CONNECTIONS)
    (folder / "staffetta.toml").write_text(config)
    starts = []
    numbers: Counter[str] = Counter()
    process = None
    try:
        for life in range(CYCLES + 1):
            for sink in sinks:
                sink.began.append(sink.sessions)
            process = start(folder)
            starts.append(await greeted(port, process, folder))
            if life == CYCLES:
                break
            clients = [asyncio.create_task(load(port, record, numbers, random)) for _ in range(CLIENTS)]
            await asyncio.sleep(random.uniform(0.2, 1.2))
            os.killpg(process.pid, signal.SIGKILL)
            record.killed.append(time.monotonic())
            process.wait()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
        await drained(folder, record)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for sink in sinks:
            await sink.stop()
    assert [fault for sink in sinks for fault in sink.wrong] == []
    return starts


async def drained(folder: Path, record: Record, seconds: float = 30.0) -> None:
    """Wait until everything acknowledged has arrived and nothing waits; whoever calls looks whether that was so."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while record.missing() or not queue_is_empty(folder):
                record.changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(record.changed.wait(), 0.2)


def queue_is_empty(folder: Path) -> bool:
    store = open_for_command(folder / "data")
    try:
        rows = store.connection.execute("SELECT count(*) FROM recipients").fetchall()
        return rows[0][0] == 0
    finally:
        store.close()


async def one_life(folder: Path, record: Record, *signals: signal.Signals) -> tuple[int, float, set[str]]:
    """A relay under load gets these signals, half a second apart; its status, how long it took to go after the last
    one, and what clients heard in place of what they expected."""
    port = free_port()
    sinks = [Counting(record), Counting(record)]
    for sink in sinks:
        await sink.start()
        sink.began.append(0)
    config = CONFIG.format(port=port, a=sinks[0].port, b=sinks[1].port, connections=CONNECTIONS)
    (folder / "staffetta.toml").write_text(config)
    heard: set[str] = set()
    numbers: Counter[str] = Counter()

    async def client(random: Random) -> None:
        while True:
            numbers["next"] += 1
            try:
                await send(port, record, numbers["next"], random)
            except OSError as error:
                if "in place of" in str(error):
                    heard.add(str(error))
                await asyncio.sleep(0.01)

    process = start(folder)
    try:
        await greeted(port, process, folder)
        clients = [asyncio.create_task(client(Random(seed))) for seed in range(CLIENTS)]
        for one in signals:
            await asyncio.sleep(0.5)
            process.send_signal(one)
        sent = time.monotonic()
        status = await asyncio.to_thread(process.wait, 40)
        seconds = time.monotonic() - sent
        for one_client in clients:
            one_client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        process = start(folder)
        await greeted(port, process, folder)
        await drained(folder, record)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()
        for sink in sinks:
            await sink.stop()
    assert [fault for sink in sinks for fault in sink.wrong] == []
    return status, seconds, heard


def test_sigterm_under_load_ends_in_order(tmp_path: Path) -> None:
    record = Record()
    status, seconds, heard = asyncio.run(one_life(tmp_path, record, signal.SIGTERM))
    assert status == 0
    assert seconds < 30
    assert len(record.acknowledged) > 20
    assert record.missing() == []
    assert max(map(len, record.arrived.values())) == 1, "nothing is repeated after an orderly end"
    # A client hears 421 at a command, or finds the connection closed (b"") where it waits for nobody's greeting.
    assert {answer[:6] for answer in heard} <= {"b'421 ", "b'' in"}, heard
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_two_sigterms_do_not_lose_anything_either(tmp_path: Path) -> None:
    record = Record()
    _, seconds, _ = asyncio.run(one_life(tmp_path, record, signal.SIGTERM, signal.SIGTERM))
    assert seconds < 10
    assert record.missing() == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_relay_that_was_stopped_for_a_while_goes_on(tmp_path: Path) -> None:
    record = Record()
    signals = (signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM)
    status, _, _ = asyncio.run(one_life(tmp_path, record, *signals))
    assert status == 0
    assert record.missing() == []
    assert max(map(len, record.arrived.values())) == 1


def journey(folder: Path, message_id: str) -> Counter[tuple[str, str]]:
    """What the journal tells of a message: events by name and recipient."""
    result = CliRunner().invoke(cli, ["trace", message_id, "--json", "-c", str(folder / "staffetta.toml")])
    events = [json.loads(line) for line in result.stdout.split("\n") if line]
    return Counter((event["event"], event.get("recipient", "")) for event in events)


@pytest.mark.timeout(100)
def test_nothing_acknowledged_is_lost_when_the_relay_is_killed(tmp_path: Path) -> None:
    record = Record()
    starts = asyncio.run(ten_lives(tmp_path, record, Random(20261124)))
    assert len(record.acknowledged) >= CYCLES * 5, "the relay took hardly anything: nothing was tested"
    assert record.missing() == []
    assert max(starts) < GREETED_SECONDS, starts
    repeated = {key: lives for key, lives in record.arrived.items() if len(lives) > 1}
    by_kill: Counter[int] = Counter()
    for key, arrivals in repeated.items():
        lives = [life for life, _ in arrivals]
        assert len(set(lives)) == len(lives), f"{key} came twice in one life of the relay"
        for life, moment in arrivals[:-1]:
            by_kill[life] += 1
            assert moment > record.killed[life] - 2, f"{key} had arrived long before the relay died, and came again"
    assert max(by_kill.values(), default=0) <= CONNECTIONS * len(DOMAINS) * RECIPIENTS, by_kill
    store = open_for_command(tmp_path / "data")
    try:
        books = audit(store)
    finally:
        store.close()
    assert books.unaccounted == 0
    assert books.delivered == books.accepted >= sum(map(len, record.acknowledged.values()))
    unexplained = [
        (number, address)
        for number, recipients in record.acknowledged.items()
        for journal in [journey(tmp_path, record.ids[number])]
        for address in recipients
        if journal["deliver", address] != 1 or journal["accept", ""] != 1
    ]
    assert unexplained == []
    assert "Traceback" not in (tmp_path / "log").read_text()
