"""The DNS records that a domain needs so that mail comes, is believed, and mail programs find their server.

What is not known here, the public address of this machine or what a smarthost's owner publishes, is said to be so
rather than made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from staffetta.control.init_file import Door, Plan

YOUR_ADDRESS: Final = "(the public address of this machine)"

_SERVICES: Final = {"submissions": "_submissions._tcp", "submission": "_submission._tcp"}


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record: owner, type, value, and what it is for."""

    name: str
    type: str
    value: str
    why: str


def records(plan: Plan, dkim: Sequence[tuple[str, str]] = ()) -> list[Record]:
    """What to publish for the plan's domain. `dkim`: owner and text of each key's record."""
    domain, host = plan.domain, plan.hostname
    found = [
        Record(host, "A / AAAA", YOUR_ADDRESS, "the name of this machine; its reverse name should be the same"),
    ]
    port = _port(plan.doors, "mx")
    if port:
        forward = "" if port == "25" else f", which has to be led to {port} here"
        found.append(Record(domain, "MX", f"10 {host}.", f"other servers bring mail to this machine, port 25{forward}"))
    found.append(Record(domain, "TXT", *_spf(plan)))
    found += [Record(name, "TXT", text, "others check our signatures with this key") for name, text in dkim]
    why = "what to do with forged mail: nothing yet, only report; p=reject when the reports are clean"
    found.append(Record(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}", why))
    found += _services(plan.doors, domain, host)
    return found


def _port(doors: Sequence[Door], name: str) -> str:
    """The port of a door; empty when there is no such door."""
    return next((door.bind[0].rpartition(":")[2] for door in doors if door.name == name), "")


def _spf(plan: Plan) -> tuple[str, str]:
    ours = "mx" if _port(plan.doors, "mx") else f"a:{plan.hostname}"
    if plan.upstream is None:
        return f"v=spf1 {ours} -all", "mail of this domain comes from this machine and from nowhere else"
    return f"v=spf1 {ours} ?all", "add the include: that the owner of the smarthost names, then write -all"


def _services(doors: Sequence[Door], domain: str, host: str) -> Iterator[Record]:
    """RFC 6186 and RFC 8314 section 5.1; the target `.` says that there is no such service."""
    for name, service in _SERVICES.items():
        port = _port(doors, name)
        value = f"0 1 {port} {host}." if port else "0 0 0 ."
        why = "mail programs find where to send" if port else "no mail program sends here"
        yield Record(f"{service}.{domain}", "SRV", value, why)
    why = "there is no IMAP server here; name yours, if one reads the Maildirs"
    yield Record(f"_imaps._tcp.{domain}", "SRV", "0 0 0 .", why)
