"""How much goes to whom and when, over the whole relay: limits, rates, dead and slow destinations, retries, the books.

Interface `[route.NAME]` and `[queue]`; RFC 5321 section 4.5.4; threats R7, R13.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from staffetta.config.schema import Config
from staffetta.mail.outcome import Result
from staffetta.spool.contract import SpoolUnavailable
from staffetta.spool.memory import MemorySpool
from staffetta.testing.rehearsal import Rehearsal
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Fault, Kind, Received, Script

TO_FAR = ["ben@far.example"]


class Watched(Sink):
    """Knows how many sessions were open at once."""

    open = 0
    most = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await super()._serve(reader, writer)
        finally:
            self.open -= 1


async def watched(relay: Rehearsal, address: str, script: Script | None = None) -> Watched:
    sink = relay.sinks[address] = Watched(script)
    await sink.start(host=address, port=relay.port)
    return sink


async def many(relay: Rehearsal, count: int, recipients: list[str] = TO_FAR) -> list[str]:
    return [await relay.submit("anna@near.example", recipients) for _ in range(count)]


def at(relay: Rehearsal, name: str) -> list[float]:
    """When the events of that name happened."""
    return [event.time.timestamp() for event in relay.told(name)]


def test_never_more_connections_than_the_route_allows(stage: Any, mx: Any) -> None:
    gate = asyncio.Event()

    async def play(relay: Rehearsal) -> None:
        sink = await watched(relay, "127.0.0.11", Script(faults=(Fault("dot", Kind.DELAY, until=gate),)))
        await many(relay, 1)
        await sink.heard("DATA")
        await many(relay, 60)
        await asyncio.sleep(1)
        assert sink.most <= 2, "a destination that never answered gets two connections"
        gate.set()
        await relay.settled()
        assert sink.count == 61
        assert 3 <= sink.most <= 7

    stage(play, mx("10 127.0.0.11"), '[route.default]\nvia = "mx"\nconnections = 7\n')


def test_sessions_that_say_good_bye_still_count(stage: Any, mx: Any) -> None:
    """The server takes its time to answer QUIT; the next connection waits for that."""
    gate = asyncio.Event()

    async def play(relay: Rehearsal) -> None:
        sink = await watched(relay, "127.0.0.11", Script(extensions=("PIPELINING", "LIMITS MAILMAX=1")))
        slow = Fault("quit", Kind.DELAY, until=gate)
        sink.script.faults = (slow,)
        await many(relay, 6)
        await sink.heard("QUIT")
        await asyncio.sleep(1)
        gate.set()
        await relay.settled(300)
        assert (sink.most, sink.sessions) == (1, 6)

    stage(play, mx("10 127.0.0.11"), '[route.default]\nvia = "mx"\nconnections = 1\n')


@pytest.mark.parametrize(("rate", "apart"), [("2/s", 0.5), ("600/h", 6.0)])
def test_the_rate_of_a_route_is_kept(stage: Any, mx: Any, rate: str, apart: float) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        begun = stage.clock.wall()
        await many(relay, 12)
        await relay.settled(600)
        assert sink.count == 12
        times = sorted(at(relay, "deliver"))
        assert 11 * apart <= times[-1] - begun <= 11 * apart + 5
        for window in range(len(times) - 3):
            assert times[window + 3] - times[window] >= 3 * apart - 0.3

    stage(play, mx("10 127.0.0.11"), f'[route.default]\nvia = "mx"\nrate = "{rate}"\n')


def test_a_clock_that_is_set_back_does_not_stop_a_rate(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        await many(relay, 1)
        await sink.arrived(1)
        stage.clock.set_wall(stage.clock.wall() - 7200)
        begun = stage.clock.monotonic()
        await many(relay, 3)
        await sink.arrived(4, 100)
        assert stage.clock.monotonic() - begun < 10

    stage(play, mx("10 127.0.0.11"), '[route.default]\nvia = "mx"\nrate = "1/s"\n')


def test_recipients_of_one_destination_share_a_transaction(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        far = await relay.sink("127.0.0.11")
        other = await relay.sink("127.0.0.12")
        await relay.submit("anna@near.example", [*(f"u{n}@far.example" for n in range(40)), "x@other.example"])
        await relay.settled()
        assert [len(received.rcpts) for received in far.messages] == [40]
        assert [len(received.rcpts) for received in other.messages] == [1]

    stage(play, {**mx("10 127.0.0.11"), **mx("10 127.0.0.12", domain="other.example")})


def test_each_recipient_has_its_own_end(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        answers = {b"bad@far.example": b"550 5.1.1 no such user\r\n", b"slow@far.example": b"450 4.2.1 greylisted\r\n"}
        sink = await relay.sink("127.0.0.11", Script(rcpt=answers))
        number = await relay.submit("", ["ok@far.example", "bad@far.example", "slow@far.example"])
        await relay.until(lambda: relay.told("defer", number))
        ends = {one.recipient: one.reply for name in ("deliver", "bounce", "defer") for one in relay.told(name, number)}
        assert ends == {
            "ok@far.example": "250 2.0.0 Ok: taken",
            "bad@far.example": "550 5.1.1 no such user",
            "slow@far.example": "450 4.2.1 greylisted",
        }
        sink.script.rcpt.clear()
        await relay.settled(200)
        assert [received.rcpts for received in sink.messages] == [
            [b"TO:<ok@far.example>"],
            [b"TO:<slow@far.example>"],
        ], "who has it gets it once"

    stage(play, mx("10 127.0.0.11"))


def test_a_dead_host_is_found_out_cheaply(stage: Any, mx: Any) -> None:
    """A thousand messages wait; each probe of the destination costs a few connects, and everybody waits as deferred."""

    async def play(relay: Rehearsal) -> None:
        await many(relay, 1000)
        await relay.until(lambda: relay.told("defer"))
        await asyncio.sleep(30)
        probes = [relay.connects["127.0.0.11"]]
        assert probes[0] <= 3
        for pause in (70, 330, 1000):
            await asyncio.sleep(pause)
            probes.append(relay.connects["127.0.0.11"] - sum(probes))
        assert max(probes) <= 3
        assert 4 <= sum(probes) <= 10
        ledger = await relay.spool.ledger()
        assert (ledger.queued, ledger.delivered) == (1000, 0)
        healthy = await relay.sink("127.0.0.12")
        begun = stage.clock.monotonic()
        await many(relay, 1, ["x@other.example"])
        await healthy.arrived(1)
        assert stage.clock.monotonic() - begun < 1
        sink = await relay.sink("127.0.0.11")
        await relay.settled(4000)
        assert sink.count == 1000
        assert sink.sessions <= 20

    stage(play, {**mx("10 127.0.0.11"), **mx("10 127.0.0.12", domain="other.example")})


def test_a_slow_destination_delays_nobody_else(stage: Any, mx: Any) -> None:
    """Two thousand messages for a server that says nothing after the dot, then some for others."""
    never = asyncio.Event()

    async def play(relay: Rehearsal) -> None:
        slow = await relay.sink("127.0.0.11", Script(faults=(Fault("dot", Kind.DELAY, until=never),)))
        await many(relay, 1500)
        await slow.heard("DATA")
        begun = stage.clock.monotonic()
        healthy = await relay.sink("127.0.0.12")
        for number in range(50):
            await relay.submit("anna@near.example", [f"u@h{number}.other.example"])
        await healthy.arrived(50)
        assert stage.clock.monotonic() - begun < 2
        never.set()
        slow.script.faults = ()
        await relay.settled(4000)

    names = mx("10 127.0.0.12", domain="other.example")
    stage(play, {**mx("10 127.0.0.11"), **names, "*.other.example": {"MX": names["other.example"]["MX"]}})


def test_waits_between_attempts_are_the_configured_ones(stage: Any, mx: Any) -> None:
    """1 m, 5 m, 15 m, and the last again; each with a tenth of luck either way."""
    waits = [60, 300, 900, 900, 900]

    async def play(relay: Rehearsal) -> None:
        await relay.sink("127.0.0.11", Script(faults=(Fault("rcpt", Kind.REPLY, b"450 4.2.0 later\r\n"),)))
        await many(relay, 20)
        await relay.until(lambda: len(relay.told("defer")) >= 120, 6000)
        shares = set()
        for number in {event.id for event in relay.told("defer")}:
            times = [event.time.timestamp() for event in relay.told("defer", number)]
            for wait, before, after in zip(waits, times, times[1:], strict=False):
                assert wait * 0.9 - 0.1 <= after - before <= wait * 1.1 + 2, (wait, after - before)
                shares.add(round((after - before) / wait, 2))
            planned = [event.next_attempt_at.timestamp() for event in relay.told("defer", number)]
            assert all(plan <= after + 0.001 for plan, after in zip(planned, times[1:], strict=False))
        assert max(shares) - min(shares) > 0.1, "no jitter"

    stage(play, mx("10 127.0.0.11"), '[queue]\nretry = ["1m", "5m", "15m"]\n')


def test_mail_gives_up_when_its_time_is_over(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sender = await relay.sink("127.0.0.12")
        number = await relay.submit("anna@near.example", TO_FAR)
        await relay.until(lambda: relay.told("expire", number), 20000)
        waited = relay.told("expire")[0].time.timestamp() - relay.told("accept")[0].time.timestamp()
        assert 3 * 3600 <= waited <= 4 * 3600 + 600
        await sender.arrived(2, 100)
        notices = [(event.kind, event.recipient) for event in relay.told("notice")]
        assert notices == [("delayed", "anna@near.example"), ("failed", "anna@near.example")]
        assert b"Status: 4.4.7" in sender.messages[-1].content
        assert all(received.mail.startswith(b"FROM:<>") for received in sender.messages)

    names = {**mx("10 127.0.0.11"), **mx("10 127.0.0.12", domain="near.example")}
    stage(play, names, '[queue]\nretry = ["5m", "1h"]\nlifetime = "3h"\ndelay_notice = "30m"\n')


def test_all_who_wait_for_a_dead_host_give_up_in_time(stage: Any, mx: Any) -> None:
    """Most of them were never tried themselves: the bad times of their destination stand for attempts."""

    async def play(relay: Rehearsal) -> None:
        back = await relay.sink("127.0.0.12")
        await many(relay, 150)
        await relay.settled(20000)
        begun = relay.told("accept")[0].time.timestamp()
        assert len(at(relay, "expire")) == 150
        assert all(2 * 3600 <= moment - begun <= 3 * 3600 + 700 for moment in at(relay, "expire"))
        assert back.count == 300, "one notice of delay and one of failure for each"
        assert relay.connects["127.0.0.11"] <= 3 * 8

    names = {**mx("10 127.0.0.11"), **mx("10 127.0.0.12", domain="near.example")}
    stage(play, names, '[queue]\nretry = ["5m", "30m"]\nlifetime = "2h"\ndelay_notice = "30m"\n')


def test_mail_from_nobody_gives_up_sooner_and_in_silence(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        number = await relay.submit("", TO_FAR)
        await relay.until(lambda: relay.told("expire", number), 20000)
        waited = relay.told("expire")[0].time.timestamp() - relay.told("accept")[0].time.timestamp()
        assert 3600 <= waited <= 2 * 3600 + 600
        assert not relay.told("notice")

    stage(play, mx("10 127.0.0.11"), '[queue]\nretry = ["5m", "1h"]\nlifetime = "2d"\nbounce_lifetime = "1h"\n')


class Moody(MemorySpool):
    """A store that is full now and then: every operation named in `sick` fails so often."""

    def __init__(self, config: Config) -> None:
        super().__init__(lambda: 0.0)
        self.sick: dict[str, int] = {}
        self.failed = 0

    def _mood(self, what: str) -> None:
        if self.sick.get(what, 0) > 0:
            self.sick[what] -= 1
            self.failed += 1
            raise SpoolUnavailable(f"{what}: no space left on device", full=True)

    async def record(self, *arguments: Any, **more: Any) -> None:
        self._mood("record")
        await super().record(*arguments, **more)

    async def due(self, *arguments: Any) -> Any:
        self._mood("due")
        return await super().due(*arguments)

    async def next_due(self, *arguments: Any) -> Any:
        self._mood("next_due")
        return await super().next_due(*arguments)

    async def overdue(self, *arguments: Any) -> Any:
        self._mood("overdue")
        return await super().overdue(*arguments)

    async def undelayed(self, *arguments: Any) -> Any:
        self._mood("undelayed")
        return await super().undelayed(*arguments)

    async def destination_up(self, destination: str) -> None:
        self._mood("destination_up")
        await super().destination_up(destination)

    async def content(self, message_id: str) -> Any:
        self._mood("content")
        async for chunk in super().content(message_id):
            yield chunk


async def moody(config: Config) -> Moody:
    return Moody(config)


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("what", ["record", "due", "next_due", "overdue", "undelayed", "destination_up", "content"])
@pytest.mark.parametrize("size", [100, 300_000])
def test_a_store_that_fails_for_a_while_loses_and_repeats_nothing(
    stage: Any, mx: Any, what: str, times: int, size: int
) -> None:
    """Delivered, refused, deferred and dead destinations, while one kind of operation fails."""
    body = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n"
    body += (b"y" * 70 + b"\r\n") * (size // 72)

    async def play(relay: Rehearsal) -> None:
        spool = relay.spool
        assert isinstance(spool, Moody)
        answers = {b"bad@far.example": b"550 5.1.1 no such user\r\n"}
        faults = (Fault("rcpt", Kind.REPLY, b"450 4.2.0 later\r\n", times=1),)
        sink = await relay.sink("127.0.0.11", Script(rcpt=answers, faults=faults))
        back = await relay.sink("127.0.0.13")
        spool.sick = {what: times}
        for recipients in (["a@far.example"], ["bad@far.example", "b@far.example"], ["c@far.example"]):
            await relay.submit("anna@near.example", recipients, body)
        for _ in range(3):
            await relay.submit("anna@near.example", ["d@dead.example"], body)
        await asyncio.sleep(100)
        spool.sick = {what: times}
        dead = await relay.sink("127.0.0.12")
        await relay.settled(3000)
        assert spool.failed or what == "content"
        assert sorted(one for received in sink.messages for one in received.rcpts) == [
            b"TO:<a@far.example>",
            b"TO:<b@far.example>",
            b"TO:<c@far.example>",
        ]
        assert dead.count == 3
        failed = [received for received in back.messages if b"no such user" in received.content]
        assert len(failed) == 1

    names = {
        **mx("10 127.0.0.11"),
        **mx("10 127.0.0.12", domain="dead.example"),
        **mx("10 127.0.0.13", domain="near.example"),
    }
    stage(play, names, '[queue]\nretry = ["1m"]\ndelay_notice = "1m"\n', spool=moody)


def test_what_breaks_in_us_ends_one_attempt_and_not_the_relay(stage: Any, mx: Any) -> None:
    """A bug while one message is delivered: it waits and is tried again, and others do not notice."""

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        spool = relay.spool
        assert isinstance(spool, Moody)
        broken = True
        whole = relay.parts.dispatcher._couriers

        def couriers(destination: str) -> Any:
            if broken and "bad" in destination:
                raise RuntimeError("a bug")
            return whole(destination)

        relay.parts.dispatcher._couriers = couriers
        bad = await relay.submit("anna@near.example", ["ben@bad.example"])
        await relay.submit("anna@near.example", TO_FAR)
        await sink.arrived(1)
        await relay.until(lambda: relay.told("defer", bad))
        broken = False
        await relay.settled(600)
        assert sink.count == 2
        relay.forgive("a bug")

    stage(play, {**mx("10 127.0.0.11"), "bad.example": {"A": ["127.0.0.11"]}}, spool=moody)


def test_mail_in_flight_is_finished_when_the_relay_stops(stage: Any, mx: Any) -> None:
    gate = asyncio.Event()

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(faults=(Fault("dot", Kind.DELAY, until=gate),)))
        await many(relay, 5)
        await sink.heard("DATA")
        stopping = asyncio.create_task(relay.parts.dispatcher.stop())
        await asyncio.sleep(3)
        assert not stopping.done()
        gate.set()
        await stopping
        ledger = await relay.spool.ledger()
        assert ledger.delivered == sink.count >= 1
        assert ledger.queued == 5 - sink.count

    stage(play, mx("10 127.0.0.11"))


def counted(messages: list[Received]) -> int:
    return len({received.content for received in messages})


def test_silence_after_the_dot_is_a_doubt_and_tried_again(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(faults=(Fault("dot", Kind.SILENCE, times=1),)))
        number = await relay.submit("anna@near.example", TO_FAR)
        await relay.until(lambda: relay.told("defer", number), 1300)
        doubt = relay.told("defer", number)[0]
        assert doubt.in_doubt
        assert relay.told("attempt", number)[0].outcome == Result.DEFERRED.value
        await relay.until(lambda: relay.told("deliver", number), 100)
        assert counted(sink.messages) == 1

    stage(play, mx("10 127.0.0.11"))
