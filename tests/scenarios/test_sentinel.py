"""The relay watches itself: over real sockets, at its own doors, and for strangers behind one trusted address."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from staffetta.app import privileges
from staffetta.app.relay import Relay
from staffetta.app.reload import Reloads
from staffetta.app.sentinel import ALARM, Sentinel, SentinelSettings
from staffetta.app.sentinel_machine import Machine
from staffetta.config.load import Loaded, Problems, load
from staffetta.control.selfcheck import SelfCheck, SelfCheckReport
from staffetta.mail.network import NetworkSet, parse_network
from staffetta.observe.events import AlarmCleared, AlarmRaised, Event, Refuse
from staffetta.policy import relay as policy
from staffetta.testing import clock as virtual
from staffetta.testing.authority import Authority
from staffetta.testing.daemon import CONFIG, Daemon

pytestmark = pytest.mark.timeout(60)

HEAD = """\
version = 1
hostname = "mx.example.org"
data_dir = "data"
[console]
bind = "off"
[dns]
servers = ["127.0.0.1:1"]
[tls]
certificate = "mx.pem"
key = "mx.key"
[domain."example.org"]
aliases = { postmaster = ["ops@far.example"] }
[domain."any.example"]
recipients = "any"
"""

DOORS = """\
[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"
[listen.submissions]
bind = ["127.0.0.1:0"]
role = "submission"
tls = "implicit"
[listen.office]
bind = ["127.0.0.1:0"]
role = "relay"
auth = false
[listen.behind]
bind = ["127.0.0.1:0"]
role = "relay"
auth = false
proxy_protocol = ["127.0.0.1"]
"""

GATEWAY = "172.17.0.1"
MASKED = """\
[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"
proxy_protocol = ["127.0.0.1"]
[listen.office]
bind = ["127.0.0.1:0"]
role = "relay"
tls = "off"
auth = false
trust = ["172.16.0.0/12", "10.0.0.9"]
proxy_protocol = ["127.0.0.1"]
"""

NOWHERE = Machine((), frozenset({GATEWAY}))
"""A machine of which only loopback is known, and its gateway."""


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


SETTINGS = SentinelSettings(machine=NOWHERE, pause=at_once)


@pytest.fixture(autouse=True)
def umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(privileges, "DEFAULT_USER", "nobody-of-that-name")
    before = os.umask(0o022)
    yield
    os.umask(before)


class Post:
    """A relay in this process, its sentinel, and what was told."""

    def __init__(self, relay: Relay, reloads: Reloads, sentinel: Sentinel, file: Path) -> None:
        self.relay, self.reloads, self.sentinel, self.file = relay, reloads, sentinel, file
        self.events: list[Event] = []
        log = relay.log.emit

        def emit(event: Event) -> None:
            self.events.append(event)
            log(event)

        relay.log.emit = emit  # type: ignore[method-assign]

    def alarms(self) -> dict[str, str]:
        active = self.relay.parts.alarms.active()
        return {alarm.name: alarm.text for alarm in active if not alarm.name.startswith("dkim")}

    def told(self, *kinds: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def door(self, name: str) -> Any:
        return next(door for door in self.relay.doors if door.name == name)

    def change(self, name: str, **changes: Any) -> None:
        """Other settings of a door, as no file could have them."""
        door = self.door(name)
        settings = msgspec.structs.replace(door.opening.settings, **changes)
        door.opening = msgspec.structs.replace(door.opening, settings=settings)

    async def reload(self, before: str, after: str) -> None:
        text = self.file.read_text()
        assert before in text
        self.file.write_text(text.replace(before, after, 1))
        assert (await self.reloads.reload("test")).done


def play(
    folder: Path, doors: str, scene: Callable[[Post], Awaitable[None]], settings: SentinelSettings = SETTINGS
) -> None:
    Authority(folder).issue("mx.example.org", stem="mx")
    file = folder / "staffetta.toml"
    file.write_text(HEAD + doors)
    file.chmod(0o600)

    def read(files: bool) -> Loaded | Problems:
        return load(file, {}, files=files)

    async def main() -> None:
        loaded = read(True)
        assert isinstance(loaded, Loaded), loaded
        relay = Relay(loaded.config, loaded.digest)
        await relay.start()
        reloads = Reloads(relay, read)
        sentinel = Sentinel(relay, settings)
        reloads.followers.append(sentinel.reloaded)
        relay.closing += (reloads.close, sentinel.close)
        try:
            await scene(Post(relay, reloads, sentinel, file))
        finally:
            await relay.stop("test")

    asyncio.run(main())


# The self check.


def ways(report: SelfCheckReport) -> list[str]:
    return [f"{door.door} {door.way} {door.client}" for door in report.doors]


def test_a_sound_relay_finds_nothing_and_leaves_no_trace(tmp_path: Path) -> None:
    async def scene(post: Post) -> None:
        report = await post.sentinel.check()
        assert (report.passed, report.complete, report.failed, report.failures) == (True, True, 0, ())
        assert ways(report) == [
            "mx tcp 127.0.0.1",
            "submissions tcp 127.0.0.1",
            "office memory 203.0.113.77",
            "office memory 2001:db8:bad::77",
            "behind proxy 203.0.113.77",
            "behind memory 2001:db8:bad::77",
        ]
        assert min(door.tried for door in report.doors) > 15
        assert report.tried > 1000
        assert post.relay.selfcheck is True
        assert post.alarms() == {}
        assert post.events == []
        await post.relay.parts.house.refusals.flush()
        assert (await post.relay.spool.ledger()).accepted == 0
        connections = post.relay.parts.house.connections
        async with asyncio.timeout(5):
            while post.relay.parts.house.sessions:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert connections.open == 0
        assert post.relay.parts.house.login_failures._networks == {}

    play(tmp_path, DOORS, scene)


def test_a_door_that_trusts_loopback_is_asked_from_elsewhere(tmp_path: Path) -> None:
    """127.0.0.2 stands for an address of the machine: the trust of this door ends before it."""
    doors = DOORS.replace("[listen.office]\n", '[listen.office]\ntrust = ["127.0.0.1", "127.0.0.0/31"]\n')
    settings = msgspec.structs.replace(SETTINGS, machine=Machine(("127.0.0.2",)))

    async def scene(post: Post) -> None:
        report = await post.sentinel.check()
        assert report.passed
        assert "office tcp 127.0.0.2" in ways(report)

    play(tmp_path, doors, scene, settings)


def judge_lets_all(post: Post, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("staffetta.intake.answers.may_reach", lambda *_: policy.OPEN_TO_ALL)


def directory_leads_outside(post: Post, patch: pytest.MonkeyPatch) -> None:
    """One form only: the directory takes the percent hack for a name of ours and rewrites it, as servers once did."""
    house = post.relay.parts.house
    directory = house.directory
    target = directory.resolve  # the true one

    class Rewriting:
        def __getattr__(self, name: str) -> Any:
            return getattr(directory, name)

        def resolve(self, path: Any) -> Any:
            local, percent, _ = str(path).rpartition("@")[0].rpartition("%")
            if not percent or str(path).startswith('"'):
                return target(path)
            found = target(path)
            mailbox = msgspec.structs.replace(path, local_part=local)
            aim = SimpleNamespace(mailbox=mailbox, destination="mx:ext.example")
            return msgspec.structs.replace(found, place=policy.Place.LOCAL, targets=(aim,))

    patch.setattr(house, "directory", Rewriting())


def door_trusts_the_world(post: Post, patch: pytest.MonkeyPatch) -> None:
    post.change("office", trust=NetworkSet(map(parse_network, ["0.0.0.0/0", "::/0"])))


BROKEN: list[tuple[Callable[[Post, pytest.MonkeyPatch], None], str, str]] = [
    (judge_lets_all, "mx", "tcp"),
    (directory_leads_outside, "mx", "tcp"),
    (door_trusts_the_world, "office", "tcp"),
]


@pytest.mark.parametrize(("broken", "door", "way"), BROKEN, ids=lambda part: getattr(part, "__name__", str(part)))
def test_an_open_relay_finds_itself(
    broken: Callable[[Post, pytest.MonkeyPatch], None], door: str, way: str, tmp_path: Path
) -> None:
    async def scene(post: Post) -> None:
        with pytest.MonkeyPatch.context() as patch:
            broken(post, patch)
            report = await post.sentinel.check()
        assert not report.passed
        assert post.relay.selfcheck is False
        failed = next(one for one in report.doors if one.failed)
        assert (failed.door, failed.way) == (door, way)
        taken = report.failures[0]
        assert taken.door == door
        assert taken.went_to
        assert taken.dialogue[-1].reply.startswith("250")
        alarm = post.alarms()[ALARM]
        assert f"door {door} at 127.0.0.1:" in alarm
        assert taken.shape[:60] in alarm
        await post.sentinel.check()
        assert [event.name for event in post.told(AlarmRaised)] == [ALARM]
        assert (await post.relay.spool.ledger()).accepted == 0, "whatever is open, the sentinel brings nothing in"

    play(tmp_path, DOORS, scene)


def test_the_alarm_ends_with_its_cause(tmp_path: Path) -> None:
    async def scene(post: Post) -> None:
        with pytest.MonkeyPatch.context() as patch:
            judge_lets_all(post, patch)
            await post.sentinel.check()
        assert ALARM in post.alarms()
        assert (await post.sentinel.check()).passed
        assert post.alarms() == {}
        assert [event.name for event in post.told(AlarmCleared)] == [ALARM]

    play(tmp_path, DOORS, scene)


def test_a_session_that_had_enough_of_us_costs_no_shape(tmp_path: Path) -> None:
    async def scene(post: Post) -> None:
        taken = []
        for commands in (10_000, 7):
            core = msgspec.structs.replace(post.door("mx").opening.settings.core, commands=commands)
            post.change("mx", core=core)
            with pytest.MonkeyPatch.context() as patch:
                judge_lets_all(post, patch)
                taken.append((await Sentinel(post.relay, SETTINGS).check()).doors[0])
        assert taken[0] == taken[1]
        assert taken[0].failed > 50

    play(tmp_path, DOORS, scene)


def test_a_door_that_cannot_be_reached_is_asked_in_memory(tmp_path: Path) -> None:
    """Somebody else listens there by now, and says what suits him; nothing that he says counts."""

    async def scene(post: Post) -> None:
        door = post.door("mx")
        where = door.listener.endpoints[0]
        door.listener._servers[0].close()
        door.listener._servers.clear()

        async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 all are welcome\r\n" + b"250 ok\r\n" * 50)
            await reader.read()
            writer.close()

        async with await asyncio.start_server(impostor, "127.0.0.1", where.port) as server:
            report = await post.sentinel.check()
            server.close()
        assert report.passed
        assert report.complete
        first = report.doors[0]
        assert (first.way, first.tried > 100) == ("memory", True)
        assert "somebody else answered" in first.note

    play(tmp_path, DOORS, scene)


def test_a_check_ends_when_its_time_is_up(tmp_path: Path) -> None:
    async def never(_: float) -> None:
        await asyncio.get_running_loop().create_future()

    async def scene(post: Post) -> None:
        with pytest.MonkeyPatch.context() as patch:
            judge_lets_all(post, patch)
            await Sentinel(post.relay, SETTINGS).check()
        assert ALARM in post.alarms()
        report = await post.sentinel.check()
        assert (report.passed, report.complete, report.tried) == (True, False, 1)
        assert all(door.note == "the time was used up" for door in report.doors)
        assert ALARM in post.alarms(), "what was not asked to the end does not clear an alarm"

    settings = msgspec.structs.replace(SETTINGS, pause=never, total_seconds=0.2)
    play(tmp_path, DOORS, scene, settings)


def test_a_check_is_begun_joined_and_ended_by_request(tmp_path: Path) -> None:
    async def scene(post: Post) -> None:
        sentinel = post.sentinel
        assert (await sentinel.asked(SelfCheck())).running is False
        sentinel.begin()
        turn = sentinel._turn
        assert (await sentinel.asked(SelfCheck(start=True))).running
        async with asyncio.timeout(20):
            while not (await sentinel.asked(SelfCheck(start=True))).done:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert (await sentinel.asked(SelfCheck(start=True))).running
            while (state := await sentinel.asked(SelfCheck())).running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert state.last is not None
        assert state.last.passed
        assert state.done == state.total == state.last.tried
        await asyncio.sleep(0.01)
        assert (await sentinel.asked(SelfCheck())).running is False
        assert sentinel._turn == turn + 1, "one check for all requests"

    play(tmp_path, DOORS, scene, msgspec.structs.replace(SETTINGS, first_seconds=3600.0))


def test_when_it_checks(tmp_path: Path) -> None:
    """Soon after the start, every day, at once when it is told to, and soon after a reload."""
    clock = virtual.VirtualClock()

    class Dated(Sentinel):
        async def check(self) -> Any:
            times.append(round(clock.monotonic() - began))
            self._running = False
            if len(times) == 2:
                raise RuntimeError("a bug")

    wrong: list[Exception] = []
    times: list[int] = []
    house = SimpleNamespace(monotonic=clock.monotonic, report=wrong.append)
    relay = SimpleNamespace(
        staff=None,
        started_at=0.0,
        parts=SimpleNamespace(house=house),
        config=SimpleNamespace(listeners=()),
        selfcheck=None,
    )
    began = clock.monotonic()

    async def main() -> None:
        sentinel = Dated(relay, SentinelSettings(machine=NOWHERE))  # type: ignore[arg-type]
        sentinel.begin()
        await asyncio.sleep(200_000)
        await sentinel.asked(SelfCheck(start=True))
        await asyncio.sleep(1_000)
        sentinel.reloaded(relay.config)
        await asyncio.sleep(86_000)
        await sentinel.close()
        await asyncio.sleep(200_000)

    virtual.run(main, clock)
    assert times == [10, 86_410, 172_810, 200_000, 201_010]
    assert [str(error) for error in wrong] == ["a bug"]


# By command.


def command(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "staffetta", *words, "-c", str(daemon.folder / "staffetta.toml")]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


PLAIN = """\
[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"
[listen.office]
bind = ["127.0.0.1:0"]
role = "relay"
tls = "off"
auth = false
trust = ["127.0.0.0/8"{more}]
"""


def test_check_relay_live(tmp_path: Path) -> None:
    async def main() -> None:
        async with Daemon(tmp_path, PLAIN.format(more=""), {"anna@example.org": "secret"}) as daemon:
            done = await asyncio.to_thread(command, daemon, "check", "relay", "--live")
            assert done.returncode == 0, done.stderr
            assert "The running relay lets no stranger send" in done.stdout
            assert [line.split(" ")[0] for line in done.stdout.split("\n")[:2]] == ["mx", "office"]
            assert done.stderr == ""
            # What no file of one's own network has: an eighth of the internet.
            event = await daemon.reload(PLAIN.format(more=', "192.0.0.0/3"'))
            assert event["event"] == "reloaded"
            done = await asyncio.to_thread(command, daemon, "check", "relay", "--live", "--json")
            assert done.returncode == 1, done.stderr
            report = json.loads(done.stdout)
            assert report["schema"] == 1
            assert report["passed"] is False
            assert {taken["door"] for taken in report["failures"]} == {"office"}
            assert report["failures"][0]["rule"] == "trusted_network"
            health = await asyncio.to_thread(command, daemon, "status")
            assert health.returncode == 1
            assert "THIS IS AN OPEN RELAY: door office at 127.0.0.1:" in health.stdout
            [alarm] = [one for one in await daemon.told("alarm") if one["name"] == "selfcheck"]
            assert (alarm["name"], alarm["reason"][:21]) == ("selfcheck", "THIS IS AN OPEN RELAY")
            assert {event["event"] for event in daemon.log()} <= {"ready", "reloaded", "alarm"}
            assert daemon.journal() == []
            await daemon.stop()
            done = await asyncio.to_thread(command, daemon, "check", "relay", "--live")
            assert done.returncode == 4
            assert "no relay runs" in done.stderr
            assert "Traceback" not in daemon.complaints()

    asyncio.run(main())


# Strangers behind one trusted address.


class Masquerade:
    """What stands in front of a door and lets everybody seem to come from one address, as the relay sees it."""

    def __init__(self, address: str, port: int) -> None:
        self._header = f"PROXY TCP4 {address} 127.0.0.1 40000 25\r\n".encode()
        self._port = port
        self._server: asyncio.Server

    async def __aenter__(self) -> Masquerade:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
        """A client that has said EHLO."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.sockets[0].getsockname()[1])

        async def say(line: str) -> str:
            writer.write(line.encode() + b"\r\n")
            return await reply()

        async def reply() -> str:
            async with asyncio.timeout(10):
                while True:
                    line = (await reader.readline()).decode()
                    if line[3:4] != "-":
                        return line.strip()

        try:
            assert (await reply()).startswith("220")
            assert (await say(f"EHLO {name}")).startswith("250")
            yield say
        finally:
            writer.close()
            await writer.wait_closed()

    async def asks(self, number: int, *, name: str = "", sender: str = "", to: str = "u@ext.example") -> str:
        """One client asks for one recipient; the first reply that is no yes, or the last."""
        async with self.client(name or f"bot{number}.example") as say:
            answer = await say(f"MAIL FROM:<x@{sender or f'from{number}.example'}>")
            if answer.startswith("250"):
                answer = await say(f"RCPT TO:<{to}>")
            return answer

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        far_writer.write(self._header)
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        pass
    finally:
        if not writer.is_closing() and reader.at_eof():
            writer.close()


def masquerade(post: Post, address: str, door: str = "office") -> Masquerade:
    return Masquerade(address, post.door(door).listener.endpoints[0].port)


def test_a_gateway_that_hides_strangers_loses_its_trust(tmp_path: Path) -> None:
    async def scene(post: Post) -> None:
        async with masquerade(post, GATEWAY) as gateway, masquerade(post, "172.16.0.8") as beside:
            async with gateway.client("early.example") as early:
                assert (await early("MAIL FROM:<x@early.example>")).startswith("250")
                for number in range(5):
                    assert (await gateway.asks(number)).startswith("250")
                name = f"masked {GATEWAY}"
                assert name in post.alarms()
                assert (await gateway.asks(99)) == "550 5.7.1 access denied, log in to send"
                assert (await early("RCPT TO:<u@ext.example>")).startswith("250"), "what had begun goes on"
                assert (await early("RSET")).startswith("250")
                assert (await early("MAIL FROM:<x@early.example>")).startswith("550 5.7.1"), "but not the next"
            assert (await beside.asks(1)).startswith("250"), "others keep their trust"
            refused = post.told(Refuse)
            assert {event.rule for event in refused} == {"trust_withdrawn"}
            assert {event.client for event in refused} == {GATEWAY}
            [raised] = post.told(AlarmRaised)
            assert raised.name == name
            for part in (GATEWAY, "the gateway of this machine", "5 names", "proxy_protocol", "withdrawn"):
                assert part in raised.reason
            # A reload that changes nothing about the doors changes nothing about this.
            await post.reload('hostname = "mx.example.org"', 'hostname = "mx2.example.org"')
            assert (await gateway.asks(99)).startswith("550 5.7.1")
            assert name in post.alarms()
            # Who names the senders has thought about it.
            listed = ", ".join(f'"from{number}.example"' for number in range(30))
            await post.reload('trust = ["172', f'from = [{listed}]\ntrust = ["172')
            assert name not in post.alarms()
            assert [event.name for event in post.told(AlarmCleared)] == [name]
            for number in range(30):
                assert (await gateway.asks(number)).startswith("250")
            assert (await gateway.asks(30)).startswith("553")
            assert post.alarms() == {}

    play(tmp_path, MASKED, scene)


def test_the_gateway_may_bring_mail_of_its_own_host(tmp_path: Path) -> None:
    """Programs of the host: few names, or senders of ours, or recipients of ours."""

    async def scene(post: Post) -> None:
        async with masquerade(post, GATEWAY) as gateway:
            for number in range(30):
                assert (await gateway.asks(number, sender="example.org")).startswith("250")
                assert (await gateway.asks(number, to="u@any.example")).startswith("250")
                assert (await gateway.asks(number, name="host.example", sender="host.example")).startswith("250")
            assert post.alarms() == {}
            assert post.told(AlarmRaised) == []

    play(tmp_path, MASKED, scene)


def test_a_named_server_that_sends_for_many_is_at_most_looked_at(tmp_path: Path) -> None:
    async def scene(post: Post) -> None:
        async with masquerade(post, "10.0.0.9") as server:
            for number in range(40):
                assert (await server.asks(number, name="app.example")).startswith("250")
            assert post.alarms() == {}
            for number in range(40):
                assert (await server.asks(number)).startswith("250")
            assert "It is still trusted" in post.alarms()["masked 10.0.0.9"]
            assert (await server.asks(1)).startswith("250")

    play(tmp_path, MASKED, scene)


def test_who_is_all_the_world_at_an_open_door_is_no_client_of_ours(tmp_path: Path) -> None:
    async def scene(post: Post) -> None:
        async with masquerade(post, "172.20.0.7", "mx") as front, masquerade(post, "172.20.0.7") as office:
            for number in range(9):
                assert (await front.asks(number, to="u@any.example")).startswith("250")
            assert (await office.asks(1)).startswith("250")
            await front.asks(9, to="u@any.example")
            assert "every client of every door comes from it" in post.alarms()["masked 172.20.0.7"]
            assert (await office.asks(1)).startswith("550 5.7.1")
            assert (await front.asks(1, to="u@any.example")).startswith("250"), "mail for us needs no trust"

    play(tmp_path, MASKED, scene)


def test_doors_in_other_processes_are_watched_too(tmp_path: Path) -> None:
    head = CONFIG.replace("data_dir", "processes = 1\ndata_dir")
    alarm = "every client of every door comes from it"

    async def main() -> None:
        async with Daemon(tmp_path, MASKED, {"postmaster@example.org": "secret"}, head=head) as daemon:
            done = await asyncio.to_thread(command, daemon, "check", "relay", "--live", "--json")
            assert done.returncode == 0, done.stderr
            assert {door["way"] for door in json.loads(done.stdout)["doors"]} != {"memory"}
            assert {event["event"] for event in daemon.log()} == {"ready"}
            front = Masquerade("172.20.0.7", daemon.doors["mx"].port)
            async with front, Masquerade("172.20.0.7", daemon.doors["office"].port) as office:
                for number in range(10):
                    assert (await front.asks(number, to="postmaster@example.org")).startswith("250")
                assert (await office.asks(1)).startswith("550 5.7.1")
            assert alarm in (await daemon.told("alarm"))[0]["reason"]
            health = await asyncio.to_thread(command, daemon, "status")
            assert alarm in health.stdout
            assert "Traceback" not in daemon.complaints()

    asyncio.run(main())


def test_the_sentinel_is_no_stranger_behind_anybody(tmp_path: Path) -> None:
    """Its own names and senders must not make an address suspicious."""

    async def scene(post: Post) -> None:
        report = await post.sentinel.check()
        assert report.passed
        assert post.sentinel.masks._masking._watched == {}
        assert post.sentinel.masks._masking._peers == {}

    play(tmp_path, MASKED, scene)


def test_watching_costs_next_to_nothing(tmp_path: Path) -> None:
    """A server that sends as fast as it can is told about at every recipient."""

    async def scene(post: Post) -> None:
        masks = post.sentinel.masks
        door = post.door("office").opening.settings
        session: Any = SimpleNamespace(client="172.16.0.8", helo="app.example", door=door, house=post.relay.parts.house)
        from staffetta.mail.address import parse_mailbox  # noqa: PLC0415

        transaction: Any = SimpleNamespace(claimed_sender=parse_mailbox("x@far.example"))
        began = time.process_time()
        for _ in range(20_000):
            masks.asked(session, transaction, outside=True)
        assert time.process_time() - began < 2.0
        assert masks._masking._watched["172.16.0.8"].asked > 0

    play(tmp_path, MASKED, scene)
