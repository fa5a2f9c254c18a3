"""A whole relay in this process, for scenarios of delivery: clients reach its doors over a wire in memory, it reaches
real sinks on loopback, names come from a table, and the clock is the test's (or the real one, without a `clock`).

    async with Rehearsal(folder, TOML, {"far.example": {"MX": ["10 mx.far.example"]}}) as relay:
        sink = await relay.sink("127.0.0.11")
        number = await relay.submit("anna@near.example", ["ben@far.example"])
        await relay.until(lambda: relay.told("deliver", number))

Sinks listen on addresses of 127/8 and on one port, `relay.port`, which stands as `{port}` in the configuration. At the
end the books must balance, and no sink may have seen anything malformed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from staffetta.accounts.passwords import Cost, Hasher
from staffetta.accounts.store import AccountStore
from staffetta.app.doors import doors_of
from staffetta.app.wiring import Parts, Stores, World
from staffetta.config.load import Problems, load
from staffetta.config.schema import Config
from staffetta.dns.resolver import Resolver
from staffetta.dns.table import TableResolver, Texts
from staffetta.intake.session import Session
from staffetta.mail.address import parse_mailbox
from staffetta.net.channel import Channel
from staffetta.net.connect import Connector, ConnectSettings, Guard, SocketConnector
from staffetta.net.contract import Endpoint
from staffetta.net.memory import MemoryNetwork
from staffetta.observe.events import Event
from staffetta.spool.contract import Spool
from staffetta.spool.memory import MemorySpool
from staffetta.testing.bare import bare
from staffetta.testing.clock import VirtualClock
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Script, faults_of

LETTER: Final = b"Subject: hello\r\nFrom: <anna@near.example>\r\nMessage-ID: <letter@near.example>\r\n\r\nHello.\r\n"
DOOR: Final = Endpoint("192.0.2.25", 25)
CHEAP: Final = Cost("test", memory_kib=64, passes=1, lanes=1)


class Refused(Exception):
    """The relay did not take a command; the text is its reply."""


class CountingConnector:
    """Connects as asked, and counts to which addresses it was really tried."""

    def __init__(self, sources: tuple[str, ...], counts: Counter[str]) -> None:
        self._inner = SocketConnector(ConnectSettings(sources=sources))
        self._counts = counts

    async def connect(self, candidates: Sequence[Endpoint], *, deadline: float, guard: Guard | None = None) -> Channel:
        """See SocketConnector."""

        def judged(address: str) -> str | None:
            denial = guard(address) if guard is not None else None
            if denial is None:
                self._counts[address] += 1
            return denial

        for candidate in candidates:
            if candidate.port == 0:
                self._counts[candidate.address] += 1
        return await self._inner.connect(candidates, deadline=deadline, guard=judged)


class Rehearsal:
    """One relay. `events` in order; `connects` counts attempts by address; `resolver` may be changed at any time."""

    def __init__(
        self,
        folder: Path,
        toml: str,
        names: Mapping[str, Texts],
        *,
        clock: VirtualClock | None = None,
        spool: Callable[[Config], Awaitable[Spool]] | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.port = free_port()
        self.config_file = folder / "staffetta.toml"
        self.config_file.write_text(toml.replace("{port}", str(self.port)))
        loaded = load(self.config_file, {}, now=0)
        if isinstance(loaded, Problems):
            raise ValueError("; ".join(f"{one.line}: {one.message}" for one in loaded.problems))
        self.config = bare(loaded.config, toml)
        self.config.data_dir.mkdir(exist_ok=True)
        self.resolver = TableResolver(names)
        self.connects: Counter[str] = Counter()
        self.events: list[Event] = []
        self.sinks: dict[str, Sink] = {}
        self.spool: Spool
        self.parts: Parts
        self._make_spool = spool
        self._wall, self._monotonic = (clock.wall, clock.monotonic) if clock else (time.time, time.monotonic)
        self._asked = resolver or self.resolver
        self._doors = MemoryNetwork(client="127.0.0.1")
        self._changed = asyncio.Event()
        self._wrong: list[dict[str, Any]] = []
        self._accounts: AccountStore

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self._wrong.append(context))
        make = self._make_spool
        self.spool = MemorySpool(self._wall) if make is None else await make(self.config)
        hasher = Hasher(lambda count: b"s" * count, cost=CHEAP, iterations=4096)
        self._accounts = AccountStore.open(self.config.data_dir, hasher=hasher)
        seeded = Random(1)  # noqa: S311 - the same every run is the point
        world = World(self._asked, self._connector, self._wall, self._monotonic, seeded)
        stores = Stores(self.spool, self._accounts)
        self.parts = Parts(self.config, world, stores, self._emit, 1000)
        for bind, settings in doors_of(self.config, None):
            del bind
            self._doors.listen(DOOR, lambda stream, door=settings: Session(stream, self.parts.house, door))  # type: ignore[misc]
        self.parts.dispatcher.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if kind is None:
            wrong = [*map(str, self._wrong), *(what for sink in self.sinks.values() for what in _wrong_at(sink))]
            ledger = await self.spool.ledger()
            if ledger.unaccounted:
                wrong.append(f"the books do not balance: {ledger}")
            if wrong:
                raise AssertionError(wrong)
        await self.spool.close()

    async def stop(self) -> None:
        """End in order, as SIGTERM would have it; the store stays open for questions."""
        await self.parts.dispatcher.stop()
        if self.parts.house.forecaster is not None:
            await self.parts.house.forecaster.close()
        await self.parts.house.refusals.close()
        for sink in self.sinks.values():
            await sink.stop()
        self._accounts.close()
        await asyncio.sleep(0.01)

    async def sink(self, address: str, script: Script | None = None) -> Sink:
        """A sink at an address of 127/8, on the port that MX delivery uses."""
        sink = self.sinks[address] = Sink(script)
        await sink.start(host=address, port=self.port)
        return sink

    def account(self, address: str) -> None:
        """A mailbox of ours."""
        self._accounts.add(parse_mailbox(address), "a good enough password")

    async def until(self, true: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until it is true; looked at whenever the relay tells an event. Raises TimeoutError with the events."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError("\n".join(map(str, self.events[-20:]))) from None

    def told(self, name: str, message_id: str = "") -> list[Any]:
        """The events of that name, of one message or of all."""
        return [one for one in self.events if type(one).__name__.lower() == name and message_id in ("", one.id)]

    async def settled(self, seconds: float = 60.0) -> None:
        """Wait until no recipient waits any more."""
        async with asyncio.timeout(seconds):
            while (await self.spool.ledger()).queued:
                self._changed.clear()
                await self._changed.wait()

    async def submit(
        self,
        sender: str,
        recipients: Sequence[str],
        content: bytes = LETTER,
        *,
        mail: str = "",
        rcpt: str | Sequence[str] = "",
    ) -> str:
        """Bring a message to the door; its id. `mail` and `rcpt` are parameters. Raises Refused."""
        parameters = [rcpt] * len(recipients) if isinstance(rcpt, str) else rcpt
        async with await self.client() as client:
            await client.ask("EHLO client.near.example")
            await client.ask(f"MAIL FROM:<{sender}> {mail}".rstrip())
            for recipient, extra in zip(recipients, parameters, strict=True):
                await client.ask(f"RCPT TO:<{recipient}> {extra}".rstrip())
            await client.ask("DATA")
            answer = await client.ask_raw(content + b".\r\n")
        return answer.rpartition(" ")[2]

    def forgive(self, words: str) -> None:
        """What reached the loop's exception handler with these words was meant to."""
        self._wrong = [context for context in self._wrong if words not in str(context.get("exception"))]

    async def client(self) -> DoorClient:
        """A client at the door, greeted."""
        channel = await self._doors.connect([DOOR], deadline=asyncio.get_running_loop().time() + 5)
        client = DoorClient(channel)
        await client.reply()
        return client

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    def _connector(self, sources: tuple[str, ...]) -> Connector:
        return CountingConnector(sources, self.connects)


class DoorClient:
    """Says a line, hears a reply."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._data = b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._channel.close()

    async def ask(self, line: str) -> str:
        """One command; its reply. Raises Refused."""
        return await self.ask_raw(line.encode() + b"\r\n")

    async def ask_raw(self, octets: bytes) -> str:
        """Some octets; the reply. Raises Refused."""
        self._channel.write(octets)
        return await self.reply()

    async def reply(self) -> str:
        """The next reply, its last line. Raises Refused."""
        while True:
            line, found, rest = self._data.partition(b"\r\n")
            if not found:
                self._data += await self._channel.read(asyncio.get_running_loop().time() + 30)
            else:
                self._data = rest
                if line[3:4] == b" ":
                    break
        text = line.decode()
        if text[0] in "45":
            raise Refused(text)
        return text


def free_port(address: str = "127.0.0.11") -> int:
    """A port that nobody uses at that address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _wrong_at(sink: Sink) -> list[str]:
    return [*sink.wrong, *(fault for received in sink.messages for fault in faults_of(received))]
