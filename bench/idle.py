"""Memory: of an idle relay, and of 10,000 clients that greeted and then say nothing."""

from __future__ import annotations

import resource
import socket
import time

from bench.peers import Relay, sink, staffetta
from bench.results import Failed, Figure, Missing

TITLE = "Memory at rest"
METHOD = (
    "Resident memory of the relay with all its processes after start, and after 10,000 clients from ten loopback "
    "addresses have connected without TLS, read the greeting, said EHLO and read the reply. Every hundredth client "
    "must then still be answered."
)
CONNECTIONS = 10_000
CONNECTIONS_PER_ADDRESS = 1000
BATCH = 200
SPARE_DESCRIPTORS = 2000
IDLE_OCTETS = 80e6
CONNECTIONS_OCTETS = 120e6
REST_SECONDS = 2.0


def allow_descriptors(count: int) -> None:
    """Raise our own limit, which what we start inherits. Raises Missing where we may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
    except (ValueError, OSError):
        raise Missing(f"{count} file descriptors are needed, {hard} are allowed (ulimit -Hn)") from None


def until_reply_ends(client: socket.socket, code: bytes) -> None:
    """Read one whole reply. Raises Failed for another code."""
    data = b""
    while True:
        got = client.recv(4096)
        if not got:
            raise Failed(f"the relay closed a connection after {data!r}")
        data += got
        last = data[data.rfind(b"\n", 0, -1) + 1 :]
        if data.endswith(b"\n") and last[3:4] == b" ":
            break
    if last[:3] != code:
        raise Failed(f"expected {code.decode()}, got {last!r}")


def open_clients(port: int, clients: list[socket.socket], count: int) -> None:
    """Add `count` greeted clients to the list, a batch at a time."""
    while count > 0:
        batch = []
        for _ in range(min(BATCH, count)):
            client = socket.socket()
            clients.append(client)
            batch.append(client)
            client.settimeout(10)
            client.bind((f"127.0.0.{2 + (len(clients) - 1) // CONNECTIONS_PER_ADDRESS}", 0))
            client.connect(("127.0.0.1", port))
        for client in batch:
            until_reply_ends(client, b"220")
            client.sendall(b"EHLO client.example\r\n")
        for client in batch:
            until_reply_ends(client, b"250")
        count -= len(batch)


def resting_memory(relay: Relay) -> int:
    """Resident octets after it has come to rest."""
    relay.rest()
    time.sleep(REST_SECONDS)
    return relay.memory()


def run() -> list[Figure]:
    allow_descriptors(CONNECTIONS + SPARE_DESCRIPTORS)
    with sink() as target, staffetta(target.port) as relay:
        idle = resting_memory(relay)
        clients: list[socket.socket] = []
        try:
            begin = time.monotonic()
            open_clients(relay.port, clients, CONNECTIONS)
            seconds = time.monotonic() - begin
            more = resting_memory(relay) - idle
            for client in clients[::100]:
                client.sendall(b"NOOP\r\n")
                until_reply_ends(client, b"250")
        finally:
            for client in clients:
                client.close()
        after = resting_memory(relay) - idle
    return [
        Figure("idle process, MB", f"{idle / 1e6:.1f}", "at most 80", idle <= IDLE_OCTETS),
        Figure(
            f"{CONNECTIONS:,} idle connections, MB more", f"{more / 1e6:.1f}", "at most 120", more <= CONNECTIONS_OCTETS
        ),
        Figure("one idle connection, KB", f"{more / CONNECTIONS / 1e3:.1f}"),
        Figure("after they left, MB more", f"{after / 1e6:.1f}"),
        Figure("time to greet them all, s", f"{seconds:.1f}"),
    ]
