"""Signals, and a loop that does not flood the log."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys

import uvloop

from staffetta.net.loop import Complaints, Signals, run

SERVING = """
import asyncio, socket, sys
from staffetta.net.endpoint import Bind
from staffetta.net.listener import Listener, bind
from staffetta.net.loop import run
from staffetta.testing.recorder import Recorder

async def main(signals):
    streams = []
    def accept(stream):
        recorder = Recorder()
        streams.append(recorder)
        return recorder.accept(stream)
    door = Listener("mx", bind(Bind("127.0.0.1", 0)), accept)
    await door.start()
    peers = [await asyncio.open_connection("127.0.0.1", door.endpoints[0].port) for _ in range(100)]
    print("ready", flush=True)
    await signals.stop.wait()
    door.stop()
    for recorder in streams:
        recorder.stream.abort()
    for _, writer in peers:
        writer.close()
    await asyncio.sleep(0)
    print(signals.reason, flush=True)
    return 3

sys.exit(run(main))
"""


def test_stop_in_order_without_a_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "SIGTERM\n"
        assert process.stderr.read() == ""
        assert process.wait(10) == 3


def test_signals_mean_wishes() -> None:
    reloads: list[str] = []

    async def main(signals: Signals) -> int:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        signals.on_reload = lambda: reloads.append("now")
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        await signals.stop.wait()
        assert not signals.stop_now.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await signals.stop_now.wait()
        assert signals.reason == "SIGINT"
        return 7

    before = signal.getsignal(signal.SIGINT)
    assert run(main) == 7
    assert signal.getsignal(signal.SIGINT) is before
    assert reloads == ["now"]


def test_one_complaint_a_second() -> None:
    out, now = io.StringIO(), [100.0]
    complaints = Complaints(out, lambda: now[0])
    loop = asyncio.new_event_loop()
    for _ in range(1000):
        complaints(loop, {"message": "socket.accept() out of system resource", "exception": OSError(24, "no files")})
    complaints(loop, {"message": "a peer left", "exception": ConnectionResetError()})
    now[0] += 1
    complaints(loop, {"message": "a bug", "exception": ZeroDivisionError("here")})
    loop.close()
    lines = out.getvalue().split("\n")
    assert lines[0] == "socket.accept() out of system resource: [Errno 24] no files"
    assert lines[1] == "a bug (and 999 more since the last line)"
    assert lines[2:] == ["ZeroDivisionError: here", ""]
    assert complaints.count == 1002


def test_out_of_descriptors_neither_spins_nor_floods() -> None:
    """asyncio logs a traceback for every accept it retries (cpython #151615); uvloop drops the client."""
    serving = """
import asyncio, os, resource, socket, sys, time, uvloop
from staffetta.net.endpoint import Bind
from staffetta.net.listener import Listener, bind
from staffetta.net.loop import Complaints
from staffetta.testing.recorder import Recorder

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(Complaints())
    streams = []
    def accept(stream):
        recorder = Recorder(lambda recorder, data: recorder.stream.write(data))
        streams.append(recorder)
        return recorder.accept(stream)
    door = Listener("mx", bind(Bind("127.0.0.1", 0)), accept)
    await door.start()
    port = door.endpoints[0].port
    clients = []
    for _ in range(40):
        client = socket.socket(); client.setblocking(False)
        clients.append(client)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 9,) * 2)
    for client in clients:
        client.connect_ex(("127.0.0.1", port))
    used = time.process_time()
    await asyncio.sleep(0.6)
    used = time.process_time() - used
    assert 1 <= len(streams) < 40, len(streams)
    assert used < 0.3, used
    for client in clients:
        client.close()
    for recorder in streams:
        recorder.stream.abort()
    await asyncio.sleep(1.2)
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"still there?")
        async with asyncio.timeout(5):
            assert await loop.sock_recv(client, 100) == b"still there?"
    door.stop()
    for recorder in streams:
        recorder.stream.abort()
    await asyncio.sleep(0.01)

factory = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}[sys.argv[1]]
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""
    for loop in ("asyncio", "uvloop"):
        done = subprocess.run(
            [sys.executable, "-c", serving, loop], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") <= 3, done.stderr
