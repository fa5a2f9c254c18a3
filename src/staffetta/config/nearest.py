"""Which name was meant: the nearest of those that exist, or what other programs call the same thing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

FAMILIAR: Final = {
    "acl": "trust, in [listen.NAME]",
    "address": "bind, in [listen.NAME]",
    "addresses": "bind, in [listen.NAME]",
    "aliases_file": 'aliases, in [domain."D"]',
    "allowed_networks": "trust, in [listen.NAME]",
    "cert": "certificate, in [tls]",
    "cert_file": "certificate, in [tls]",
    "domains": 'a table of its own for each: [domain."example.org"]',
    "host": "bind, in [listen.NAME], or via, in [route.NAME]",
    "inet_interfaces": "bind, in [listen.NAME]",
    "key_file": "key, in [tls]",
    "listener": "[listen.NAME]",
    "listeners": "[listen.NAME]",
    "mydestination": 'a table of its own for each: [domain."example.org"]',
    "myhostname": "hostname, at the top",
    "mynetworks": "trust, in [listen.NAME]",
    "networks": "trust, in [listen.NAME]",
    "next_hop": "via, in [route.NAME]",
    "password_file": 'password = "file:PATH"',
    "port": "the end of bind, in [listen.NAME], or of via, in [route.NAME]",
    "private_key": "key, in [tls]",
    "relay_domains": "to, in [route.NAME]",
    "relayhost": "via, in [route.NAME]",
    "routes": "[route.NAME]",
    "smarthost": "via, in [route.NAME]",
    "smtp": "[listen.NAME]",
    "starttls": 'tls = "starttls", in [listen.NAME]',
    "upstream": "via, in [route.NAME]",
    "user_name": "login, in [route.NAME]",
    "username": "login, in [route.NAME]",
    "users": "no key: accounts are made with `staffetta account add ADDRESS`",
    "accounts": "no key: accounts are made with `staffetta account add ADDRESS`",
}
"""Names from other programs, and our name for it. Only where the meaning is the same."""


def nearest(word: str, names: Iterable[str]) -> str:
    """The name that `word` most likely was meant to be; empty when none is near."""
    folded = {name.replace("-", "_").lower(): name for name in names}
    found = difflib.get_close_matches(word.replace("-", "_").lower(), folded, n=1, cutoff=0.65)
    return folded[found[0]] if found else ""
