"""Which resolvers this machine uses: `/etc/resolv.conf`, read by ourselves.

Only `nameserver` counts. Search lists are for people who type half a name; mail domains are whole.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

RESOLV_CONF: Final = Path("/etc/resolv.conf")
DNS_PORT: Final = 53
MOST_SERVERS: Final = 8
_LARGEST_FILE: Final = 65536

Server = tuple[str, int]
"""Address (an IPv6 link-local one with its zone, `fe80::1%eth0`) and port."""


def system_servers(path: Path = RESOLV_CONF) -> tuple[Server, ...]:
    """The machine's resolvers in order; one on loopback where none is named, as resolv.conf(5) says."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE)
    except OSError:
        text = b""
    return parse_resolv_conf(text) or (("127.0.0.1", DNS_PORT),)


def parse_resolv_conf(text: bytes) -> tuple[Server, ...]:
    """The `nameserver` lines that hold an address; anything else is passed over."""
    servers: list[Server] = []
    for line in text.replace(b"\r", b"\n").split(b"\n"):
        words = line.replace(b"\t", b" ").split()
        if len(words) < 2 or words[0] != b"nameserver" or not words[1].isascii():
            continue
        address = words[1].decode("ascii")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            continue
        if (address, DNS_PORT) not in servers and len(servers) < MOST_SERVERS:
            servers.append((address, DNS_PORT))
    return tuple(servers)
