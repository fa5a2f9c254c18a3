"""MTA-STS as a domain publishes it: the TXT record that announces a policy, the policy file, and which hosts it names.

RFC 8461 sections 3.1 (the record), 3.2 (the file) and 4.1 (names of hosts). Both come from strangers: everything is
bounded, and what the grammar does not know is passed over where the RFC says so.
This module refuses to know how they are fetched and what a sender makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from staffetta.mail.domain import DomainError, parse_domain

FILE_OCTETS: Final = 64 * 1024
"""Longest policy file, RFC 8461 section 3.3."""

MOST_AGE_SECONDS: Final = 31_557_600
"""Longest `max_age`: a year (section 3.2)."""

LINES: Final = 1024
"""Most lines that are read. A policy has one for each MX host and three more."""

_VERSION: Final = b"v=STSv1"
_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_AGE: Final = re.compile(r"[0-9]{1,10}")
_WHITE: Final = " \t"


class StsMode(StrEnum):
    """What senders do where the policy does not hold: refuse to deliver, only report, nothing."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class StsPolicy(msgspec.Struct, frozen=True, gc=False):
    """A policy file. `hosts` are names, or `*.` and a name: any one label in its place."""

    mode: StsMode
    max_age_seconds: int
    hosts: tuple[str, ...] = ()

    def names(self, host: str) -> bool:
        """Whether `host`, lower case and without the last dot, may be an MX host by this policy (section 4.1)."""
        above = host.partition(".")[2]
        return host in self.hosts or (bool(above) and f"*.{above}" in self.hosts)


def sts_records(texts: Iterable[bytes]) -> tuple[bytes, ...]:
    """Those TXT records that announce a policy; with other than one there is none (section 3.1)."""
    return tuple([text for text in texts if text[:7] == _VERSION and text[7:].lstrip(b" \t")[:1] in {b";", b""}])


def why_bad_record(text: bytes) -> str:
    """Why the record announces nothing; "" when it does."""
    fields = text.decode("latin-1").split(";")
    identity: str | None = None
    for field in fields[1:]:
        name, equals, value = field.strip(_WHITE).partition("=")
        if name == "id" and equals and identity is None:
            identity = value
    if identity is None:
        return "it has no id="
    return "" if _ID.fullmatch(identity) else "its id= is not 1 to 32 letters and digits"


def parse_policy(data: bytes) -> StsPolicy | str:
    """The policy of a file, or why it is none. Of a key that stands twice the first counts, but for `mx`."""
    if len(data) > FILE_OCTETS:
        return f"the file is longer than {FILE_OCTETS // 1024} KiB"
    known: dict[str, str] = {}
    hosts: dict[str, None] = {}
    for line in data.decode("latin-1").split("\n")[:LINES]:
        name, colon, value = line.strip(" \t\r").partition(":")
        name, value = name.rstrip(_WHITE), value.strip(_WHITE)
        if not colon:
            continue
        if name == "mx":
            pattern = _pattern(value)
            if pattern is None:
                return "it has an mx: that is no name of a host"
            hosts[pattern] = None
        else:
            known.setdefault(name, value)
    if known.get("version") != "STSv1":
        return "it has no version: STSv1"
    if known.get("mode") not in set(StsMode):
        return "its mode: is not enforce, testing or none"
    age = known.get("max_age", "")
    if not _AGE.fullmatch(age) or int(age) > MOST_AGE_SECONDS:
        return f"its max_age: is not a number of seconds up to {MOST_AGE_SECONDS}"
    mode = StsMode(known["mode"])
    if not hosts and mode is not StsMode.NONE:
        return "it names no mx:"
    return StsPolicy(mode, int(age), tuple(hosts))


def _pattern(text: str) -> str | None:
    star = text[:2] == "*."
    try:
        name = parse_domain(text[2:] if star else text).ascii
    except DomainError:
        return None
    return f"*.{name}" if star else name


__all__ = [
    "FILE_OCTETS",
    "MOST_AGE_SECONDS",
    "StsMode",
    "StsPolicy",
    "parse_policy",
    "sts_records",
    "why_bad_record",
]
