"""A relay in this process, reloaded with one thing changed at a time: what is new, what is the same as before."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.app import privileges
from staffetta.app.relay import Relay
from staffetta.app.reload import Reloads
from staffetta.app.standing import Standing
from staffetta.config.load import Loaded, Problems, load
from staffetta.config.schema import Config
from staffetta.control.channel import Ping, Reload, Status, Wake
from staffetta.mail.address import parse_mailbox
from staffetta.net.notify import Notify
from staffetta.policy.relay import Place
from staffetta.testing.authority import Authority

TOML = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[console]
bind = "off"
[tls]
certificate = "mx.pem"
key = "mx.key"
[limits]
connections_per_client = 5
[dns]
servers = ["127.0.0.1:1"]
[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"
[domain."near.example"]
aliases = { info = ["anna"] }
recipients = "any"
[route.far]
via = "192.0.2.1"
tls = "off"
connections = 3
"""


@pytest.fixture(autouse=True)
def umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(privileges, "DEFAULT_USER", "nobody-of-that-name")
    before = os.umask(0o022)
    yield
    os.umask(before)


class Desk:
    """A relay, its file and its reloads."""

    def __init__(self, relay: Relay, reloads: Reloads, file: Path) -> None:
        self.relay, self.reloads, self.file = relay, reloads, file

    async def change(self, before: str, after: str, *, done: bool = True) -> str:
        text = self.file.read_text()
        assert before in text
        self.file.write_text(text.replace(before, after, 1))
        report = await self.reloads.reload("test")
        assert report.done is done, report
        return report.reason


def play(folder: Path, scene: Callable[[Desk], Awaitable[None]], notify: Notify | None = None) -> None:
    Authority(folder).issue("relay.example", stem="mx")
    file = folder / "staffetta.toml"
    file.write_text(TOML)
    file.chmod(0o600)

    def read(files: bool) -> Loaded | Problems:
        return load(file, {}, files=files)

    async def main() -> None:
        loaded = read(True)
        assert isinstance(loaded, Loaded), loaded
        relay = Relay(loaded.config, loaded.digest)
        await relay.start()
        reloads = Reloads(relay, read, notify)
        relay.closing.append(reloads.close)
        try:
            await scene(Desk(relay, reloads, file))
        finally:
            await relay.stop("test")

    asyncio.run(main())


def test_names_are_those_of_the_new_file_and_the_house_is_the_same(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        house = desk.relay.parts.house
        kept = (house.logins, house.sessions, house.connections, house.login_failures, house.refusals, house.outlet)
        fresh = parse_mailbox("anna@fresh.example")
        assert house.directory.resolve(fresh).place is Place.OUTSIDE
        await desk.change("near.example", "fresh.example")
        assert desk.relay.parts.house is house
        assert kept == (
            house.logins,
            house.sessions,
            house.connections,
            house.login_failures,
            house.refusals,
            house.outlet,
        )
        assert house.directory.resolve(fresh).place is Place.LOCAL
        assert house.directory is desk.relay.parts.directory
        await desk.change('["anna"]', '["ben"]')
        targets = house.directory.resolve(parse_mailbox("info@fresh.example")).targets
        assert [str(target.mailbox) for target in targets] == ["ben@fresh.example"]
        await desk.change("relay.example", "mx.example")
        assert house.hostname == "mx.example"
        assert desk.relay.doors[0].opening.settings.core.hostname == "mx.example"

    play(tmp_path, scene)


def test_limits_and_routes_are_those_of_the_new_file(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        parts = desk.relay.parts
        for _ in range(5):
            assert parts.house.connections.enter("192.0.2.9") is None
        assert parts.house.connections.enter("192.0.2.9") is not None
        await desk.change("connections_per_client = 5", 'connections_per_client = 6\nmessage_size = "1MiB"')
        assert parts.house.connections.open == 5, "who is there is still counted"
        assert parts.house.connections.enter("192.0.2.9") is None
        for _ in range(6):
            parts.house.connections.leave("192.0.2.9")
        assert desk.relay.doors[0].opening.settings.core.message_size == 1 << 20
        assert parts.dispatcher.limits("route:far") == (3, 0.0)
        await desk.change("connections = 3", 'connections = 4\nrate = "2/s"')
        assert parts.dispatcher.limits("route:far") == (4, 2.0)
        await desk.change("[route.far]", "[route.other]")
        assert parts.house.destination(parse_mailbox("a@far.example"), parse_mailbox("b@near.example")) == "route:other"

    play(tmp_path, scene)


def test_other_name_servers_are_asked_and_the_old_ones_stay_for_who_has_begun(tmp_path: Path) -> None:
    resolvers: list[Any] = []

    async def scene(desk: Desk) -> None:
        before = desk.relay.parts.world
        await desk.change("connections = 3", "connections = 4")
        assert desk.relay.parts.world is before
        await desk.change("127.0.0.1:1", "127.0.0.1:2")
        after = desk.relay.parts.world
        assert desk.relay.worlds == [before, after]
        resolvers.extend((before.resolver, after.resolver))
        assert not any(resolver._closed for resolver in resolvers)

    play(tmp_path, scene)
    assert len(set(map(id, resolvers))) == 2
    assert all(resolver._closed for resolver in resolvers)


def test_the_log_follows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def scene(desk: Desk) -> None:
        await desk.change("connections = 3", "connections = 4")
        await desk.change("[limits]", '[log]\nlevel = "warning"\n[limits]')
        await desk.change("[listen.mx]", "[listen.mx]\nbnd = 1", done=False)

    play(tmp_path, scene)
    lines = capfd.readouterr().out.split("\n")
    events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
    assert events == ["ready", "reloaded", "reload_refused"], "at the level of warnings the rest is not told"


def test_followers_hear_of_what_is_in_force_only(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        heard: list[Config] = []
        wrong: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(str(context["exception"])))

        def fails(_: Config) -> None:
            raise KeyError("a bug")

        desk.reloads.followers += [fails, heard.append]
        await desk.change("connections = 3", "connections = 4")
        await desk.change("[listen.mx]", "[listen.mx]\nbnd = 1", done=False)
        assert heard == [desk.relay.config]
        assert wrong == ["'a bug'"]

    play(tmp_path, scene)


def test_what_the_relay_says_of_itself(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        standing = Standing(desk.relay, desk.reloads, desk.file)
        port = desk.relay.doors[0].listener.endpoints[0].port
        pong = await standing.ping(Ping())
        assert pong == await standing.wake(Wake())
        assert pong.listeners == (f"mx 127.0.0.1:{port}",)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        told = await standing.status(Status())
        assert [(one.name, one.role, one.tls, one.sessions) for one in told.listeners] == [("mx", "mx", "starttls", 1)]
        assert [one.subject for one in told.certificates] == ["relay.example"]
        assert told.reload is None
        desk.file.write_text("nonsense")
        report = await standing.reload(Reload())
        assert not report.done
        assert report.digest == told.digest == desk.relay.digest
        assert (await standing.status(Status())).reload == report
        assert report.by == "a command"
        writer.close()

    play(tmp_path, scene)


class Heard(Notify):
    """What a service manager would hear."""

    def __init__(self) -> None:
        super().__init__({})
        self.words: list[str] = []

    def reloading(self) -> None:
        self.words.append("reloading")

    def ready(self, status: str) -> None:
        self.words.append(status.split(":", maxsplit=1)[0])


def test_the_service_manager_hears_of_every_reload_and_of_its_end(tmp_path: Path) -> None:
    notify = Heard()

    async def scene(desk: Desk) -> None:
        await desk.change("connections = 3", "connections = 4")
        await desk.change("[listen.mx]", "[listen.mx]\nbnd = 1", done=False)

    play(tmp_path, scene, notify)
    assert notify.words == ["reloading", "Reloaded", "reloading", "Reload refused"]
