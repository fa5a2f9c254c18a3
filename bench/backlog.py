"""100,000 deferred messages to a domain whose server is dead: start, fresh mail and memory must not notice."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from bench.peers import Relay, Sink, send_one, sink, staffetta
from bench.processes import free_port
from bench.results import Failed, Figure
from bench.wire_count import ConnectCount
from staffetta.app.roads import Roads
from staffetta.config.load import Loaded, load
from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.mail.envelope import Sender
from staffetta.mail.identity import IdentitySource
from staffetta.observe.events import Accept, encode, moment
from staffetta.spool.contract import JournalEntry, Ledger, Message, NewMessage, State, WaitingRecipient
from staffetta.spool.recovery import STORE_NAME
from staffetta.spool.sqlite import SqliteSettings, SqliteSpool
from staffetta.testing.zone import ZoneServer

TITLE = "A backlog of 100,000"
METHOD = (
    "The store is filled with 100,000 messages of 2 KB for one domain, each tried five times, all due now. Its MX "
    "names an address where nobody listens. Then the relay starts; fresh messages for a healthy domain (MX to "
    "smtp-sink) go in one by one, the first at once after the first greeting. Connections to the dead server are "
    "counted on the wire. Memory is compared with the same relay, started empty, after the same load of fresh mail "
    "and as much time."
)
MESSAGES = 100_000
BATCH = 500
OCTETS = 2048
AGE_SECONDS = 20_000.0
ATTEMPTS = 5
WATCH_SECONDS = 20.0
FRESH_EVERY_SECONDS = 1.0
GREETING_SECONDS = 2.0
FRESH_SECONDS = 2.0
MEMORY_OCTETS = 100e6
DEAD_ADDRESS = "127.0.0.9"
DEAD_DOMAIN = "dead.example"
SENDER = Mailbox("sender", Domain("source.example"))
RECIPIENT = Mailbox("recipient", Domain(DEAD_DOMAIN))
CONNECTS = 20
"""In twenty seconds, towards a server that refuses: what the first probes cost, not what waits behind them."""

STAFFETTA = """
version = 1
hostname = "relay.bench.example"
data_dir = "{folder}/data"
[listen.relay]
bind = ["127.0.0.1:{port}"]
role = "relay"
tls = "off"
auth = false
[route.default]
via = "mx"
tls = "off"
[outbound]
port = {sink}
allow = ["127.0.0.0/8"]
[dns]
servers = ["127.0.0.1:DNS_PORT"]
[console]
bind = "off"
[log]
format = "json"
{extra}
"""

ZONES = {
    DEAD_DOMAIN: {"MX": [f"10 mx.{DEAD_DOMAIN}"]},
    f"mx.{DEAD_DOMAIN}": {"A": [DEAD_ADDRESS]},
    "healthy.example": {"MX": ["10 mx.healthy.example"]},
    "mx.healthy.example": {"A": ["127.0.0.1"]},
}


@contextmanager
def zone_server() -> Iterator[int]:
    """A DNS server in a thread of ours; yields its port."""
    ready, done = Event(), Event()
    ports: list[int] = []

    async def serve() -> None:
        async with ZoneServer(ZONES) as zone:
            ports.append(zone.port)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    if not ready.wait(10):
        raise Failed("the DNS server did not start")
    try:
        yield ports[0]
    finally:
        done.set()
        thread.join(10)


def fill(path: Path) -> None:
    """Put the backlog into the store, as if a relay had accepted and tried it."""
    data_dir = path / "data"
    data_dir.mkdir(mode=0o700)
    asyncio.run(_fill(data_dir / STORE_NAME, _destination(path / "staffetta.toml")))


def _destination(config: Path) -> str:
    """The key that the relay itself would store the backlog under."""
    loaded = load(config, os.environ)
    if not isinstance(loaded, Loaded):
        raise Failed(f"the configuration is refused: {loaded.problems}")
    return Roads(loaded.config).destination(RECIPIENT, SENDER)


async def _fill(store: Path, destination: str) -> None:
    now = time.time()
    identities = IdentitySource(bytes)
    sender = Sender(SENDER)
    content = b"Subject: waits\r\n\r\n" + b"x" * (OCTETS - 20) + b"\r\n"
    spool = await SqliteSpool.open(store, time.time, SqliteSettings(delivers=False))
    try:
        for start in range(0, MESSAGES, BATCH):
            batch = []
            for number in range(start, start + BATCH):
                received_at = now - AGE_SECONDS + number / MESSAGES
                name = identities.new(received_at)
                header_id = f"{number}@source.example"
                message = Message(name, sender, len(content), received_at, header_id)
                waiting = WaitingRecipient(
                    *(name, 0, RECIPIENT, destination, State.DEFERRED, ATTEMPTS),
                    next_attempt_at=now - 1,
                    last_reply="421 4.3.2 try again later",
                    delay_noticed=True,
                )
                event = Accept(
                    time=moment(received_at),
                    id=name,
                    sender="sender@source.example",
                    recipients=(f"recipient@{DEAD_DOMAIN}",),
                    size=len(content),
                    message_id=header_id,
                    client="127.0.0.1",
                    login="",
                    checks={},
                )
                journal = JournalEntry(encode(event), received_at, name, message_id=header_id)
                draft = spool.draft()
                await spool.write(draft, content)
                batch.append(NewMessage(message, (waiting,), b"", draft, journal))
            await spool.commit_many(batch)
    finally:
        await spool.close()


async def _books(store: Path) -> Ledger:
    spool = await SqliteSpool.open(store, time.time, SqliteSettings(delivers=False))
    try:
        return await spool.ledger()
    finally:
        await spool.close()


class Watched:
    """What one relay did in twenty seconds after its start."""

    def __init__(self, relay: Relay, target: Sink) -> None:
        self.greeting_seconds = relay.greeted - relay.started
        self.fresh_seconds: list[float] = []
        while time.monotonic() < relay.started + WATCH_SECONDS:
            self._send_fresh(relay, target)
            time.sleep(FRESH_EVERY_SECONDS)
        self.cpu_seconds = relay.cpu_seconds()
        self.memory = relay.memory()
        self.peak = relay.memory("VmHWM")
        self.books = asyncio.run(_books(relay.folder / "data" / STORE_NAME))
        self.attempts = _attempts(relay.log)

    def _send_fresh(self, relay: Relay, target: Sink) -> None:
        before = target.messages
        begin = time.monotonic()
        send_one(relay.port, "recipient@healthy.example")
        self.fresh_seconds.append(target.wait_until(before + 1, 20) - begin)


def _attempts(log: Path) -> int:
    """Attempts on the dead domain, by the relay's own log."""
    lines = log.read_bytes().split(b"\n")
    return sum(b'"event":"attempt"' in line and f"@{DEAD_DOMAIN}".encode() in line for line in lines)


def run() -> list[Figure]:
    with zone_server() as dns_port, sink(free_port()) as target:
        template = STAFFETTA.replace("DNS_PORT", str(dns_port))
        with staffetta(target.port, template) as relay:
            empty = Watched(relay, target)
        begin = time.monotonic()
        filled = 0.0

        def prepare(path: Path) -> None:
            nonlocal filled
            fill(path)
            filled = time.monotonic() - begin

        with (
            ConnectCount(DEAD_ADDRESS, target.port) as wire,
            staffetta(target.port, template, prepare=prepare) as relay,
        ):
            full = Watched(relay, target)
            connects = wire.connects
    return _figures(empty, full, connects, filled)


def _figures(empty: Watched, full: Watched, connects: int, filled: float) -> list[Figure]:
    more = full.memory - empty.memory
    waiting, unaccounted = full.books.queued, full.books.unaccounted
    slowest = max(full.fresh_seconds)
    return [
        Figure("filling the store, s", f"{filled:.1f}"),
        Figure("start to first 220, empty, s", f"{empty.greeting_seconds:.2f}"),
        _at_most("start to first 220, s", full.greeting_seconds, GREETING_SECONDS),
        Figure("fresh message to the sink, empty, slowest, ms", f"{max(empty.fresh_seconds) * 1e3:.0f}"),
        Figure("fresh message to the sink, the first, ms", f"{full.fresh_seconds[0] * 1e3:.0f}"),
        _at_most(f"fresh message to the sink, slowest of {len(full.fresh_seconds)}, s", slowest, FRESH_SECONDS),
        Figure("memory of the empty relay, MB", f"{empty.memory / 1e6:.1f}"),
        _at_most("memory more than empty, MB", more / 1e6, MEMORY_OCTETS / 1e6),
        Figure("memory at its peak more than empty, MB", f"{(full.peak - empty.peak) / 1e6:.1f}"),
        Figure("CPU in these 20 s, empty and full, s", f"{empty.cpu_seconds:.2f} and {full.cpu_seconds:.2f}"),
        _at_most("connections to the dead server in 20 s", connects, CONNECTS),
        Figure("attempts on the dead domain in the log", f"{full.attempts}"),
        Figure("still waiting, unaccounted for", f"{waiting:,}, {unaccounted}", "100,000, 0", _whole(full.books)),
    ]


def _whole(books: Ledger) -> bool:
    return books.queued == MESSAGES and books.unaccounted == 0


def _at_most(name: str, value: float, bound: float) -> Figure:
    return Figure(
        name, f"{value:.2f}" if isinstance(value, float) else f"{value}", f"at most {bound:g}", value <= bound
    )
