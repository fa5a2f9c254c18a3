"""Making ready for door workers before the relay has a loop, threads or files: how many, a nursery, a table."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from staffetta.app.privileges import account_for, become
from staffetta.app.workers.nursery import Nursery
from staffetta.app.workers.process import work
from staffetta.app.workers.shared import KEY_OCTETS, ConnectionTable
from staffetta.config.schema import Config, DoorTls

MOST_BY_ITSELF: Final = 3
"""Workers at most where the configuration names no number: more would wait for the main process, even with TLS."""


class Crew(msgspec.Struct, frozen=True):
    """What workers are made from."""

    nursery: Nursery
    table: ConnectionTable


def crew_for(config: Config) -> Crew | None:
    """None: all in one process. Called before there is a loop. Raises PrivilegeError."""
    workers = workers_for(config.processes, usable_cores(), tls=offers_tls(config))
    if not workers:
        return None
    account = account_for(config.user)

    def begin() -> None:
        os.umask(0o077)
        become(account)

    table = ConnectionTable(workers, os.urandom(KEY_OCTETS))
    return Crew(Nursery.open(work(table), begin), table)


def workers_for(processes: int | None, cores: int, *, tls: bool) -> int:
    """How many door workers: `processes`, or by itself (None) one for each core that the main process leaves. Beside
    doors that shake hands the main process has little to do, so with `tls` there is one for its core too."""
    if processes is not None:
        return processes
    return min(cores if tls and cores > 1 else cores - 1, MOST_BY_ITSELF)


def offers_tls(config: Config) -> bool:
    """Does any door offer TLS?"""
    return config.tls is not None and any(
        listen.tls_at(bind.port) is not DoorTls.OFF for listen in config.listeners for bind in listen.bind
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
