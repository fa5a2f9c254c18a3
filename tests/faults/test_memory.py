"""Memory of the installed daemon while large messages pass through it: in to disk, and from there out (threat R11).

Peaks are read from /proc, whose high-water mark is reset before each measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

MIB = 1 << 20
LINE = b"z" * 1022 + b"\r\n"
LARGE = 24 * MIB
"""With its envelope below the default limit of 25 MiB."""

PARALLEL = 20
MEDIUM = 8 * MIB
"""Enough to fill the caches of the store, which have a fixed size; what grows from here on grows with the message."""

ONE_LARGE_OCTETS = 4 * MIB
EACH_IN_PARALLEL_OCTETS = 4 * MIB
"""Chunks on their way to disk, from disk and into the wire: some 2.5 MiB for a transfer in and its transfer out."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

CONFIG = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[listen.relay]
bind = ["127.0.0.1:{port}"]
role = "relay"
tls = "off"
auth = false
[route.out]
via = "127.0.0.1:{sink}"
tls = "off"
[console]
bind = "off"
"""


class Drain:
    """An SMTP server that keeps nothing but the count of octets and messages; `chunking` offers BDAT."""

    def __init__(self, chunking: bool) -> None:
        self.offers = b"250-drain\r\n250-PIPELINING\r\n" + (b"250-CHUNKING\r\n" if chunking else b"") + b"250 SIZE\r\n"
        self.messages = 0
        self.octets = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(b"220 drain\r\n")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(self.offers)
                elif verb == b"DATA":
                    writer.write(b"354 go\r\n")
                    await self.content(reader)
                    writer.write(b"250 ok\r\n")
                elif verb == b"BDAT":
                    words = line.split()
                    self.octets += len(await reader.readexactly(int(words[1])))
                    self.messages += words[2:] == [b"LAST"]
                    writer.write(b"250 ok\r\n")
                else:
                    writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
        writer.close()

    async def content(self, reader: asyncio.StreamReader) -> None:
        tail = b""
        while True:
            data = await reader.read(65536)
            if not data:
                raise OSError("gone")
            self.octets += len(data)
            tail = (tail + data)[-5:]
            if tail == b"\r\n.\r\n":
                self.messages += 1
                return


def memory(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().split("\n"):
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def send(port: int, octets: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def heard(code: bytes) -> None:
        line = await reader.readline()
        while line[3:4] == b"-":
            line = await reader.readline()
        assert line[:3] == code, line

    await heard(b"220")
    for command in (b"EHLO client.example", b"MAIL FROM:<a@near.example>", b"RCPT TO:<b@far.example>"):
        writer.write(command + b"\r\n")
        await heard(b"250")
    writer.write(b"DATA\r\n")
    await heard(b"354")
    writer.write(b"Subject: large\r\n\r\n")
    block = LINE * 64
    for _ in range(octets // len(block)):
        writer.write(block)
        await writer.drain()
    writer.write(b".\r\n")
    await heard(b"250")
    writer.close()


@contextlib.asynccontextmanager
async def relay(folder: Path, drain: Drain) -> AsyncIterator[tuple[int, int]]:
    server = await asyncio.start_server(drain.serve, "127.0.0.1", 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = CONFIG.format(port=port, sink=server.sockets[0].getsockname()[1])
    (folder / "staffetta.toml").write_text(config)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond, and nothing else is waiting
            [sys.executable, "-m", "staffetta", "run", "-c", str(folder / "staffetta.toml")],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert await asyncio.to_thread(process.wait, 30) == 0
        finally:
            process.kill()
            process.wait()
            server.close()


async def peak(pid: int, port: int, drain: Drain, sizes: list[int]) -> int:
    """The highest resident memory while messages of these sizes come in together and go out again."""
    forget_peak(pid)
    wanted = drain.messages + len(sizes)
    await asyncio.gather(*[send(port, size) for size in sizes])
    end = time.monotonic() + 40
    while drain.messages < wanted:
        assert time.monotonic() < end, f"{drain.messages} of {wanted} came out"
        await asyncio.sleep(0.02)
    return memory(pid, "VmHWM")


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_a_large_message_costs_no_more_memory_than_a_smaller_one(tmp_path: Path, chunking: bool) -> None:
    async def play() -> None:
        drain = Drain(chunking)
        async with relay(tmp_path, drain) as (port, pid):
            await peak(pid, port, drain, [MEDIUM] * 2)
            medium = await peak(pid, port, drain, [MEDIUM])
            large = await peak(pid, port, drain, [LARGE])
            assert large - medium < ONE_LARGE_OCTETS, f"{(large - medium) / MIB:.1f} MiB more"

    asyncio.run(play())


@pytest.mark.timeout(100)
def test_many_large_messages_at_once_are_bounded(tmp_path: Path) -> None:
    async def play() -> None:
        drain = Drain(False)
        async with relay(tmp_path, drain) as (port, pid):
            base = await peak(pid, port, drain, [MEDIUM])
            high = await peak(pid, port, drain, [LARGE] * PARALLEL)
            each = (high - base) / PARALLEL
            assert each < EACH_IN_PARALLEL_OCTETS, f"{each / MIB:.2f} MiB each"
            assert drain.octets > PARALLEL * LARGE

    asyncio.run(play())
