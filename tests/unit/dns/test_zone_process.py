"""The zone server in a process of its own, and what it promises to tests."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable

import dns.message
import dns.query
import dns.rcode

from staffetta.dns.live import LiveResolver, ResolverSettings
from staffetta.dns.resolver import Answer, NoSuchName, RecordKind, Unavailable
from staffetta.testing.zone import ZoneServer


def test_it_serves_a_table_from_standard_input_until_that_ends() -> None:
    table = {"example.com": {"TXT": ["hello"]}}
    with subprocess.Popen(
        [sys.executable, "-m", "staffetta.testing.zone"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(table) + "\n")
        process.stdin.flush()
        address, _, port = process.stdout.readline().strip().rpartition(":")
        question = dns.message.make_query("example.com", "TXT")
        for ask in (dns.query.udp, dns.query.tcp):
            response = ask(question, address, port=int(port), timeout=5)
            assert response.answer[0].to_text() == 'example.com. 60 IN TXT "hello"'
        question = dns.message.make_query("example.org", "TXT")
        assert dns.query.udp(question, address, port=int(port), timeout=5).rcode() == dns.rcode.NXDOMAIN
        process.stdin.close()
        assert process.wait(10) == 0


def test_tables_and_faults_change_while_it_runs() -> None:
    async def main() -> None:
        async with ZoneServer({"a.example": {"A": ["192.0.2.1"]}}) as zone:
            resolver = LiveResolver(ResolverSettings(servers=((zone.address, zone.port),)))
            expected: list[type] = [Answer, Unavailable, Answer, NoSuchName]
            changes: list[Callable[[], object]] = [
                lambda: zone.faults.update({"a.example": "servfail"}),
                zone.faults.clear,
                lambda: zone.remove("A.example"),
                lambda: None,
            ]
            for outcome, change in zip(expected, changes, strict=True):
                assert isinstance(await resolver.query("a.example", RecordKind.A), outcome)
                resolver.forget()
                change()
            assert zone.asked["a.example", "A"] == len(expected)
            await resolver.close()

    asyncio.run(main())


def test_manymx_has_hosts_with_addresses() -> None:
    async def main() -> None:
        async with ZoneServer({}) as zone:
            resolver = LiveResolver(ResolverSettings(servers=((zone.address, zone.port),)))
            lookup = await resolver.query("manymx-40.example", RecordKind.MX)
            assert isinstance(lookup, Answer)
            assert len(lookup.exchangers) == 40
            host = await resolver.query(lookup.exchangers[7].host, RecordKind.A)
            assert isinstance(host, Answer)
            assert len(host.names) == 1
            await resolver.close()

    asyncio.run(main())
