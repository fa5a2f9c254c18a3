"""The live resolver against the zone server: every fault has its right end, and nothing is asked twice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from staffetta.dns.cache import CacheSettings
from staffetta.dns.live import QUESTIONS_AT_ONCE, LiveResolver, ResolverSettings
from staffetta.dns.resolver import Answer, Lookup, MailExchanger, NoSuchName, RecordKind, Unavailable
from staffetta.dns.server import CASE_MISSES, QUESTIONS_PER_SOCKET
from staffetta.testing.zone import ZoneServer

ZONES = {
    "example.com": {"MX": ["10 mx.example.com"], "TXT": ["v=spf1 mx -all", "x" * 300]},
    "mx.example.com": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "alias.example.com": {"CNAME": ["example.com"]},
    "dangling.example.com": {"CNAME": ["nothing.example.org"]},
    "empty.example.com": {},
    "*.wild.example.com": {"A": ["192.0.2.7"]},
    "7.2.0.192.in-addr.arpa": {"PTR": ["mx.example.com"]},
    "_25._tcp.mx.example.com": {"TLSA": ["3 1 1 " + "ab" * 32]},
    "_imap._tcp.example.com": {"SRV": ["0 1 143 mx.example.com"]},
}
GOOD = (MailExchanger(10, "mx.example.com"),)
QUICK = 0.3
"""Patience in tests of silence, in seconds."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def resolving(
    timeout_seconds: float = 5.0,
    clock: Clock | None = None,
    mixed_case: bool = True,
    others: tuple[tuple[str, int], ...] = (),
    cache: CacheSettings | None = None,
) -> AsyncIterator[tuple[ZoneServer, LiveResolver]]:
    async with ZoneServer(ZONES) as zone:
        settings = ResolverSettings(
            servers=(*others, (zone.address, zone.port)),
            timeout_seconds=timeout_seconds,
            mixed_case=mixed_case,
            cache=cache or CacheSettings(),
        )
        resolver = LiveResolver(settings, clock or Clock())
        try:
            yield zone, resolver
        finally:
            await resolver.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def ask(name: str, kind: RecordKind = RecordKind.MX, timeout_seconds: float = 5.0) -> tuple[Lookup, ZoneServer]:
    async def main() -> tuple[Lookup, ZoneServer]:
        async with asyncio.timeout(20), resolving(timeout_seconds) as (zone, resolver):
            return await resolver.query(name, kind), zone

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "kind", "records"),
    [
        ("example.com", RecordKind.MX, GOOD),
        ("Example.COM.", RecordKind.MX, GOOD),
        ("alias.example.com", RecordKind.MX, GOOD),
        ("alias.example.com", RecordKind.CNAME, ("example.com",)),
        ("mx.example.com", RecordKind.A, ("192.0.2.1",)),
        ("mx.example.com", RecordKind.AAAA, ("2001:db8::1",)),
        ("a.wild.example.com", RecordKind.A, ("192.0.2.7",)),
        ("7.2.0.192.in-addr.arpa", RecordKind.PTR, ("mx.example.com",)),
        ("empty.example.com", RecordKind.MX, ()),
        ("mx.example.com", RecordKind.MX, ()),
        ("0.192.in-addr.arpa", RecordKind.PTR, ()),
        ("chain-8.example.com", RecordKind.MX, GOOD),
        ("partial-8.example.com", RecordKind.MX, GOOD),
        ("slow.example.com", RecordKind.MX, GOOD),
        ("truncate.example.com", RecordKind.MX, GOOD),
        ("noedns.example.com", RecordKind.MX, GOOD),
        ("lowercase.example.com", RecordKind.MX, GOOD),
        ("forged-first.example.com", RecordKind.MX, GOOD),
    ],
)
def test_answers(name: str, kind: RecordKind, records: tuple[object, ...]) -> None:
    lookup, _ = ask(name, kind)
    assert isinstance(lookup, Answer)
    assert lookup.records == records
    assert lookup.unusable == 0


@pytest.mark.parametrize("name", ["nothing.example.org", "dangling.example.com", "nothing.wild2.example.com"])
def test_names_that_do_not_exist(name: str) -> None:
    assert ask(name)[0] == NoSuchName(30)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("servfail.example.com", "SERVFAIL"),
        ("refused.example.com", "REFUSED"),
        ("notimp.example.com", "NOTIMP"),
        ("formerr.example.com", "FORMERR"),
        ("truncate-always.example.com", "TCP"),
        ("truncate-forever.example.com", "truncated over TCP"),
        ("junk.example.com", "malformed"),
        ("cut.example.com", "malformed"),
        ("compression.example.com", "malformed"),
        ("lame.example.com", "lame"),
        ("loop.example.com", "CNAME"),
        ("chain-9.example.com", "CNAME"),
        ("partial-9.example.com", "CNAME"),
    ],
)
def test_failures_are_known_without_waiting(name: str, word: str) -> None:
    lookup, _ = ask(name)
    assert isinstance(lookup, Unavailable)
    assert word in lookup.reason


@pytest.mark.parametrize("name", ["timeout.example.com", "badid.example.com", "wrongquestion.example.com"])
def test_silence_and_what_answers_something_else_is_unavailable(name: str) -> None:
    lookup, zone = ask(name, timeout_seconds=QUICK)
    assert lookup == Unavailable(f"no answer within {QUICK} s")
    assert zone.asked[name, "MX"] == 3


def test_a_lost_datagram_is_sent_again() -> None:
    lookup, zone = ask("flaky.example.com", timeout_seconds=1.0)
    assert isinstance(lookup, Answer)
    assert lookup.records == GOOD
    assert zone.asked["flaky.example.com", "MX"] == 2


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64 + ".example", "nul\0.example", "a b.example", "é.example"])
def test_names_that_cannot_exist_are_not_asked(name: str) -> None:
    lookup, zone = ask(name)
    assert isinstance(lookup, NoSuchName)
    assert not zone.asked


def test_names_that_are_no_hosts_are_left_out() -> None:
    lookup, _ = ask("badnames.example.com")
    assert isinstance(lookup, Answer)
    assert lookup.records == (MailExchanger(10, "good.badnames.example.com"),)
    assert lookup.unusable == 8


def test_short_records_do_no_harm() -> None:
    for kind in RecordKind:
        lookup, _ = ask("shortrecords.example.com", kind)
        assert isinstance(lookup, Answer)
        assert (lookup.records, lookup.unusable) == ((), 1), kind


def test_big_answers_come_over_tcp() -> None:
    lookup, zone = ask("biganswer.example.com", RecordKind.A)
    assert isinstance(lookup, Answer)
    assert len(lookup.records) == 400
    assert zone.asked_over_tcp == 1
    lookup, _ = ask("biganswer.example.com", RecordKind.TXT)
    assert isinstance(lookup, Answer)
    assert lookup.texts == (b"x" * 40_000,)
    lookup, _ = ask("biganswer-2048.example.com", RecordKind.A)
    assert isinstance(lookup, Answer)
    assert len(lookup.records) == 512


def test_callers_share_a_question_and_one_who_leaves_takes_nothing_along() -> None:
    async def main() -> None:
        async with resolving() as (zone, resolver):
            callers = [asyncio.create_task(resolver.query("slow.example.com", RecordKind.MX)) for _ in range(20)]
            await asyncio.sleep(0)
            callers[0].cancel()
            answers = await asyncio.gather(*callers[1:])
            assert {answer.records == GOOD for answer in answers if isinstance(answer, Answer)} == {True}
            assert callers[0].cancelled()
            assert zone.asked["slow.example.com", "MX"] == 1

    run(main)


def test_what_is_known_is_not_asked_and_does_not_suspend() -> None:
    async def main() -> None:
        clock = Clock()
        async with resolving(clock=clock) as (zone, resolver):
            assert resolver.cached("example.com", RecordKind.MX) is None
            first = await resolver.query("example.com", RecordKind.MX)
            assert resolver.cached("EXAMPLE.com", RecordKind.MX) is first
            coroutine = resolver.query("Example.com", RecordKind.MX)
            with pytest.raises(StopIteration) as done:
                coroutine.send(None)
            assert done.value.value is first
            clock.now += 59
            assert await resolver.query("example.com", RecordKind.MX) is first
            clock.now += 1
            assert resolver.cached("example.com", RecordKind.MX) is None
            await resolver.query("example.com", RecordKind.MX)
            assert zone.asked["example.com", "MX"] == 2
            resolver.forget()
            assert resolver.cached("example.com", RecordKind.MX) is None

    run(main)


@pytest.mark.parametrize(
    ("name", "seconds"), [("nothing.example.org", 30), ("empty.example.com", 30), ("servfail.example.com", 5)]
)
def test_absences_and_failures_are_remembered_for_a_while(name: str, seconds: int) -> None:
    async def main() -> None:
        clock = Clock()
        async with resolving(clock=clock) as (zone, resolver):
            await resolver.query(name, RecordKind.MX)
            clock.now += seconds - 0.5
            await resolver.query(name, RecordKind.MX)
            assert zone.asked[name, "MX"] == 1
            clock.now += 1
            await resolver.query(name, RecordKind.MX)
            assert zone.asked[name, "MX"] == 2

    run(main)


def test_a_dead_server_is_passed_over_at_once_and_a_silent_one_is_shunned() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.bind(("127.0.0.1", 0))
                dead = gone.getsockname()
            loop = asyncio.get_running_loop()
            async with resolving(others=(dead,)) as (_, resolver):
                began = loop.time()
                assert isinstance(await resolver.query("example.com", RecordKind.MX), Answer)
                assert loop.time() - began < 0.9  # a repetition would come after 1.05 seconds
            async with resolving(1.0, others=(silent.getsockname(),)) as (_, resolver):
                assert isinstance(await resolver.query("example.com", RecordKind.MX), Answer)
                silent.settimeout(1)
                silent.recv(2000)
                assert isinstance(await resolver.query("example.com", RecordKind.TXT), Answer)
                silent.setblocking(False)
                with pytest.raises(BlockingIOError):
                    silent.recv(2000)

    run(main)


def test_a_refusing_server_hands_over_to_the_next() -> None:
    async def main() -> None:
        async with ZoneServer({}) as other:
            other.faults["example.com"] = "refused"
            async with resolving(others=((other.address, other.port),)) as (zone, resolver):
                lookup = await resolver.query("example.com", RecordKind.MX)
                assert isinstance(lookup, Answer)
                zone.faults["example.com"] = "servfail"
                resolver.forget()
                lookup = await resolver.query("example.com", RecordKind.MX)
                assert isinstance(lookup, Unavailable)
                assert "REFUSED" in lookup.reason
                assert "SERVFAIL" in lookup.reason

    run(main)


def test_a_server_that_was_late_is_asked_again_when_the_other_fails() -> None:
    async def main() -> None:
        async with ZoneServer(ZONES) as late:
            late.faults["example.com"] = "flaky"
            async with resolving(1.0, others=((late.address, late.port),)) as (zone, resolver):
                zone.faults["example.com"] = "truncate-always"
                lookup = await resolver.query("example.com", RecordKind.MX)
                assert isinstance(lookup, Answer)
                assert lookup.records == GOOD
                assert late.asked["example.com", "MX"] == 2

    run(main)


def test_a_chain_lives_as_long_as_its_shortest_link() -> None:
    lookup, _ = ask("partial-2.example.com")
    assert isinstance(lookup, Answer)
    assert lookup.ttl_seconds == 20
    assert ask("partial-2.nothing.example.org")[0] == NoSuchName(20)


def test_an_address_that_cannot_be_sent_to_is_no_wait() -> None:
    async def main() -> None:
        resolver = LiveResolver(ResolverSettings(servers=(("255.255.255.255", 53),)), Clock())
        lookup = await resolver.query("example.com", RecordKind.MX)
        assert isinstance(lookup, Unavailable)
        assert "from 255.255.255.255" in lookup.reason
        assert not resolver._asking
        await resolver.close()

    run(main)


def test_nobody_to_ask() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            dead = gone.getsockname()
        resolver = LiveResolver(ResolverSettings(servers=(dead,)), Clock())
        assert isinstance(await resolver.query("example.com", RecordKind.MX), Unavailable)
        await resolver.close()
        assert isinstance(await resolver.query("example.org", RecordKind.MX), Unavailable)

    run(main)


def test_closing_ends_what_is_under_way() -> None:
    async def main() -> None:
        async with resolving() as (zone, resolver):
            waiting = asyncio.create_task(resolver.query("timeout.example.com", RecordKind.MX))
            also = asyncio.create_task(resolver.query("truncate.example.com", RecordKind.MX))
            await zone.until_asked("timeout.example.com", "MX")
            await resolver.close()
            assert await waiting == Unavailable("the resolver is closed")
            assert isinstance(await also, Unavailable | Answer)

    run(main)


def test_a_server_that_does_not_keep_case_is_asked_without() -> None:
    async def main() -> None:
        async with resolving() as (zone, resolver):
            for number in range(CASE_MISSES + 3):
                zone.faults[f"a-name-with-letters-{number}.example.com"] = "lowercase"
                lookup = await resolver.query(f"a-name-with-letters-{number}.example.com", RecordKind.MX)
                assert isinstance(lookup, NoSuchName)
            assert zone.asked_over_tcp == CASE_MISSES
        async with resolving(mixed_case=False) as (zone, resolver):
            await resolver.query("lowercase.example.com", RecordKind.MX)
            assert zone.asked_over_tcp == 0

    run(main)


def test_only_a_server_on_this_machine_is_believed_to_have_validated() -> None:
    async def main() -> None:
        async with resolving() as (zone, resolver):
            lookup = await resolver.query("example.com", RecordKind.MX)
            assert isinstance(lookup, Answer)
            assert not lookup.authenticated
            zone.authenticated = True
            for name in ("mx.example.com", "partial-2.mx.example.com"):
                lookup = await resolver.query(name, RecordKind.A)
                assert isinstance(lookup, Answer)
                assert lookup.authenticated
            assert resolver._ground is not None
            resolver._ground.servers[0].is_local = False
            lookup = await resolver.query("mx.example.com", RecordKind.AAAA)
            assert isinstance(lookup, Answer)
            assert lookup.records
            assert not lookup.authenticated

    run(main)


def test_a_flood_of_wrong_datagrams_sends_us_to_tcp() -> None:
    async def main() -> None:
        async with resolving() as (zone, resolver):
            waiting = asyncio.create_task(resolver.query("timeout.example.com", RecordKind.MX))
            await asyncio.sleep(0)
            assert resolver._ground is not None
            port = next(port for port in resolver._ground.servers[0]._ports if port is not None)
            target = port._socket.getsockname()
            await zone.until_asked("timeout.example.com", "MX")
            zone.faults["timeout.example.com"] = "none"
            zone.put("timeout.example.com", {"MX": ["10 mx.example.com"]})
            assert zone._udp is not None
            for number in range(70):
                zone._udp.sendto(bytes((number,)) * 40, target)
            lookup = await waiting
            assert isinstance(lookup, Unavailable | Answer)
            assert zone.asked_over_tcp == 1

    run(main)


def test_ports_change_and_close() -> None:
    async def main() -> None:
        async with resolving(cache=CacheSettings(octets=0)) as (_, resolver):
            seen = set()
            for _ in range(QUESTIONS_PER_SOCKET * 4 // 50 + 10):
                await asyncio.gather(*[resolver.query(f"a{n}.wild.example.com", RecordKind.A) for n in range(50)])
                assert resolver._ground is not None
                ports = [port for port in resolver._ground.servers[0]._ports if port is not None]
                assert len(ports) <= 4
                assert all(not port.pending for port in ports)
                seen |= {port._socket.getsockname() for port in ports}
            assert len(seen) > 4

    run(main)


def test_questions_at_once_are_bounded() -> None:
    async def main() -> None:
        async with resolving(QUICK) as (_, resolver):
            names = [f"timeout.{number}.example.com" for number in range(QUESTIONS_AT_ONCE + 50)]
            lookups = await asyncio.gather(*[resolver.query(name, RecordKind.A) for name in names])
            assert lookups.count(Unavailable("too many questions at once")) == 50

    run(main)


def test_the_cache_is_bounded() -> None:
    async def main() -> None:
        async with resolving(cache=CacheSettings(octets=20_000)) as (_, resolver):
            for number in range(60):
                await resolver.query(f"a{number}.wild.example.com", RecordKind.A)
                assert resolver._cache.octets <= 20_000
            assert 5 < len(resolver._cache) < 40
            assert resolver.cached("a59.wild.example.com", RecordKind.A) is not None
            assert resolver.cached("a0.wild.example.com", RecordKind.A) is None

    run(main)


def test_it_runs_on_uvloop_too() -> None:
    async def main() -> None:
        async with asyncio.timeout(20), resolving(QUICK) as (_, resolver):
            for name in ("example.com", "truncate.example.com", "forged-first.example.com", "flaky.example.com"):
                lookup = await resolver.query(name, RecordKind.MX)
                assert isinstance(lookup, Answer)
                assert lookup.records == GOOD
            assert isinstance(await resolver.query("timeout.example.com", RecordKind.MX), Unavailable)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
