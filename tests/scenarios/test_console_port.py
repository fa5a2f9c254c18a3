"""The console's port of the installed relay, over real sockets: health, metrics, mail programs, and hostile clients."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from staffetta.testing.daemon import CONFIG, PATIENCE_SECONDS, STOP_SECONDS, Daemon
from staffetta.testing.metrics_page import MetricsPage

HEAD = CONFIG.replace('bind = "off"', 'bind = "127.0.0.1:0"')
RELAY = '[listen.relay]\nbind = ["127.0.0.1:0"]\nrole = "relay"\n'
SUBMISSION = '[listen.submission]\nbind = ["127.0.0.1:{port}"]\nrole = "submission"\ntls = "implicit"\n'
OTHER = '[domain."other.example"]\n'
AUTOCONFIG = "/mail/config-v1.1.xml?emailaddress=anna@other.example"
AUTODISCOVER = "/autodiscover/autodiscover.xml"
QUESTION = b"<Autodiscover><Request><EMailAddress>anna@other.example</EMailAddress></Request></Autodiscover>"

Scene = Callable[[Daemon], Awaitable[None]]


def play(folder: Path, text: str, scene: Scene, head: str = HEAD) -> None:
    async def main() -> None:
        async with Daemon(folder, text, {}, head=head) as daemon:
            await scene(daemon)
            assert await daemon.stop() == 0
            assert "Traceback" not in daemon.complaints()

    asyncio.run(main())


class Answer:
    """What came back."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.fields = {name.lower(): value for name, value in answer.getheaders()}
        self.body = answer.read()


def ask_now(port: int, path: str, host: str, body: bytes | None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET" if body is None else "POST", path, body, {"Host": host} if host else {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


async def ask(daemon: Daemon, path: str, host: str = "", body: bytes | None = None) -> Answer:
    return await asyncio.to_thread(ask_now, daemon.doors["console"].port, path, host, body)


async def metrics(daemon: Daemon) -> MetricsPage:
    answer = await ask(daemon, "/metrics")
    assert (answer.status, answer.fields["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return MetricsPage(answer.body)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await true():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.05)


def test_health_and_metrics_of_one_message(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        for path in ("/livez", "/readyz"):
            answer = await ask(daemon, path)
            assert (answer.status, answer.body) == (200, b"ok\n")
        before = await metrics(daemon)
        async with daemon.wire("relay") as wire:
            await wire.replies()
            await wire.say("EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@far.example>", "DATA")
            during = await metrics(daemon)
            await wire.send(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
            assert (await wire.replies())[0].startswith("250")
            assert (await wire.say("MAIL FROM:<a@b.example>", "RCPT TO:<nobody@example.org>"))[1].startswith("550")
        await daemon.told("deliver")

        async def delivered() -> bool:
            return (await metrics(daemon)).value("staffetta_recipients_final_total", outcome="delivered") == 1

        await until(delivered)
        after = await metrics(daemon)
        assert during.value("staffetta_smtp_connections", listener="relay") == 1
        assert after.series.keys() == before.series.keys() == during.series.keys()
        for name, labels in (
            ("smtp_connections_total", {"listener": "relay", "tls": "clear"}),
            ("messages_accepted_total", {"listener": "relay"}),
            ("messages_refused_total", {"stage": "rcpt", "rule": "unknown_recipient"}),
            ("delivery_attempts_total", {"result": "delivered", "tls": "no"}),
            ("recipients_accepted_total", {}),
        ):
            assert before.value(f"staffetta_{name}", **labels) == 0, name
            assert after.value(f"staffetta_{name}", **labels) == 1, name
        assert after.value("staffetta_recipients_unaccounted") == 0
        assert after.value("staffetta_certificate_expiry_timestamp_seconds", name="mx.example.org") > 1e9
        assert b"far.example" not in (await ask(daemon, "/metrics")).body

    play(tmp_path, RELAY, scene)


def test_names_that_are_not_ours_are_told_nothing(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        for host in ("evil.example", "localhost.evil.example", "staffetta", "autoconfig.example.org"):
            answer = await ask(daemon, "/metrics", host)
            assert answer.status == 421
            assert host.encode() not in answer.body
        for host in ("localhost", "127.0.0.1:9", "[::1]:8080", "MX.example.org", "192.0.2.1"):
            answer = await ask(daemon, "/metrics", host)
            assert answer.status == 200
            assert not [name for name in answer.fields if name.startswith("access-control")]
        assert (await ask(daemon, "/<script>alert(1)</script>")).body == b"there is nothing here\n"

    play(tmp_path, RELAY, scene)


def talk(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as line:
        heard = b""
        with contextlib.suppress(ConnectionError):
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := line.recv(65536):
                heard += piece
        return heard


GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * (1 << 20), 431),
        (b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n" + b"a" * (1 << 20), 413),
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n" + CHUNKS + GET, 400),
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\n" + CHUNKS + GET, 411),
        (GET + GET + GET, 200),
        (b"EHLO a\r\n\r\n", 400),
        (b"\x16\x03\x01\0\x05hello\r\n\r\n", 400),
    ],
)
def test_hostile_requests(tmp_path: Path, request_: bytes, status: int) -> None:
    async def scene(daemon: Daemon) -> None:
        heard = await asyncio.to_thread(talk, daemon.doors["console"].port, request_)
        assert heard.count(b"\r\nDate: ") == 1
        assert heard.startswith(f"HTTP/1.1 {status} ".encode())
        assert (await ask(daemon, "/livez")).status == 200

    play(tmp_path, RELAY, scene)


def test_slow_clients_shut_nobody_out(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        endpoint = daemon.doors["console"]
        lines = [await asyncio.open_connection(endpoint.address, endpoint.port) for _ in range(150)]
        for _, writer in lines:
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET /livez HTTP/1.1\r\n")
        for _ in range(5):
            assert (await ask(daemon, "/readyz")).status == 200
        assert (await metrics(daemon)).value("process_open_fds") < 150
        for _, writer in lines:
            writer.transport.abort()

    play(tmp_path, RELAY, scene)


def test_reload_turns_discovery_on_and_off(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    doors = SUBMISSION.replace("{port}", str(port))

    async def scene(daemon: Daemon) -> None:
        assert (await ask(daemon, AUTOCONFIG)).status == 404
        assert (await ask(daemon, AUTOCONFIG, "autoconfig.other.example")).status == 421
        assert (await ask(daemon, AUTODISCOVER, body=QUESTION)).status == 404

        assert (await daemon.reload(doors + OTHER + "discover = true\n"))["event"] == "reloaded"
        answer = await ask(daemon, AUTOCONFIG, "autoconfig.other.example")
        assert (answer.status, answer.fields["content-type"]) == (200, "text/xml; charset=utf-8")
        servers = {one.get("type"): one for one in ET.fromstring(answer.body)[0] if one.tag.endswith("Server")}
        assert servers["smtp"].findtext("hostname") == servers["imap"].findtext("hostname") == "mx.example.org"
        assert (servers["smtp"].findtext("port"), servers["smtp"].findtext("socketType")) == (str(port), "SSL")
        assert (await ask(daemon, "/.well-known/autoconfig" + AUTOCONFIG, "other.example")).status == 200
        answer = await ask(daemon, AUTODISCOVER, "autodiscover.other.example", QUESTION)
        assert (answer.status, answer.body.count(b"anna@other.example")) == (200, 3)
        assert (await ask(daemon, "/metrics", "autodiscover.other.example")).status == 404

        await daemon.reload(doors + OTHER + 'discover = { pop3 = "pop.other.example:110" }\n')
        answer = await ask(daemon, AUTOCONFIG)
        assert b'type="pop3"' in answer.body
        assert b'type="imap"' not in answer.body

        refused = await daemon.reload(doors + OTHER + 'discover = "yes"\n')
        assert refused["event"] == "reload_refused"
        page = await metrics(daemon)
        assert page.value("staffetta_config_last_reload_success") == 0
        assert b'type="pop3"' in (await ask(daemon, AUTOCONFIG)).body

        await daemon.reload(doors + OTHER)
        assert (await ask(daemon, AUTOCONFIG)).status == 404
        assert (await metrics(daemon)).value("staffetta_config_last_reload_success") == 1

    play(tmp_path, doors + OTHER, scene)


def test_not_ready_while_it_drains(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        async with daemon.wire("relay") as wire:
            await wire.replies()
            await wire.say("EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@far.example>", "DATA")
            await wire.send(b"Subject: the last one\r\n\r\n")
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            await daemon.told("stopping")
            answer = await ask(daemon, "/readyz")
            assert answer.status == 503
            assert answer.body.startswith(b"draining")
            assert (await ask(daemon, "/livez")).status == 200
            assert (await metrics(daemon)).value("staffetta_smtp_connections", listener="relay") == 1
            await wire.send(b"bye\r\n.\r\n")
            assert (await wire.replies())[0].startswith("250")
        assert await asyncio.to_thread(daemon.process.wait, STOP_SECONDS) == 0
        with pytest.raises(ConnectionError):
            await ask(daemon, "/livez")

    play(tmp_path, RELAY, scene)


def moved(text: str, port: int) -> str:
    return text.replace('bind = "127.0.0.1:0"', f'bind = "127.0.0.1:{port}"')


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "staffetta", "run", "-c", str(folder / "staffetta.toml")]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_a_named_port_that_is_taken_is_a_start_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        plain = "\n".join(line for line in HEAD.split("\n") if not line.startswith(("[tls]", "certificate", "key")))
        text = moved(plain, port).replace("{sink}", "9") + RELAY
        (tmp_path / "staffetta.toml").write_text(text)
        done = run(tmp_path)
    assert done.returncode == 8
    assert f"127.0.0.1:{port}" in done.stderr
    assert "[console]" in done.stderr
    assert '"ready"' not in done.stdout


def test_the_default_port_that_is_taken_is_an_alarm(tmp_path: Path) -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # then it is taken by somebody else
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        head = CONFIG.replace('[console]\nbind = "off"\n', "")

        async def scene(daemon: Daemon) -> None:
            assert "console" not in daemon.doors
            assert "127.0.0.1:8080: another program already listens there" in daemon.complaints()
            words = [sys.executable, "-m", "staffetta", "status", "--json", "-c", str(tmp_path / "staffetta.toml")]
            done = await asyncio.to_thread(subprocess.run, words, capture_output=True, timeout=60, check=False)
            assert [alarm["name"] for alarm in json.loads(done.stdout)["alarms"]] == ["console"]
            async with daemon.wire("relay") as wire:
                assert (await wire.replies())[0].startswith("220")

        play(tmp_path, RELAY, scene, head)


def test_reload_moves_the_port(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    head = HEAD.replace('[console]\nbind = "127.0.0.1:0"\n', "")

    def at(bind: str) -> str:
        return f'{RELAY}[console]\nbind = "{bind}"\n'

    async def alive(where: int) -> bool:
        with contextlib.suppress(OSError):
            return (await asyncio.to_thread(ask_now, where, "/livez", "", None)).status == 200
        return False

    async def scene(daemon: Daemon) -> None:
        first = daemon.doors["console"].port
        await daemon.reload(at(f"127.0.0.1:{port}"))
        await until(lambda: alive(port))
        assert not await alive(first)
        await daemon.reload(at(f"127.0.0.2:{port}"))

        async def at_second() -> bool:
            return not await alive(port)

        await until(at_second)
        await daemon.reload(at("off"))
        await daemon.reload(at(f"127.0.0.1:{port}"))
        await until(lambda: alive(port))
        assert "Traceback" not in daemon.complaints()

    play(tmp_path, at("127.0.0.1:0"), scene, head)
