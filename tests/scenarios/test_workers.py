"""The installed relay with its doors in processes of their own: what crashes, what stops, what is reloaded and what is
limited behaves as it does in one process.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from staffetta.testing.daemon import CONFIG, Daemon, DaemonWire

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's"),
]

WORKERS = 3
HEAD = CONFIG.replace("data_dir", f"processes = {WORKERS}\ndata_dir")
DOORS = """\
[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"
[listen.submission]
bind = ["127.0.0.1:0"]
role = "submission"
[listen.relay]
bind = ["127.0.0.1:0"]
role = "relay"
[limits]
"""
ACCOUNTS = {"anna@example.org": "secret"}
CRASHED = "ended unexpectedly (killed by SIGKILL)"

Scene = Callable[[Daemon], Awaitable[None]]


def play(folder: Path, scene: Scene, text: str = DOORS, *, complaints: bool = False) -> None:
    async def main() -> None:
        async with Daemon(folder, text, ACCOUNTS, head=HEAD) as daemon:
            await scene(daemon)
            if daemon.process is not None and daemon.process.poll() is None:
                assert await daemon.stop() == 0
            assert complaints or daemon.complaints() == ""
            assert "Traceback" not in daemon.complaints()

    asyncio.run(main())


def workers_of(daemon: Daemon) -> list[int]:
    """Process ids of the workers: main, nursery, workers."""
    return daemon.family()[2:]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def all_gone(family: list[int]) -> bool:
    return not any(map(alive, family))


def is_replaced(daemon: Daemon, before: list[int]) -> bool:
    return len(set(workers_of(daemon)) - set(before)) == 1


async def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def greeted(daemon: Daemon, door: str) -> AsyncIterator[DaemonWire]:
    """A connection whose greeting was heard: who speaks before is refused."""
    async with daemon.wire(door) as wire:
        assert (await wire.replies())[0][:3] == "220"
        yield wire


class Client:
    """Sends messages over new connections, one after the other, until told to end; keeps what was acknowledged."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.name = name
        self.acknowledged: list[str] = []
        self.tried: list[str] = []
        self.ending = False
        self._daemon = daemon

    async def run(self) -> None:
        number = 0
        while not self.ending:
            number += 1
            mark = f"{self.name}-{number}"
            for _ in range(2000):  # the same message until it is taken, as RFC 5321 section 4.5.4 wants
                self.tried.append(mark)
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await self._send(mark)
                    self.acknowledged.append(mark)
                    break
                await asyncio.sleep(0.01)

    async def _send(self, mark: str) -> None:
        port = self._daemon.doors["relay"].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await heard(reader, b"220")
            for line, code in (
                ("EHLO client.example", b"250"),
                ("MAIL FROM:<a@far.example>", b"250"),
                ("RCPT TO:<b@else.example>", b"250"),
                ("DATA", b"354"),
                (f"Subject: {mark}\r\n\r\n{'x' * 900}\r\n.", b"250"),
                ("QUIT", b"221"),
            ):
                writer.write(line.encode() + b"\r\n")
                await heard(reader, code)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def heard(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        if line[:3] != code:
            raise ConnectionError(f"{line!r} instead of {code!r}")
        if line[3:4] == b" ":
            return


@contextlib.asynccontextmanager
async def load(daemon: Daemon, clients: int = 6) -> AsyncIterator[list[Client]]:
    """Mail is moving; when it ends all that was acknowledged has arrived, and nothing twice that was sent once."""
    all_clients = [Client(daemon, f"client{number}") for number in range(clients)]
    running = [asyncio.create_task(client.run()) for client in all_clients]
    try:
        yield all_clients
    finally:
        for client in all_clients:
            client.ending = True
        await asyncio.gather(*running)
    acknowledged = Counter(mark for client in all_clients for mark in client.acknowledged)
    tried = Counter(mark for client in all_clients for mark in client.tried)

    def arrived() -> Counter[str]:
        contents = [received.content for received in daemon.sink.messages]
        return Counter(content.partition(b"Subject: ")[2].partition(b"\r")[0].decode() for content in contents)

    await until(lambda: not acknowledged.keys() - arrived().keys())
    assert max(acknowledged.values()) == 1
    assert {mark: count for mark, count in arrived().items() if count > tried[mark]} == {}


def sent(clients: list[Client]) -> int:
    return sum(len(client.acknowledged) for client in clients)


async def more(clients: list[Client], count: int = 20) -> None:
    wanted = sent(clients) + count
    await until(lambda: sent(clients) >= wanted)


def test_mail_comes_in_by_every_worker(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        assert len(workers_of(daemon)) == WORKERS
        async with load(daemon) as clients:
            await more(clients, 60)
        names = [(Path("/proc") / str(pid) / "comm").read_text() for pid in workers_of(daemon)]
        assert names == ["staffetta-door\n"] * WORKERS
        log = daemon.log()
        places = {event["id"]: number for number, event in enumerate(log) if event["event"] == "accept"}
        for number, event in enumerate(log):
            if event["event"] == "deliver":
                assert places[event["id"]] < number, "delivered before it was accepted"

    play(tmp_path, scene)


def test_a_worker_that_is_killed_takes_nothing_along(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        async with load(daemon) as clients:
            for _ in range(4):
                await more(clients)
                before = workers_of(daemon)
                os.kill(before[0], signal.SIGKILL)
                await until(partial(is_replaced, daemon, before))
            await more(clients)
        assert daemon.complaints().count(CRASHED) == 4
        assert len(workers_of(daemon)) == WORKERS

    play(tmp_path, scene, complaints=True)


def test_all_workers_killed_at_once_come_again(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        async with load(daemon) as clients:
            await more(clients)
            before = workers_of(daemon)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: len(workers_of(daemon)) == WORKERS and not set(workers_of(daemon)) & set(before))
            await more(clients)

    play(tmp_path, scene, complaints=True)


def test_when_the_main_process_is_killed_nothing_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        ports = {name: free_port() for name in ("mx", "submission", "relay")}
        text = DOORS
        for port in ports.values():
            text = text.replace('"127.0.0.1:0"', f'"127.0.0.1:{port}"', 1)
        async with Daemon(tmp_path, text, ACCOUNTS, head=HEAD) as daemon:
            for _ in range(3):
                family = daemon.family()
                assert len(family) == 2 + WORKERS
                async with greeted(daemon, "mx"):
                    assert daemon.process is not None
                    daemon.process.kill()
                    daemon.process.wait()
                    began = time.monotonic()
                    await until(partial(all_gone, family))
                    assert time.monotonic() - began < 1.0
                daemon.doors.clear()
                await daemon.launch()
                assert {name: where.port for name, where in daemon.doors.items()} == ports
                async with greeted(daemon, "mx"):
                    pass
            assert await daemon.stop() == 0
            assert daemon.complaints() == ""

    asyncio.run(main())


def test_without_the_nursery_the_relay_stops_in_order(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        family = daemon.family()
        os.kill(family[1], signal.SIGKILL)
        assert daemon.process is not None
        assert await asyncio.to_thread(daemon.process.wait, 20) == 1
        assert not any(map(alive, family))
        assert "the process that makes door workers is gone" in daemon.complaints()

    play(tmp_path, scene, complaints=True)


def test_it_drains_at_every_door(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        async with contextlib.AsyncExitStack() as stack:
            idle = [await stack.enter_async_context(greeted(daemon, "mx")) for _ in range(8)]
            busy = await stack.enter_async_context(greeted(daemon, "relay"))
            await busy.say("EHLO c.example", "MAIL FROM:<a@far.example>", "RCPT TO:<b@else.example>", "DATA")
            family = daemon.family()
            for pid in family:  # as a terminal or a service manager may do
                os.kill(pid, signal.SIGTERM)
            for wire in idle:
                assert [line[:9] for line in await wire.replies()] == ["421 4.3.2"]
            await busy.send(b"Subject: last\r\n\r\nx\r\n.\r\n")
            assert [line[:3] for line in await busy.replies(2)] == ["250", "421"]
            assert daemon.process is not None
            assert await asyncio.to_thread(daemon.process.wait, 30) == 0
        assert not any(map(alive, family))
        assert [event["event"] for event in daemon.log()].count("disconnect") >= 9
        assert daemon.accepted() == 1

    play(tmp_path, scene)


def test_a_reload_under_load_is_in_force_at_every_worker(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        port = daemon.doors["relay"].port
        async with load(daemon) as clients:
            for turn in range(4):
                await more(clients)
                name = f"turn{turn}.example"
                event = await daemon.reload(f'{DOORS}\n[domain."{name}"]\nrecipients = "any"\n')
                assert event["event"] == "reloaded", event
                for _ in range(2 * WORKERS):
                    async with greeted(daemon, "mx") as wire:
                        heard = await wire.say("EHLO c.example", "MAIL FROM:<x@far.example>", f"RCPT TO:<y@{name}>")
                        assert heard[-1][:3] == "250"
        assert daemon.doors["relay"].port == port

    play(tmp_path, scene)


def test_doors_come_and_go_at_every_worker(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        port = free_port()
        fresh = f'[listen.fresh]\nbind = ["127.0.0.1:{port}"]\nrole = "mx"\n'
        assert (await daemon.reload(fresh + DOORS))["event"] == "reloaded"
        for _ in range(2 * WORKERS):
            async with greeted(daemon, "fresh"):
                pass
        os.kill(workers_of(daemon)[0], signal.SIGKILL)  # the next one has to be given the new door as well
        await until(lambda: CRASHED in daemon.complaints() and len(workers_of(daemon)) == WORKERS)
        async with greeted(daemon, "fresh") as staying:
            assert (await daemon.reload(DOORS))["event"] == "reloaded"
            assert [line[:9] for line in await staying.replies()] == ["421 4.3.2"]
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection("127.0.0.1", port)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))  # nobody holds it

    play(tmp_path, scene, complaints=True)


def test_what_one_worker_cannot_do_is_refused_for_all(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        stopped = workers_of(daemon)[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            daemon.write(DOORS + '\n[domain."later.example"]\nrecipients = "any"\n')
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.3)
            os.kill(stopped, signal.SIGKILL)
            await until(lambda: any(event["event"] == "reload_refused" for event in daemon.log()))
        finally:
            with contextlib.suppress(OSError):
                os.kill(stopped, signal.SIGCONT)
        await until(lambda: len(workers_of(daemon)) == WORKERS and stopped not in workers_of(daemon))
        for _ in range(2 * WORKERS):
            async with greeted(daemon, "mx") as wire:
                heard = await wire.say("EHLO c.example", "MAIL FROM:<x@far.example>", "RCPT TO:<y@later.example>")
                assert heard[-1][:1] == "5"

    play(tmp_path, scene, complaints=True)


def test_a_new_certificate_is_shown_by_every_worker(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        async with greeted(daemon, "mx") as wire:
            old = await certificate(wire)
        daemon.authority.issue("mx.example.org", stem="mx")
        shown: list[bytes] = []

        async def look() -> bytes:
            async with greeted(daemon, "mx") as wire:
                return await certificate(wire)

        async with asyncio.timeout(15):
            while len(shown) < 3 * WORKERS:
                found = await look()
                shown = [*shown, found] if found != old else []
        assert len(set(shown)) == 1

    play(tmp_path, scene)


async def certificate(wire: DaemonWire) -> bytes:
    await wire.say("EHLO c.example", "STARTTLS")
    await wire.start_tls()
    found = wire.channel.peer_certificate
    assert found is not None
    return found


def test_connections_are_limited_as_if_there_were_one_process(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        async with contextlib.AsyncExitStack() as stack:
            greetings = []
            for _ in range(30):
                wire = await stack.enter_async_context(daemon.wire("mx"))
                greetings.append((await wire.replies())[0][:9])
            taken = sum(greeting[:3] == "220" for greeting in greetings)
            assert taken == 10, greetings
            assert greetings.count("421 4.7.0") == 20
            async with daemon.wire("mx", address="127.0.0.1") as wire:
                assert (await wire.replies())[0][:3] == "421"
        await until(lambda: sum(event["event"] == "disconnect" for event in daemon.log()) >= 31)
        async with greeted(daemon, "mx") as wire:
            pass

    play(tmp_path, scene, DOORS + "connections_per_client = 10\n")


def test_failed_logins_are_limited_as_if_there_were_one_process(tmp_path: Path) -> None:
    async def guess(daemon: Daemon, password: str) -> str:
        async with greeted(daemon, "submission") as wire:
            await wire.say("EHLO c.example", "STARTTLS")
            await wire.start_tls()
            text = base64.b64encode(f"\0anna@example.org\0{password}".encode()).decode()
            return (await wire.say("EHLO c.example", f"AUTH PLAIN {text}"))[-1][:3]

    async def scene(daemon: Daemon) -> None:
        assert await guess(daemon, "secret") == "235"
        answers = [await guess(daemon, f"wrong{number}") for number in range(7)]
        assert answers == ["535"] * 4 + ["454"] * 3
        os.kill(workers_of(daemon)[0], signal.SIGKILL)  # who comes after it knows what it knew
        await until(lambda: CRASHED in daemon.complaints() and len(workers_of(daemon)) == WORKERS)
        assert {await guess(daemon, "secret") for _ in range(2 * WORKERS)} == {"454"}

    play(tmp_path, scene, DOORS + "login_failures = 4\n", complaints=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
