"""Networks: what parses, what they hold, how they are written back."""

from __future__ import annotations

import ipaddress
import random

import pytest

from staffetta.mail.network import REMEMBERED_ADDRESSES, Network, NetworkError, NetworkSet, parse_network

PARSED = [
    ("192.0.2.0/24", "192.0.2.0/24"),
    ("192.0.2.7", "192.0.2.7/32"),
    ("0.0.0.0/0", "0.0.0.0/0"),
    ("::/0", "::/0"),
    ("::1/128", "::1/128"),
    ("2001:DB8::/32", "2001:db8::/32"),
    ("192.0.2.10-192.0.2.20", "192.0.2.10-192.0.2.20"),
    ("192.0.2.0 - 192.0.2.255", "192.0.2.0/24"),
    ("192.0.2.1-192.0.2.1", "192.0.2.1/32"),
    ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    ("::ffff:192.0.2.1", "192.0.2.1/32"),
    ("2001:db8::1-2001:db8::ff", "2001:db8::1-2001:db8::ff"),
]


@pytest.mark.parametrize(("text", "written"), PARSED)
def test_networks_are_read_and_written(text: str, written: str) -> None:
    network = parse_network(text)
    assert str(network) == written
    assert parse_network(written) == network


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/24",
        "192.0.2.0/",
        "192.0.2.0/33",
        "192.0.2.0/-1",
        "192.0.2.0/024",
        "192.0.2.0/255.255.255.0",
        "192.0.2.0/٢٤",
        "192.0.2.1/24",
        "192.0.2/24",
        "192.0.02.0/24",
        "127.1",
        "fe80::1%eth0",
        "fe80::%eth0/64",
        "2001:db8::/129",
        "::ffff:10.0.0.0/95",
        "192.0.2.1-",
        "-192.0.2.1",
        "192.0.2.9-192.0.2.1",
        "192.0.2.1-2001:db8::1",
        "192.0.2.1-192.0.2.2-192.0.2.3",
        "example.com",
        "192.0.2.0/24 ",
    ],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(NetworkError):
        parse_network(text)


def test_bits_beyond_the_prefix_are_answered_with_the_network() -> None:
    with pytest.raises(NetworkError, match=r"10\.0\.0\.0/8"):
        parse_network("10.0.0.1/8")


@pytest.mark.parametrize(
    ("network", "address", "inside"),
    [
        ("192.0.2.0/24", "192.0.2.0", True),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.0/24", "::ffff:192.0.2.9", True),
        ("192.0.2.0/24", "::ffff:c000:209", True),
        ("192.0.2.0/24", "::192.0.2.9", False),
        ("::/0", "192.0.2.9", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("2001:db8::/32", "2001:0DB8:0::1", True),
        ("192.0.2.10-192.0.2.20", "192.0.2.20", True),
        ("192.0.2.10-192.0.2.20", "192.0.2.21", False),
        ("0.0.0.0/0", "unix", False),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "192.0.2.1 ", False),
        ("fe80::/10", "fe80::1%eth0", False),
    ],
)
def test_contains(network: str, address: str, inside: bool) -> None:
    assert parse_network(network).contains(address) is inside
    assert NetworkSet([parse_network(network)]).contains(address) is inside


def test_everything_is_recognised() -> None:
    assert parse_network("0.0.0.0/0").is_everything
    assert parse_network("::/0").is_everything
    assert parse_network("0.0.0.0-255.255.255.255").is_everything
    assert not parse_network("0.0.0.0/1").is_everything


def test_a_set_agrees_with_its_networks_one_by_one() -> None:
    chance = random.Random(5)
    for _ in range(100):
        networks = []
        for _ in range(chance.randrange(8)):
            first = chance.randrange(200)
            networks.append(Network(4, first, first + chance.randrange(40)))
        together = NetworkSet(networks)
        for number in range(0, 260, 3):
            address = str(ipaddress.IPv4Address(number))
            assert together.contains(address) is any(network.contains(address) for network in networks)
        assert bool(together) is bool(networks)


def test_what_a_set_remembers_is_bounded() -> None:
    together = NetworkSet([parse_network("10.0.0.0/8")])
    for number in range(REMEMBERED_ADDRESSES * 2 + 5):
        assert together.contains(str(ipaddress.IPv4Address((10 << 24) + number)))
        assert len(together._judged) <= REMEMBERED_ADDRESSES
