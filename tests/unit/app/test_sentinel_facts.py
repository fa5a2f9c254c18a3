"""What the sentinel knows of its machine, where it knocks and as whom, and what it says there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from staffetta.app.sentinel_machine import Machine, read_machine
from staffetta.app.sentinel_shapes import spoken
from staffetta.app.sentinel_targets import ADDRESSES_OF_ONE_DOOR, targets_of
from staffetta.control.relay_shapes import Names, forms, senders
from staffetta.intake.door import DoorSettings
from staffetta.mail.network import NetworkSet, parse_network
from staffetta.net.contract import Endpoint
from staffetta.policy.door import Door, Role
from staffetta.protocol.extensions import ServerSettings

LITTLE = pytest.mark.skipif(sys.byteorder != "little", reason="the tables were written on a little-endian machine")

ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t000012AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t0000000A\t090012AC\t0003\t0\t0\t0\t000000FF\t0\t0\t0
eth1\tFFFFFFFF\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
"""

IPV6_ROUTE = """\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
"""  # noqa: E501

IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
fd000000000000000000000000000002 04 40 00 82     eth0
fd000000000000000000000000000003 04 40 00 c0     eth0
"""

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        |-- 172.17.0.0
           /16 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
        |-- 127.0.0.1
           /32 host LOCAL
           |-- 172.17.0.2
              /32 host LOCAL
           |-- 172.17.255.255
              /32 link BROADCAST
        |-- 172.18.0.3
           /32 host LOCAL
"""


def proc(folder: Path, **tables: str) -> Path:
    (folder / "net").mkdir()
    for name, text in tables.items():
        (folder / "net" / name).write_text(text)
    return folder


@LITTLE
def test_a_machine_is_read(tmp_path: Path) -> None:
    tables = proc(tmp_path, route=ROUTE, ipv6_route=IPV6_ROUTE, if_inet6=IF_INET6, fib_trie=FIB_TRIE)
    found = read_machine(tables, ())
    assert found.addresses == ("172.17.0.2", "172.18.0.3", "fd00::2")
    assert found.gateways == {"172.17.0.1", "172.18.0.9", "fd00::1"}


@LITTLE
def test_in_a_container_the_bridges_are_gateways(tmp_path: Path) -> None:
    sign = tmp_path / ".dockerenv"
    sign.touch()
    found = read_machine(proc(tmp_path, route=ROUTE, fib_trie=FIB_TRIE), (sign,))
    assert found.gateways == {"172.17.0.1", "172.18.0.9", "172.18.0.1"}


@pytest.mark.parametrize("text", ["", "\0\xff", "a\nb c d e f g h i j k", ROUTE.replace("0003", "zz"), "x" * (2 << 20)])
def test_a_machine_without_tables_or_with_strange_ones_is_unknown(text: str, tmp_path: Path) -> None:
    tables = proc(tmp_path, route=text, ipv6_route=text, if_inet6=text, fib_trie=text)
    assert read_machine(tables, ()) == Machine()
    assert read_machine(tmp_path / "nothing", ()) == Machine()


MACHINE = Machine(("192.0.2.2", "fd00::2"))
LOOPBACKS = "127.0.0.0/8 ::1"


def door(trust: str = "", proxies: str = "") -> DoorSettings:
    networks = [NetworkSet(map(parse_network, text.split())) if text else None for text in (trust, proxies)]
    core = ServerSettings(hostname="mx.example.org")
    return DoorSettings(Door("d", Role.RELAY, auth=False), core, trust=networks[0], proxies=networks[1])


# fmt: off
PLACES = [
    # A door for everybody is asked from the very address at which it is.
    (door(), "127.0.0.1", ["tcp 127.0.0.1 as 127.0.0.1"]),
    (door(), "192.0.2.2", ["tcp 192.0.2.2 as 192.0.2.2"]),
    # One on all addresses is asked at all that the machine has.
    (door(), "0.0.0.0", ["tcp 127.0.0.1 as 127.0.0.1", "tcp 192.0.2.2 as 192.0.2.2"]),
    (door(), "::", ["tcp ::1 as ::1", "tcp fd00::2 as fd00::2"]),
    # One that trusts loopback is asked from elsewhere, and in memory by who is far away.
    (door(LOOPBACKS), "127.0.0.1",
     ["tcp 127.0.0.1 as 192.0.2.2", "memory 127.0.0.1 as 203.0.113.77", "memory 127.0.0.1 as 2001:db8:bad::77"]),
    (door(LOOPBACKS), "::1",
     ["tcp ::1 as fd00::2", "memory ::1 as 203.0.113.77", "memory ::1 as 2001:db8:bad::77"]),
    # One that trusts all addresses of the machine is asked in memory.
    (door(LOOPBACKS + " 192.0.2.0/24"), "127.0.0.1",
     ["memory 127.0.0.1 as 203.0.113.77", "memory 127.0.0.1 as 2001:db8:bad::77"]),
    # Trusting a network of strangers does not hide it, unless it is small enough to be one's own.
    (door(LOOPBACKS + " 192.0.0.0/3"), "127.0.0.1",
     ["tcp 127.0.0.1 as 192.0.2.2", "memory 127.0.0.1 as 203.0.113.77", "memory 127.0.0.1 as 2001:db8:bad::77"]),
    (door(LOOPBACKS + " 192.0.2.0/24 203.0.113.0/24"), "127.0.0.1",
     ["memory 127.0.0.1 as 198.51.100.77", "memory 127.0.0.1 as 2001:db8:bad::77"]),
    # One that believes us is told of a stranger.
    (door(LOOPBACKS, "127.0.0.1"), "127.0.0.1",
     ["proxy 127.0.0.1 as 203.0.113.77", "memory 127.0.0.1 as 2001:db8:bad::77"]),
    (door("", "fd00::2"), "::", ["tcp ::1 as ::1", "proxy fd00::2 as 2001:db8:bad::77"]),
    # To a Unix socket nobody comes from outside.
    (door(), "/run/x", ["memory /run/x as 203.0.113.77"]),
]
# fmt: on


@pytest.mark.parametrize(("settings", "address", "expected"), PLACES)
def test_where_and_as_whom(settings: DoorSettings, address: str, expected: list[str]) -> None:
    port = 0 if address.startswith("/") else 25
    found = list(targets_of([(settings, [Endpoint(address, port)])], MACHINE))
    assert [f"{one.way} {one.to.address} as {one.client}" for one in found] == expected
    assert [one.all_shapes for one in found] == [True] + [False] * (len(found) - 1)
    assert all(bool(one.note) == (one.way == "memory") for one in found)


def test_a_machine_with_many_addresses_is_not_asked_all_day() -> None:
    many = Machine(tuple(f"192.0.2.{number}" for number in range(200)))
    assert len(list(targets_of([(door(), [Endpoint("0.0.0.0", 25)])], many))) == ADDRESSES_OF_ONE_DOOR


NAMES = Names("ext.example", "mx.example.org", "192.0.2.25", "example.org", "anna@example.org")


def test_nothing_that_is_said_could_be_accepted_or_count_as_a_login() -> None:
    for turn in range(8):
        for trial in spoken(NAMES, turn):
            assert not any(line.startswith(("DATA", "BDAT", "AUTH", "STARTTLS")) for line in trial.lines)
            assert not trial.whole


def test_every_form_is_asked_each_time_and_every_pair_in_some_days() -> None:
    count = len(senders(NAMES))
    seen: set[tuple[str, str]] = set()
    for turn in range(count):
        said = [trial.lines[-2:] for trial in spoken(NAMES, turn) if len(trial.lines) == 2]
        assert {f"RCPT {form}" for form in forms(NAMES)} <= {recipient for _, recipient in said}
        seen.update((sender.removesuffix(" SMTPUTF8"), recipient) for sender, recipient in said)
    assert len(seen) >= count * len(set(forms(NAMES)))
