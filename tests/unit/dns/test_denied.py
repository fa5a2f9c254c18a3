"""Addresses that mail must not go to, and every disguise they come in."""

from __future__ import annotations

import ipaddress

import pytest

from staffetta.dns.denied import canonical_address, why_denied
from staffetta.mail.network import NetworkSet, parse_network

NOTHING = NetworkSet()
DENIED = [
    ("0.0.0.0", "this network"),
    ("0.1.2.3", "this network"),
    ("10.0.0.1", "private"),
    ("100.64.0.1", "shared with the provider"),
    ("100.127.255.255", "shared with the provider"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.169.254", "link-local"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.8", "protocol assignments"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4 relays"),
    ("192.168.1.1", "private"),
    ("198.18.0.1", "benchmarks"),
    ("198.19.255.255", "benchmarks"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:7f00:1", "loopback"),
    ("::ffff:169.254.169.254", "link-local"),
    ("::ffff:0:127.0.0.1", "not assigned"),
    ("::127.0.0.1", "loopback, wrapped in IPv6"),
    ("::8.8.8.8", "an IPv4-compatible address"),
    ("64:ff9b::127.0.0.1", "loopback, wrapped in IPv6"),
    ("64:ff9b::a9fe:a9fe", "link-local, wrapped in IPv6"),
    ("64:ff9b:1::8.8.8.8", "local NAT64"),
    ("2002:7f00:1::", "loopback, wrapped in IPv6"),
    ("2002:a00:1::25", "private, wrapped in IPv6"),
    ("2001:0:0808:0808:0:ffff:f5ff:fffe", "private, wrapped in IPv6"),
    ("2001:67c::5efe:10.0.0.1", "private, wrapped in IPv6"),
    ("2001:67c::200:5efe:10.0.0.1", "private, wrapped in IPv6"),
    ("100::1", "discard"),
    ("2001:2::1", "benchmarks"),
    ("2001:10::1", "ORCHID"),
    ("2001:db8::1", "documentation"),
    ("3fff::1", "documentation"),
    ("4000::1", "not assigned"),
    ("1000::1", "not assigned"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "private"),
    ("fdff::1", "private"),
    ("fe80::1", "link-local"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("fe80::1%eth0", "not an address"),
    ("0177.0.0.1", "not an address"),
    ("127.1", "not an address"),
    ("2130706433", "not an address"),
    ("localhost", "not an address"),
    ("", "not an address"),
]


@pytest.mark.parametrize(("address", "word"), DENIED)
def test_denied(address: str, word: str) -> None:
    assert why_denied(address, NOTHING) == word


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:4860:4860::8888",
        "2a00:1450::1",
    ],
)
def test_not_denied(address: str) -> None:
    assert why_denied(address, NOTHING) is None


def test_everything_that_the_registries_call_special_is_denied_but_for_relays_of_old() -> None:
    """Sample the library's own table: ours must cover it. (The other direction is why we have our own.)"""
    for private in ipaddress._IPv4Constants._private_networks:  # type: ignore[attr-defined]
        for address in (private[0], private[-1]):
            if str(address) not in ("192.0.0.9", "192.0.0.10"):
                assert why_denied(str(address), NOTHING), address


@pytest.mark.parametrize(
    ("address", "allow", "denied"),
    [
        ("127.0.0.1", "127.0.0.0/8", False),
        ("127.0.0.1", "127.0.0.2-127.0.0.9", True),
        ("::ffff:127.0.0.1", "127.0.0.0/8", False),
        ("64:ff9b::7f00:1", "127.0.0.0/8", True),
        ("::127.0.0.1", "127.0.0.0/8", True),
        ("2002:7f00:1::", "127.0.0.0/8", True),
        ("64:ff9b::7f00:1", "64:ff9b::/96", False),
        ("::1", "::1/128", False),
        ("fd00::1", "fd00::/8", False),
        ("9.9.9.9", "9.9.9.9", False),
    ],
)
def test_what_is_allowed_is_allowed_as_it_is_written(address: str, allow: str, denied: bool) -> None:
    reason = why_denied(address, NetworkSet([parse_network(allow)]), frozenset({"9.9.9.9"}))
    assert (reason is not None) is denied


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("9.9.9.9", "our own address"),
        ("::ffff:9.9.9.9", "our own address"),
        ("64:ff9b::9.9.9.9", "our own address, wrapped in IPv6"),
        ("2002:909:909::", "our own address, wrapped in IPv6"),
        ("2A00:0:0::5", "our own address"),
        ("2a00::6", None),
    ],
)
def test_our_own_addresses(address: str, word: str | None) -> None:
    assert why_denied(address, NOTHING, frozenset({"9.9.9.9", "2a00::5"})) == word


def test_addresses_have_one_text() -> None:
    assert canonical_address("::FFFF:192.0.2.1") == "192.0.2.1"
    assert canonical_address("2001:DB8:0::1") == "2001:db8::1"
    assert canonical_address("mail.example") is None
