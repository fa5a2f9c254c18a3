"""Making a dry run (see control/dry_run) from a configuration: the parts of a relay, over memory instead of disk and
network. Accounts are read as they are; nothing is written anywhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import apsw
import msgspec

from staffetta.accounts.passwords import Cost, Hasher
from staffetta.accounts.store import MIGRATIONS, STORE_NAME, AccountStore
from staffetta.app.doors import doors_of
from staffetta.app.wiring import Parts, Stores, World
from staffetta.config.schema import Config
from staffetta.control import place
from staffetta.control.dry_run import DryDoor, DryRun, DrySpool, Later, PresumedLogin, UnreadCertificate
from staffetta.dns.resolver import Resolver
from staffetta.mail.address import Mailbox
from staffetta.net.connect import Connector
from staffetta.observe.events import Event
from staffetta.spool.database import StoreError, open_reader

NO_LOGINS = Cost("no logins", memory_kib=8, passes=1, lanes=1)
"""What a password check costs where no password is checked."""

_MANY = 10**9


class DrySettings(msgspec.Struct, frozen=True):
    """`login` is believed without a password. `patient`: sessions may make as many mistakes as they like, so that one
    can be used for many trials."""

    resolver: Resolver
    login: Mailbox | None = None
    patient: bool = False


@contextmanager
def accounts_as_they_are(config: Config) -> Iterator[AccountStore]:
    """The accounts, for reading; none when there is no store yet. Raises place.NotAllowed, StoreError."""
    path = config.data_dir / STORE_NAME
    try:
        with place.as_owner(config.data_dir):
            place.require(path)
            connection = open_reader(path)
    except place.NothingThere:
        connection = apsw.Connection(":memory:")
        for migration in MIGRATIONS:
            connection.execute(migration)
    try:
        store = AccountStore(connection, Hasher(os.urandom, NO_LOGINS), time.time)
    except Exception as error:
        connection.close()
        raise StoreError(f"cannot read {path}: {error}") from error
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def dry_run(config: Config, accounts: AccountStore, settings: DrySettings) -> AsyncIterator[DryRun]:
    """The doors of a configuration in memory."""
    events: list[Event] = []
    spool = DrySpool()
    world = World(settings.resolver, no_connector)
    parts = Parts(config, world, Stores(spool, accounts), events.append, config.limits.connections)
    parts.house.logins.close()
    parts.house.signing = None  # a rehearsal makes no keys
    house = msgspec.structs.replace(
        parts.house, outlet=Later(), logins=PresumedLogin(accounts, settings.login), forecaster=None
    )
    run = DryRun(house, _doors(config, patient=settings.patient), spool, events)
    try:
        yield run
    finally:
        await run.close()


def no_connector(sources: tuple[str, ...]) -> Connector:
    """What makes connections where nothing is delivered."""
    raise RuntimeError(f"nothing is delivered here, not even from {sources}")


def _doors(config: Config, *, patient: bool) -> tuple[DryDoor, ...]:
    """Each door once for each kind of TLS that it has."""
    found: dict[tuple[str, bool], DryDoor] = {}
    for where, settings in doors_of(config, UnreadCertificate() if config.tls is not None else None):
        door = settings
        if patient:
            core = msgspec.structs.replace(door.core, errors=_MANY, commands=_MANY)
            door = msgspec.structs.replace(door, core=core)
        found.setdefault((door.name, door.implicit_tls), DryDoor(door, where.port))
    return tuple(found.values())
