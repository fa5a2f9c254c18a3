"""The installed relay is told to read its file again, by signal and by command, while mail is moving."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from staffetta.net.tls import ClientContexts
from staffetta.testing.daemon import Daemon
from staffetta.testing.sink import Sink

HEAD = """\
version = 1
hostname = "mx.example.org"
data_dir = "data"
[console]
bind = "off"
[log]
format = "json"
[queue]
retry = ["1s"]
"""

DOOR = """\
[listen.relay]
bind = ["127.0.0.1:0"]
role = "relay"
tls = "off"
auth = false
"""

TLS = """\
[tls]
certificate = "mx.pem"
key = "mx.key"
"""

PATIENCE = 15.0


def route(name: str, port: int, to: str = "*") -> str:
    return f'[route.{name}]\nto = ["{to}"]\nvia = "127.0.0.1:{port}"\ntls = "off"\n'


def door(name: str, port: int = 0) -> str:
    return DOOR.replace("listen.relay", f"listen.{name}").replace(":0", f":{port}")


def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """A connection to a door, as programs make them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def at(cls, daemon: Daemon, name: str) -> Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", daemon.doors[name].port))
        assert (await client.reply()).startswith("220")
        assert (await client.say("EHLO client.example")).startswith("250")
        return client

    async def say(self, line: str) -> str:
        self._writer.write(line.encode() + b"\r\n")
        return await self.reply()

    async def reply(self) -> str:
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await self._reader.readline()).decode()
                if line[3:4] != "-":
                    return line

    async def send(self, number: str, to: str) -> str:
        """A message; the first reply that is no yes, or the last."""
        for line in ("MAIL FROM:<anna@near.example>", f"RCPT TO:<{to}>", "DATA"):
            answer = await self.say(line)
            if answer[:1] not in "23" or not answer:
                return answer
        self._writer.write(f"Subject: test\r\nX-Number: {number}\r\n\r\nhello\r\n".encode())
        return await self.say(".")

    async def ended(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read(1) == b""

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def numbers(*sinks: Sink) -> Counter[str]:
    found: Counter[str] = Counter()
    for sink in sinks:
        for message in sink.messages:
            match = re.search(rb"X-Number: (\S+)\r\n", message.content)
            assert match is not None
            found[match[1].decode()] += 1
    return found


def play(folder: Path, text: str, scene: Callable[[Daemon, Sink], Awaitable[None]], head: str = HEAD) -> None:
    async def main() -> None:
        async with Sink() as other, Daemon(folder, text, {}, head=head) as daemon:
            await scene(daemon, other)
            assert await daemon.stop() == 0
            assert "Traceback" not in daemon.complaints()

    asyncio.run(main())


def command(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "staffetta", *words, "-c", str(daemon.folder / "staffetta.toml")]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


async def verb(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(command, daemon, *words)


def test_reloads_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    """Each reload takes the route away that mail waits for, opens or closes a door, and fails every third time."""
    clients, each, dead = 4, 60, dead_port()
    broken = door("relay") + "[route.a]\nvia = 7\n"

    async def scene(daemon: Daemon, other: Sink) -> None:
        accepted: set[str] = set()
        doubt: set[str] = set()
        refused = 0

        def text(turn: int) -> str:
            name, sink = ("a", daemon.sink) if turn % 2 else ("b", other)
            more = door("more") if turn % 4 < 2 else ""
            return door("relay") + more + route("dead", dead, "dead.example") + route(name, sink.port)

        await daemon.reload(text(0))

        async def bring(who: int) -> None:
            nonlocal refused
            client = await Client.at(daemon, "relay")
            for count in range(each):
                number = f"{who}-{count}"
                to = "ben@dead.example" if count % 5 == 0 else "ben@far.example"
                while True:
                    answer = await client.send(number, to)
                    if answer.startswith("250"):
                        accepted.add(number)
                        break
                    refused += 1
                    doubt.update({number} if not answer else ())
                    await client.close()
                    client = await Client.at(daemon, "relay")
            await client.close()

        async def disturb() -> None:
            for turn in range(1, 13):
                event = await daemon.reload(broken if turn % 3 == 0 else text(turn))
                assert event["event"] == ("reload_refused" if turn % 3 == 0 else "reloaded"), event

        await asyncio.gather(disturb(), *(bring(who) for who in range(clients)))
        assert refused == 0, "the door did not change, so its sessions must not notice"
        last = door("relay") + route("a", daemon.sink.port)
        assert (await daemon.reload(last))["event"] == "reloaded"
        async with asyncio.timeout(PATIENCE):
            while len(numbers(daemon.sink, other)) < clients * each:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        arrived = numbers(daemon.sink, other)
        assert set(arrived) == accepted
        assert not doubt
        assert max(arrived.values()) == 1, "nothing is repeated"
        assert daemon.sink.count
        assert other.count
        answer = json.loads((await verb(daemon, "status", "--json")).stdout)
        assert answer["ledger"]["accepted"] == clients * each
        assert answer["ledger"]["unaccounted"] == 0

    play(tmp_path, door("relay"), scene)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (door("relay") + "[route.a]\nvia = 7\n", "staffetta.toml:16 C104"),
        (door("relay") + "[rout.a]\n", "C102"),
        (door("fresh", 1) + door("relay"), "127.0.0.1:{taken}: another program already listens there"),
        (door("relay") + '[tls]\ncertificate = "none.pem"\nkey = "none.key"\n', "C301"),
    ],
)
def test_a_wrong_file_changes_nothing_and_says_why(tmp_path: Path, text: str, words: str) -> None:
    async def scene(daemon: Daemon, other: Sink) -> None:
        await daemon.reload(door("relay") + door("second") + route("a", daemon.sink.port))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            before = dict(daemon.doors)
            client = await Client.at(daemon, "second")
            event = await daemon.reload(text.replace(':1"', f':{port}"') + route("b", other.port))
            assert event["event"] == "reload_refused"
            assert words.format(taken=port) in event["reason"]
            assert daemon.doors == before
            assert (await client.send("1", "ben@far.example")).startswith("250")
            await (await Client.at(daemon, "second")).close()
            await client.close()
            await daemon.sink.arrived(1)
            answer = await verb(daemon, "status", "--json")
            assert answer.returncode == 1
            told = json.loads(answer.stdout)
            assert told["reload"]["done"] is False
            assert told["reload"]["reason"] == event["reason"]
            assert any("the last reload was refused" in problem for problem in told["problems"])
            result = await verb(daemon, "reload")
            assert result.returncode == 8
            assert "stays in force" in result.stderr
        assert not other.count

    play(tmp_path, door("relay"), scene)


def test_sessions_of_a_door_that_goes_end_and_others_stay(tmp_path: Path) -> None:
    async def scene(daemon: Daemon, other: Sink) -> None:
        port = daemon.doors["gone"].port
        leaving, changed, staying = [await Client.at(daemon, name) for name in ("gone", "changed", "relay")]
        in_content = await Client.at(daemon, "gone")
        for line in ("MAIL FROM:<a@near.example>", "RCPT TO:<b@far.example>", "DATA"):
            await in_content.say(line)
        narrowed = door("changed").replace("auth = false", 'auth = false\ntrust = ["192.0.2.1"]')
        event = await daemon.reload(door("relay") + narrowed + door("added") + route("a", daemon.sink.port))
        assert event["event"] == "reloaded"
        assert [listener.split(" ")[0] for listener in event["listeners"]] == ["relay", "changed", "added"]
        assert "listen.gone" in event["reason"]
        for client in (leaving, changed):
            assert (await client.reply()).startswith("421 ")
            assert await client.ended()
        assert (await in_content.say("X-Number: c\r\n\r\nhello\r\n.")).startswith("250 ")
        assert (await in_content.reply()).startswith("421 ")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert (await staying.send("s", "ben@far.example")).startswith("250")
        fresh = await Client.at(daemon, "changed")
        assert (await fresh.send("x", "ben@far.example")).startswith("550 5.7.1")
        new = await Client.at(daemon, "added")
        assert (await new.send("n", "ben@far.example")).startswith("250")
        await daemon.sink.arrived(3)
        assert set(numbers(daemon.sink)) == {"c", "s", "n"}
        for client in (leaving, changed, staying, in_content, fresh, new):
            await client.close()

    play(tmp_path, door("gone") + door("relay") + door("changed"), scene)


def test_mail_for_a_way_that_changed_is_tried_at_once(tmp_path: Path) -> None:
    """A smarthost that is down for an hour gets another address: what waited for it untried goes now."""
    dead = dead_port()
    head = HEAD.replace('retry = ["1s"]', 'retry = ["1h"]')

    async def scene(daemon: Daemon, other: Sink) -> None:
        client = await Client.at(daemon, "relay")
        assert (await client.send("1", "ben@far.example")).startswith("250")
        await daemon.told("defer")
        assert (await client.send("2", "ben@far.example")).startswith("250")
        await daemon.reload(
            door("relay").replace("auth = false", 'auth = false\ntrust = ["127.0.0.0/9"]') + route("a", dead)
        )
        assert (await daemon.reload(door("relay") + route("a", daemon.sink.port)))["event"] == "reloaded"
        await daemon.sink.arrived(1)
        assert set(numbers(daemon.sink)) == {"2"}
        assert len(await daemon.told("attempt")) == 2, "a reload that leaves the way alone tries nothing"
        await client.close()

    play(tmp_path, door("relay") + route("a", dead), scene, head)


def test_release_and_retry_reach_a_destination_that_is_down(tmp_path: Path) -> None:
    """Nobody waits for the hour that a dead host is left alone, when an operator says now."""
    head = HEAD.replace('retry = ["1s"]', 'retry = ["1h"]')

    async def scene(daemon: Daemon, other: Sink) -> None:
        client = await Client.at(daemon, "relay")
        first = (await client.send("1", "ben@far.example")).split(" ")[-1].strip()
        await daemon.told("defer")
        second = (await client.send("2", "ben@far.example")).split(" ")[-1].strip()
        await client.close()
        assert (await verb(daemon, "queue", "hold", second)).returncode == 0
        for act, message in (("release", second), ("retry", first)):
            before = len([event for event in daemon.log() if event["event"] == "attempt"])
            assert (await verb(daemon, "queue", act, message)).returncode == 0
            await daemon.told("attempt", before + 1)

    play(tmp_path, door("relay") + route("a", dead_port()), scene, head)


def shown(port: int, ca: Path) -> bytes:
    """The certificate that a door shows."""
    context = ClientContexts().verified(ca)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="mx.example.org") as wrapped,
    ):
        found = wrapped.getpeercert(binary_form=True)
    assert found is not None
    return found


IMPLICIT = '[listen.submission]\nbind = ["127.0.0.1:0"]\nrole = "submission"\ntls = "implicit"\n'


def test_certificates_change_by_themselves_and_by_reload(tmp_path: Path) -> None:
    async def scene(daemon: Daemon, other: Sink) -> None:
        port, ca = daemon.doors["submission"].port, daemon.authority.ca
        first = await asyncio.to_thread(shown, port, ca)
        issued = daemon.authority.issue("mx.example.org", stem="mx")
        # A reload looks at once, and not at the next second.
        assert (await daemon.reload())["event"] == "reloaded"
        second = await asyncio.to_thread(shown, port, ca)
        assert second != first
        assert second == ssl.PEM_cert_to_DER_cert(issued.certificate.read_text())
        daemon.authority.issue("mx.example.org", stem="new")
        event = await daemon.reload(TLS.replace("mx.", "new.") + IMPLICIT)
        assert event["event"] == "reloaded"
        assert await asyncio.to_thread(shown, port, ca) != second

    play(tmp_path, TLS + IMPLICIT, scene)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_a_key_that_only_root_reads_survives_giving_up_root() -> None:
    head = HEAD.replace('data_dir = "data"', 'data_dir = "own"\nuser = "nobody"')

    async def scene(daemon: Daemon, other: Sink) -> None:
        (daemon.folder / "staffetta.toml").chmod(0o644)
        daemon.authority.issue("mx.example.org", stem="mx").key.chmod(0o600)
        port, ca = daemon.doors["submission"].port, daemon.authority.ca
        before = await asyncio.to_thread(shown, port, ca)
        event = await daemon.reload()
        assert event["event"] == "reloaded", event
        assert await asyncio.to_thread(shown, port, ca) == before
        told = json.loads((await verb(daemon, "status", "--json")).stdout)
        assert "Permission denied" in told["certificates"][0]["fault"]
        assert any("cannot be read again" in problem for problem in told["problems"])
        shutil.chown(daemon.folder / "mx.key", "nobody")
        assert (await daemon.reload())["event"] == "reloaded"
        assert await asyncio.to_thread(shown, port, ca) != before
        told = json.loads((await verb(daemon, "status", "--json")).stdout)
        assert told["certificates"][0]["fault"] is None

    with tempfile.TemporaryDirectory() as folder:  # another account has to come through, as it does in /etc
        Path(folder).chmod(0o755)
        play(Path(folder), TLS + IMPLICIT, scene, head)
