"""Which host gets a message for a domain, over the whole relay: MX records, addresses, loops, and what is never tried.

RFC 5321 section 5.1, RFC 7505; threats S9.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

from staffetta.dns.resolver import Unavailable
from staffetta.testing.rehearsal import Rehearsal
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Fault, Kind, Script

TO_FAR = ["ben@far.example"]


async def delivered(relay: Rehearsal, recipients: list[str] = TO_FAR) -> str:
    number = await relay.submit("anna@near.example", recipients)
    await relay.until(lambda: relay.told("deliver", number))
    return number


async def bounced(relay: Rehearsal, recipients: list[str] = TO_FAR) -> str:
    """The reply of a message that fails at once."""
    number = await relay.submit("", recipients)
    await relay.until(lambda: relay.told("bounce", number) or relay.told("defer", number))
    assert not relay.told("defer"), relay.told("defer")
    return str(relay.told("bounce", number)[0].reply)


async def deferred(relay: Rehearsal, recipients: list[str] = TO_FAR) -> str:
    number = await relay.submit("", recipients)
    await relay.until(lambda: relay.told("bounce", number) or relay.told("defer", number))
    assert not relay.told("bounce"), relay.told("bounce")
    return str(relay.told("defer", number)[0].reply)


def test_the_preferred_host_gets_it(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        second = await relay.sink("127.0.0.12")
        first = await relay.sink("127.0.0.11")
        await delivered(relay)
        assert [received.rcpts for received in first.messages] == [[b"TO:<ben@far.example>"]]
        assert second.sessions == 0
        assert b"Hello.\r\n" in first.messages[0].content
        assert first.messages[0].content.startswith(b"Received: ")

    stage(play, mx("20 127.0.0.12", "10 127.0.0.11"))


def refuses(stage_name: str, octets: bytes) -> Script:
    return Script(faults=(Fault(stage_name, Kind.REPLY, octets),))


@pytest.mark.parametrize(
    "script",
    [
        None,
        Script(faults=(Fault("connect", Kind.RESET),)),
        refuses("greeting", b"554 5.3.2 not today\r\n"),
        refuses("greeting", b"421 4.3.2 later\r\n"),
        refuses("greeting", b"SSH-2.0-OpenSSH_9.2\r\n"),
        Script(faults=(Fault("ehlo", Kind.REPLY, b"451 4.3.0 broken\r\n"),)),
        Script(faults=(Fault("greeting", Kind.SILENCE),)),
    ],
    ids=["refused", "reset", "554", "421", "garbage", "ehlo 451", "silence"],
)
def test_a_host_that_is_of_no_use_hands_over_to_the_next(stage: Any, mx: Any, script: Script | None) -> None:
    async def play(relay: Rehearsal) -> None:
        if script is not None:
            await relay.sink("127.0.0.11", script)
        second = await relay.sink("127.0.0.12")
        number = await relay.submit("anna@near.example", TO_FAR)
        await relay.until(lambda: relay.told("deliver", number), 400)
        assert second.count == 1
        assert [event.outcome for event in relay.told("attempt")] == ["deferred", "delivered"] or (
            [event.outcome for event in relay.told("attempt")] == ["failed", "delivered"]
        )

    stage(play, mx("10 127.0.0.11", "20 127.0.0.12"))


def test_equals_share_the_mail(stage: Any, mx: Any) -> None:
    """Each message opens its own connection here, so the first host of a shuffled pair should get about half."""

    async def play(relay: Rehearsal) -> None:
        script = Script(faults=(Fault("dot", Kind.LAST_WORDS, b"250 2.0.0 taken, and goodbye\r\n"),))
        counts: Counter[str] = Counter()
        for address in ("127.0.0.11", "127.0.0.12"):
            await relay.sink(address, script)
        for _ in range(40):
            await delivered(relay)
        counts.update({address: relay.connects[address] for address in ("127.0.0.11", "127.0.0.12")})
        assert min(counts.values()) >= 10, counts
        assert sum(counts.values()) == 40

    stage(play, mx("10 127.0.0.11", "10 127.0.0.12"))


def test_a_domain_without_mx_stands_for_itself(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        await delivered(relay)
        assert sink.count == 1

    stage(play, {"far.example": {"A": ["127.0.0.11"]}})


def test_mx_hosts_with_an_alias_are_found(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        await delivered(relay)
        assert sink.count == 1

    names = {"far.example": {"CNAME": ["real.example"]}, "real.example": {"MX": ["10 alias.example"]}}
    stage(play, {**names, "alias.example": {"CNAME": ["host.example"]}, "host.example": {"A": ["127.0.0.11"]}})


def test_an_address_literal_is_gone_to(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        await delivered(relay, ["ben@[127.0.0.11]"])
        assert sink.messages[0].rcpts == [b"TO:<ben@[127.0.0.11]>"]

    stage(play)


@pytest.mark.parametrize(
    ("names", "reply"),
    [
        ({"far.example": {"MX": ["0 ."]}}, "556 5.1.10"),
        ({}, "550 5.1.2"),
        ({"far.example": {"TXT": ["nothing else"]}}, "550 5.4.4"),
        ({"far.example": {"MX": ["10 relay.example"]}, "relay.example": {"A": ["127.0.0.11"]}}, "554 5.4.6"),
        ({"far.example": {"MX": ["10 RELAY.example"]}, "relay.example": {"A": ["127.0.0.11"]}}, "554 5.4.6"),
    ],
    ids=["null MX", "NXDOMAIN", "no host", "our own name", "our own name in capitals"],
)
def test_mail_that_has_nowhere_to_go_fails_at_once(stage: Any, names: Any, reply: str) -> None:
    async def play(relay: Rehearsal) -> None:
        await relay.sink("127.0.0.11")
        assert (await bounced(relay)).startswith(reply)
        assert not relay.connects

    stage(play, names)


@pytest.mark.parametrize("reason", ["SERVFAIL", "timeout"])
def test_mail_waits_for_a_name_service_that_does_not_answer(stage: Any, mx: Any, reason: str) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        good = mx("10 127.0.0.11")
        relay.resolver.put("far.example", Unavailable(reason))
        number = await relay.submit("anna@near.example", TO_FAR)
        await relay.until(lambda: relay.told("defer", number))
        assert relay.told("defer")[0].reply.startswith("451 4.4.3")
        assert not relay.connects
        for name, entry in good.items():
            relay.resolver.put(name, entry)
        await relay.until(lambda: relay.told("deliver", number), 600)
        assert sink.count == 1

    stage(play)


def test_addresses_that_cannot_be_asked_for_wait(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        relay.resolver.put("far.example", {"MX": ["10 mx.far.example"]})
        relay.resolver.put("mx.far.example", Unavailable("SERVFAIL"))
        assert (await deferred(relay)).startswith("451 4.4.3")

    stage(play)


def test_hosts_less_preferred_than_ourselves_are_left_alone(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        backup = await relay.sink("127.0.0.13")
        primary = await relay.sink("127.0.0.11")
        await delivered(relay)
        assert (primary.count, backup.sessions) == (1, 0)
        await primary.stop()
        assert "4.4.1" in await deferred(relay)
        assert backup.sessions == 0

    names = mx("10 127.0.0.11", "30 127.0.0.13")
    names["far.example"]["MX"].append("20 relay.example")
    stage(play, {**names, "relay.example": {"A": ["127.0.0.9"]}})


def test_our_own_door_under_another_name_is_a_loop(stage: Any, mx: Any) -> None:
    """The MX leads to an address and port where a door of ours listens."""

    async def play(relay: Rehearsal) -> None:
        door = await relay.sink("127.0.0.9")
        assert (await bounced(relay)).startswith("554 5.4.6")
        assert door.commands == []

    stage(play, mx("10 127.0.0.9"))


def test_a_server_that_greets_with_our_name_is_a_loop(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        await relay.sink("127.0.0.11", Script(name="relay.example"))
        assert (await bounced(relay)).startswith("554 5.4.6")

    stage(play, mx("10 127.0.0.11"))


def test_a_dead_host_and_one_that_may_not_be_reached_wait_together(stage: Any, mx: Any) -> None:
    """What the last host of several says must not end mail that the first may take tomorrow."""

    async def play(relay: Rehearsal) -> None:
        assert "4.4.1" in await deferred(relay)
        assert relay.connects["10.1.2.3"] == 0

    stage(play, mx("10 127.0.0.11", "20 10.1.2.3"))


DENIED = ("127.0.0.11", "10.1.2.3", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1")
DENIED_IPV6 = ("::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1", "fc00::1", "::")


@pytest.mark.parametrize("address", [*DENIED, *DENIED_IPV6])
def test_what_is_not_allowed_is_never_connected_to(stage: Any, mx: Any, address: str) -> None:
    toml = """\
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
"""

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        assert (await bounced(relay)).startswith("550 5.4.4")
        literal = f"IPv6:{address}" if ":" in address else address
        assert (await bounced(relay, [f"ben@[{literal}]"])).startswith("550 5.4.4")
        assert not relay.connects
        assert sink.sessions == 0

    stage(play, mx(f"10 {address}"), whole=toml)


def test_of_two_addresses_the_allowed_one_is_used(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        await delivered(relay)
        assert sink.count == 1
        assert set(relay.connects) == {"127.0.0.11"}

    stage(play, {"far.example": {"MX": ["10 mx.far.example"]}, "mx.far.example": {"A": ["10.0.0.1", "127.0.0.11"]}})


def test_the_family_that_worked_is_tried_first_next_time(stage: Any) -> None:
    """IPv6 is refused, IPv4 answers: the second message does not knock at IPv6 any more."""

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(faults=(Fault("dot", Kind.LAST_WORDS, b"250 2.0.0 taken\r\n"),)))
        await delivered(relay)
        assert (relay.connects["::1"], relay.connects["127.0.0.11"]) == (1, 1)
        await delivered(relay)
        assert (relay.connects["::1"], relay.connects["127.0.0.11"]) == (1, 2)
        assert sink.sessions == 2

    stage(play, {"far.example": {"AAAA": ["::1"], "A": ["127.0.0.11"]}})


def test_an_address_that_stays_silent_loses_the_race(stage: Any) -> None:
    """A full backlog drops SYN: the address neither answers nor refuses, and the other one gets the mail."""

    async def play(relay: Rehearsal) -> None:
        deaf = socket.socket()
        crowd = [socket.socket() for _ in range(4)]
        try:
            deaf.bind(("127.0.0.12", relay.port))
            deaf.listen(0)
            for one in crowd:
                one.setblocking(False)
                one.connect_ex(("127.0.0.12", relay.port))
            await asyncio.sleep(0)
            sink = await relay.sink("127.0.0.11")
            await delivered(relay)
            assert sink.count == 1
            assert relay.connects["127.0.0.12"] == 1
        finally:
            for one in (deaf, *crowd):
                one.close()

    stage(play, {"far.example": {"A": ["127.0.0.12", "127.0.0.11"]}})


def test_a_connection_carries_many_messages(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink: Sink = await relay.sink("127.0.0.11")
        for _ in range(30):
            await delivered(relay)
        assert (sink.count, sink.sessions) == (30, 1)

    stage(play, mx("10 127.0.0.11"))


def test_a_server_that_left_meanwhile_costs_no_attempt(stage: Any, mx: Any) -> None:
    """The kept connection died between two messages: a new one is opened at once, and nothing is deferred."""

    async def play(relay: Rehearsal) -> None:
        fault = Fault("mail", Kind.DROP, skip=1, times=1)
        sink = await relay.sink("127.0.0.11", Script(faults=(fault,)))
        await delivered(relay)
        await delivered(relay)
        assert (sink.count, sink.sessions) == (2, 2)
        assert not relay.told("defer")

    stage(play, mx("10 127.0.0.11"))


def test_a_server_that_has_had_enough_for_one_session_costs_no_attempt(stage: Any, mx: Any) -> None:
    """421 at MAIL on a kept connection: the message goes over a new one at once."""

    async def play(relay: Rehearsal) -> None:
        fault = Fault("mail", Kind.LAST_WORDS, b"421 4.7.0 enough mail for one session\r\n", skip=1, times=1)
        sink = await relay.sink("127.0.0.11", Script(faults=(fault,)))
        await delivered(relay)
        await delivered(relay)
        assert (sink.count, sink.sessions) == (2, 2)
        assert not relay.told("defer")

    stage(play, mx("10 127.0.0.11"))


def test_a_host_that_breaks_off_before_the_content_hands_over(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        first = await relay.sink("127.0.0.11", Script(faults=(Fault("mail", Kind.DROP),)))
        second = await relay.sink("127.0.0.12")
        await delivered(relay)
        assert (first.count, second.count) == (0, 1)
        assert not relay.told("defer")

    stage(play, mx("10 127.0.0.11", "20 127.0.0.12"))


def test_a_host_that_breaks_off_after_the_content_has_it_perhaps(stage: Any, mx: Any) -> None:
    """In doubt: another host would certainly make a second copy, and at once."""

    async def play(relay: Rehearsal) -> None:
        await relay.sink("127.0.0.11", Script(faults=(Fault("dot", Kind.DROP, times=1),)))
        second = await relay.sink("127.0.0.12")
        number = await relay.submit("anna@near.example", TO_FAR)
        await relay.until(lambda: relay.told("defer", number))
        assert relay.told("defer")[0].in_doubt
        assert second.sessions == 0
        await relay.until(lambda: relay.told("deliver", number), 100)

    stage(play, mx("10 127.0.0.11", "20 127.0.0.12"))
