"""A whole relay without a socket: its doors are wires in memory, the world outside is one sink, time is virtual.

The configuration is read from TOML as `staffetta run` reads it; what is made from it is `app.wiring.Parts`. Run it
with `testing.clock.run`: a virtual millisecond then passes exactly when nobody has anything left to do, which is how
`quiet` knows that the relay waits for its client.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from staffetta.accounts.passwords import Cost, Hasher
from staffetta.accounts.store import AccountStore, parse_grant
from staffetta.app.doors import doors_of
from staffetta.app.wiring import Parts, Stores, World, certificate_of
from staffetta.config.load import Problems, load
from staffetta.config.schema import Config
from staffetta.dns.resolver import Answer, Lookup, NoSuchName, RecordKind, Unavailable
from staffetta.dns.table import Texts, parse_record
from staffetta.intake.door import DoorSettings
from staffetta.intake.session import Session
from staffetta.mail.address import parse_mailbox
from staffetta.net.contract import Endpoint
from staffetta.net.memory import MemoryNetwork, MemoryTransport, Shape, whole
from staffetta.net.stream import TcpStream
from staffetta.observe.events import Accept, Event, Refuse
from staffetta.spool.contract import NewMessage
from staffetta.spool.memory import MemorySpool
from staffetta.testing.authority import Authority
from staffetta.testing.bare import bare
from staffetta.testing.clock import VirtualClock
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Script

OUTSIDE: Final = "203.0.113.25"
"""Where every domain of the world outside has its mail server."""

CLIENT: Final = "192.0.2.1"
"""Where clients come from, unless a test says otherwise."""

QUIET_SECONDS: Final = 0.001
DRAIN_SECONDS: Final = 25.0
CHEAP: Final = Cost("cheap", memory_kib=8, passes=1, lanes=1)
"""Passwords that hold no secret need not be dear."""

HEAD: Final = """\
version = 1
hostname = "mx.example.org"
data_dir = "data"
[console]
bind = "off"
[outbound]
allow = ["203.0.113.0/24"]
[tls]
certificate = "mx.pem"
key = "mx.key"
"""


class Everywhere:
    """A resolver for which every domain is served by OUTSIDE, but for those in `table`; without `everywhere` no other
    name exists. `asked` holds the questions, names in `failing` get no answer, and nobody before `gate` opens."""

    def __init__(self, table: Mapping[str, Texts]) -> None:
        self.asked: list[tuple[str, RecordKind]] = []
        self.everywhere = True
        self.failing: set[str] = set()
        self.gate: asyncio.Event | None = None
        self._table = dict(table)

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        """See dns.resolver.Resolver."""
        self.asked.append((name, kind))
        if self.gate is not None:
            await self.gate.wait()
        if name in self.failing:
            return Unavailable("SERVFAIL")
        if not self.everywhere and name not in self._table:
            return NoSuchName()
        texts = self._table.get(name, {"A": [OUTSIDE]}).get(kind.name, ())
        return Answer(tuple([parse_record(kind, text) for text in texts]), 60)

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        """Always None."""


class Outside(MemoryNetwork):
    """The network in memory. Whatever nobody listens at is one sink; `attempts` are all connections to it."""

    def __init__(self, script: Script | None = None, *, shape: Shape = whole) -> None:
        super().__init__(client=CLIENT, shape=shape)
        self.sink = Sink(script)
        self.attempts: list[Endpoint] = []
        self._shape_of_sink = shape
        self._doors: set[Endpoint] = set()

    def open_door(self, endpoint: Endpoint, accept: Callable[[TcpStream], Session]) -> None:
        """A door of ours."""
        self._doors.add(endpoint)
        self.listen(endpoint, accept)

    def open(self, endpoint: Endpoint, accept: Any, *, client: str | None = None) -> MemoryTransport:
        """A connection to a door of ours or to the sink."""
        if endpoint in self._doors:
            return super().open(endpoint, accept, client=client)
        self.attempts.append(endpoint)
        near_name = Endpoint(client or self.client, 40000 + len(self.attempts) % 20000)
        stream = TcpStream(accept)
        reader = asyncio.StreamReader()
        far_protocol = asyncio.StreamReaderProtocol(reader, self.sink._serve)
        near = MemoryTransport(stream, near_name, endpoint, self._shape_of_sink)
        far = MemoryTransport(far_protocol, endpoint, near_name, self._shape_of_sink)
        near.other, far.other = far, near
        far_protocol.connection_made(far)
        stream.connection_made(near)
        return near


class KeepingSpool(MemorySpool):
    """A spool that remembers what was committed: `accepted` at the doors, `notices` by delivery."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.accepted: list[NewMessage] = []
        self.contents: list[bytes] = []
        self.notices: list[NewMessage] = []

    async def commit(self, new: NewMessage) -> None:
        """See Spool."""
        content = b"".join([new.head, *new.draft.pending])
        await super().commit(new)
        self.accepted.append(new)
        self.contents.append(content)

    def _add(self, new: NewMessage) -> None:
        super()._add(new)
        if not new.message.session:
            self.notices.append(new)


class House:
    """One relay. `async with House(folder, doors) as house`; `text` follows HEAD, unless it begins with `version`.

    `events` is everything that was told; `wrong` what reached the loop's exception handler, which fails at the end.
    `core` are overrides of every door's ServerSettings. Accounts are `address: password`, or `address: (password,
    grants)`.
    """

    def __init__(
        self,
        folder: Path,
        text: str,
        *,
        clock: VirtualClock,
        accounts: Mapping[str, str | tuple[str, Iterable[str]]] | None = None,
        zones: Mapping[str, Texts] | None = None,
        script: Script | None = None,
        shape: Shape = whole,
        core: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.network = Outside(script, shape=shape)
        self.resolver = Everywhere(zones or {})
        self.spool = KeepingSpool(clock.wall)
        self.events: list[Event] = []
        self.wrong: list[dict[str, Any]] = []
        self.authority = _authority(folder)
        self.parts: Parts
        self.doors: dict[str, Endpoint] = {}
        self.settings: dict[str, DoorSettings] = {}
        self._accounts = accounts or {}
        self._core = core or {}
        self._text = text if text.startswith("version") else HEAD + text
        self._ticker: asyncio.Task[None] | None = None
        self._store: AccountStore

    async def __aenter__(self) -> House:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.wrong.append(context))
        config = self.config()
        config.data_dir.mkdir(exist_ok=True)
        self._store = AccountStore.open(config.data_dir, hasher=Hasher(os.urandom, CHEAP, 4096))
        for address, kept in self._accounts.items():
            password, grants = (kept, ()) if isinstance(kept, str) else kept
            mailbox = parse_mailbox(address, smtputf8=True)
            if not self._store.exists(mailbox):
                self._store.add(mailbox, password, [parse_grant(grant) for grant in grants])
        clock = self.clock
        world = World(self.resolver, lambda _: self.network, clock.wall, clock.monotonic, random.Random(1))  # noqa: S311
        stores = Stores(self.spool, self._store)
        self.parts = Parts(config, world, stores, self.events.append, config.limits.connections)
        self.parts.dispatcher.start()
        for where, door in doors_of(config, certificate_of(config)):
            self._open(Endpoint(where.host, where.port), door)
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()
        self._store.close()
        if failure[0] is None and (self.wrong or self.network.sink.wrong):
            raise AssertionError(self.wrong or self.network.sink.wrong)

    def config(self) -> Config:
        """The configuration, as the file says. Raises ValueError with what is wrong."""
        file = self.folder / "staffetta.toml"
        file.write_text(self._text)
        file.chmod(0o600)
        loaded = load(file, {}, machine_name="mx.example.org")
        if isinstance(loaded, Problems):
            raise ValueError("\n".join(str(problem) for problem in loaded.problems))
        return bare(loaded.config, self._text)

    async def stop(self) -> None:
        """Drain as `app.relay.Relay.stop` does."""
        ticker, self._ticker = self._ticker, None
        if ticker is None:
            return
        ticker.cancel()
        house = self.parts.house
        for session in list(house.sessions):
            session.stop()
        await asyncio.gather(self.parts.dispatcher.stop(), self._sessions_end())
        if house.forecaster is not None:
            await house.forecaster.close()
        await house.refusals.close()
        house.logins.close()
        await self.network.sink.stop()

    async def quiet(self) -> None:
        """Return when nobody has anything left to do but wait."""
        await asyncio.sleep(QUIET_SECONDS)

    async def settled(self, seconds: float = 2.0) -> None:
        """Let deliveries and notices run their course."""
        await asyncio.sleep(seconds)

    def told(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def recipients(self) -> list[str]:
        """Whom accepted messages are for, of all of them."""
        return [recipient for event in self.told(Accept) for recipient in event.recipients]

    def rules(self) -> list[str]:
        """The rules of all refusals, in order."""
        return [event.rule for event in self.told(Refuse)]

    def _open(self, endpoint: Endpoint, door: DoorSettings) -> None:
        core = msgspec.structs.replace(door.core, **self._core)
        acceptance = door.acceptance
        if "message_size" in self._core:
            acceptance = msgspec.structs.replace(acceptance, message_octets=core.message_size)
        door = msgspec.structs.replace(door, core=core, acceptance=acceptance)
        self.doors[door.name] = endpoint
        self.settings[door.name] = door
        self.network.open_door(endpoint, lambda stream: Session(stream, self.parts.house, door))

    async def _tick(self) -> None:
        house = self.parts.house
        while True:
            await asyncio.sleep(1.0)
            for session in list(house.sessions):
                session.look_at_clock(house.monotonic())

    async def _sessions_end(self) -> None:
        sessions = self.parts.house.sessions
        for _ in range(int(DRAIN_SECONDS / 0.05)):
            if not sessions:
                return
            await asyncio.sleep(0.05)
        for session in list(sessions):
            session.stream.abort()
        await self.quiet()


def _authority(folder: Path) -> Authority:
    authority = Authority(folder)
    authority.issue("mx.example.org", stem="mx")
    return authority
