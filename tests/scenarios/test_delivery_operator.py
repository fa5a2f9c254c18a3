"""What the operator sees and does while mail waits: the commands over the store of a running relay, in real time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from staffetta.cli.main import cli
from staffetta.config.schema import Config
from staffetta.delivery import dispatch
from staffetta.dns.live import LiveResolver, ResolverSettings
from staffetta.spool.operator import Filter, open_for_command
from staffetta.spool.operator_acts import Act, Order, perform
from staffetta.spool.recovery import STORE_NAME, RelayLock
from staffetta.spool.sqlite import SqliteSpool
from staffetta.testing.rehearsal import Rehearsal
from staffetta.testing.sink_script import Fault, Kind, Script
from staffetta.testing.zone import ZoneServer

TOML = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[listen.relay]
bind = ["127.0.0.9:{port}"]
role = "relay"
tls = "off"
auth = false
[outbound]
port = {port}
allow = ["127.0.0.0/8"]
[queue]
retry = ["5m"]
"""


async def sqlite(config: Config) -> SqliteSpool:
    return await SqliteSpool.open(config.data_dir / STORE_NAME, time.time)


def play(folder: Path, names: Any, scene: Callable[[Rehearsal], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Rehearsal(folder, TOML, names, spool=sqlite) as relay:
            lock = RelayLock.acquire(relay.config.data_dir)
            try:
                await scene(relay)
            finally:
                lock.release()

    asyncio.run(main())


async def said(relay: Rehearsal, *words: str) -> list[dict[str, Any]]:
    """What a command says, one object per line."""
    result = await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--json", "-c", str(relay.config_file)])
    assert result.exit_code in {0, 3}, result.output
    return [json.loads(line) for line in result.stdout.split("\n") if line]


def test_a_doubt_is_shown_and_ends_when_the_operator_has_it_tried_again(tmp_path: Path, mx: Any) -> None:
    async def scene(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(faults=(Fault("dot", Kind.DROP, times=1),)))
        number = await relay.submit("anna@near.example", ["ben@far.example"])
        await relay.until(lambda: relay.told("defer", number), 10)
        (line,) = await said(relay, "queue", "list")
        assert (line["id"], line["state"], line["in_doubt"], line["attempts"]) == (number, "deferred", True, 1)
        assert line["last_reply"].startswith("451 4.4.2")
        events = await said(relay, "trace", number)
        assert [(event["event"], event.get("in_doubt")) for event in events][-1] == ("defer", True)
        await said(relay, "queue", "retry", f"id:{number}", "--yes")
        await relay.until(lambda: relay.told("deliver", number), 10)
        assert sink.count == 1
        assert await said(relay, "queue", "list") == []

    play(tmp_path, mx("10 127.0.0.11"), scene)


def test_everybody_who_waits_for_a_dead_host_is_shown_as_deferred(tmp_path: Path, mx: Any) -> None:
    async def scene(relay: Rehearsal) -> None:
        for _ in range(300):
            await relay.submit("anna@near.example", ["ben@far.example"])
        await relay.until(lambda: relay.told("defer"), 10)
        async with asyncio.timeout(10):
            lines = await said(relay, "queue", "list")
            while {line["state"] for line in lines} != {"deferred"}:
                await asyncio.sleep(0.1)
                lines = await said(relay, "queue", "list")
        assert len(lines) == 300
        assert all("4.4.1" in line["last_reply"] for line in lines)
        assert relay.connects["127.0.0.11"] <= 3
        sink = await relay.sink("127.0.0.11")
        await said(relay, "queue", "retry", "--all", "--yes")
        await relay.settled(20)
        assert sink.count == 300

    play(tmp_path, mx("10 127.0.0.11"), scene)


def test_a_bounce_of_the_operator_tells_the_sender(tmp_path: Path, mx: Any, monkeypatch: Any) -> None:
    async def scene(relay: Rehearsal) -> None:
        back = await relay.sink("127.0.0.12")
        number = await relay.submit("anna@near.example", ["ben@far.example"])
        await relay.until(lambda: relay.told("defer", number), 10)
        monkeypatch.setattr(dispatch, "SWEEP_SECONDS", 0.1)
        store = open_for_command(relay.config.data_dir)
        done = perform(store, Filter(id=number), Order(Act.BOUNCE, "op", time.time(), lambda *_: b"{}"))
        assert done.touched == 1
        store.close()
        relay.parts.dispatcher.wake()
        await back.arrived(1, 40)
        assert b"Action: failed" in back.messages[0].content
        assert relay.told("bounce", number)
        ledger = await relay.spool.ledger()
        assert (ledger.accepted, ledger.bounced) == (2, 1)

    play(tmp_path, {**mx("10 127.0.0.11"), **mx("10 127.0.0.12", domain="near.example")}, scene)


def test_what_is_dropped_is_gone_and_what_is_held_waits(tmp_path: Path, mx: Any) -> None:
    async def scene(relay: Rehearsal) -> None:
        first, second = [await relay.submit("anna@near.example", ["ben@far.example"]) for _ in range(2)]
        await relay.until(lambda: relay.told("defer"), 10)
        await said(relay, "queue", "drop", f"id:{first}", "--yes")
        await said(relay, "queue", "hold", f"id:{second}", "--yes")
        sink = await relay.sink("127.0.0.11")
        (line,) = await said(relay, "queue", "list")
        assert (line["id"], line["state"]) == (second, "held")
        await said(relay, "queue", "release", f"id:{second}", "--yes")
        await said(relay, "queue", "retry", "--all", "--yes")
        await relay.settled(10)
        assert sink.count == 1
        assert (await relay.spool.ledger()).dropped == 1

    play(tmp_path, mx("10 127.0.0.11"), scene)


@pytest.mark.parametrize(
    ("domain", "end"),
    [
        ("far.example", "deliver 250"),
        ("truncate.far.example", "deliver 250"),
        ("noedns.far.example", "deliver 250"),
        ("forged-first.far.example", "deliver 250"),
        ("flaky.far.example", "deliver 250"),
        ("nowhere.example", "bounce 550 5.1.2"),
        ("null.example", "bounce 556 5.1.10"),
        ("servfail.far.example", "defer 451 4.4.3"),
        ("timeout.far.example", "defer 451 4.4.3"),
        ("refused.far.example", "defer 451 4.4.3"),
        ("junk.far.example", "defer 451 4.4.3"),
        ("loop.far.example", "defer 451 4.4.3"),
    ],
)
def test_real_dns_packets_and_their_troubles(tmp_path: Path, mx: Any, domain: str, end: str) -> None:
    zones = {**mx("10 127.0.0.11"), "null.example": {"MX": ["0 ."]}}

    async def main() -> None:
        async with ZoneServer(zones) as zone:
            settings = ResolverSettings(((zone.address, zone.port),), 0.5)
            resolver = LiveResolver(settings)
            async with Rehearsal(tmp_path, TOML, {}, spool=sqlite, resolver=resolver) as relay:
                await relay.sink("127.0.0.11")
                number = await relay.submit("", [f"ben@{domain}"])
                ends = ("deliver", "bounce", "defer")
                await relay.until(lambda: any(relay.told(name, number) for name in ends), 20)
                found = [f"{name} {event.reply}" for name in ends for event in relay.told(name, number)]
                assert found[0].startswith(end), found
            await resolver.close()

    asyncio.run(main())
