"""Mail that a command on this machine brings: `send`, and `sendmail` for programs. It takes the path that mail over the
network takes, through a session in memory at a door of its own, so that it is judged, mended, stamped and committed by
the same code; a relay that runs on the store sees it at once, one that does not finds it when it starts.

RFC 6409 section 8 (what submission adds). Whoever may write to the store may send as anybody: that is the system's
permission, and it is recorded whose (`login` of the `accept` event, rule `local_submission`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import BinaryIO, Final

import msgspec

from staffetta.accounts.passwords import Hasher
from staffetta.accounts.store import AccountStore
from staffetta.app.dry_run import NO_LOGINS, no_connector
from staffetta.app.pickup_letter import Brought, Letter, bring, door_settings
from staffetta.app.wiring import Parts, Stores, World
from staffetta.config.schema import Config
from staffetta.control import place
from staffetta.control.dialogue import DialogueOver
from staffetta.control.dry_run import Later
from staffetta.dns.table import TableResolver
from staffetta.mail.address import ForwardPath, ReversePath
from staffetta.mail.envelope import Notify, Return
from staffetta.mail.reply import Reply, reply
from staffetta.observe.events import Accept, Event, Refuse
from staffetta.policy.door import Door, Role
from staffetta.spool.recovery import STORE_NAME
from staffetta.spool.sqlite import SqliteSpool
from staffetta.spool.sqlite_open import SqliteSettings

DOOR_NAME: Final = "local"
"""How this door is called in events."""


BLOCK_OCTETS: Final = 64 * 1024
"""How much of the content is read and handed on at a time."""

_GONE: Final = reply(451, "4.3.0", "the dialogue broke off, try again")


class Wishes(msgspec.Struct, frozen=True):
    """What the sender asked for besides, of all recipients alike (RFC 3461). `envid` is printable ASCII."""

    notify: tuple[Notify, ...] = ()
    ret: Return | None = None
    envid: str = ""


NO_WISHES: Final = Wishes()


class Submitted(msgspec.Struct, frozen=True):
    """On disk as `id`. `recipients` are those it goes to, aliases followed; `refused` those it does not go to."""

    id: str
    recipients: tuple[str, ...]
    refused: tuple[tuple[ForwardPath, Reply], ...] = ()


class NotTaken(Exception):
    """Nothing was sent. `reply` is what a client would have been told, `reason` the operator's sentence.

    `refused` holds the recipients that were refused, each with its reply; empty when something else was wrong.
    """

    def __init__(self, answer: Reply, reason: str, refused: tuple[tuple[ForwardPath, Reply], ...] = ()) -> None:
        super().__init__(f"{answer}" + (f" ({reason})" if reason else ""))
        self.reply = answer
        self.reason = reason
        self.refused = refused


def submit_locally(
    config: Config,
    sender: ReversePath,
    recipients: Sequence[ForwardPath],
    content: BinaryIO,
    *,
    user: str,
    wishes: Wishes = NO_WISHES,
    partly: bool = False,
) -> Submitted:
    """Put a message into the queue for good, with and without a running relay; returns when it is on disk.

    `content` is the whole message as the program wrote it: any line end becomes CRLF, Date and Message-ID are added
    where they are missing, Bcc is taken out. `user` is the account of the system that sends. `partly`: go on when some
    of the recipients are refused, else one that is refused stops all.

    Raises NotTaken, place.NotAllowed (this user may not write to the store), StoreError.
    """
    place.make(config.data_dir, config.user)
    with _as_owner(config):
        letter = Letter(
            "", user, "", None, sender, tuple(recipients), wishes.notify, wishes.ret, wishes.envid, whole=not partly
        )
        return asyncio.run(_submit(config, letter, content))


@contextmanager
def _as_owner(config: Config) -> Iterator[None]:
    with place.as_owner(config.data_dir):
        store = config.data_dir / STORE_NAME
        try:
            place.require(store)
        except place.NothingThere:
            if not os.access(config.data_dir, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
                raise place.NotAllowed(
                    f"only {place.owner_of(config.data_dir)} and root may use {config.data_dir}"
                ) from None
        yield


async def _submit(config: Config, letter: Letter, content: BinaryIO) -> Submitted:
    async with AsyncExitStack() as stack:
        spool = await SqliteSpool.open(config.data_dir / STORE_NAME, time.time, SqliteSettings(delivers=False))
        stack.push_async_callback(spool.close)
        accounts = AccountStore.open(config.data_dir, hasher=Hasher(os.urandom, NO_LOGINS))
        stack.callback(accounts.close)
        events: list[Event] = []
        world = World(TableResolver({}), no_connector)
        parts = Parts(config, world, Stores(spool, accounts), events.append, connections=1)
        house = msgspec.structs.replace(parts.house, outlet=Later(), forecaster=None)
        stack.callback(house.logins.close)
        stack.push_async_callback(house.refusals.close)
        door = door_settings(config, Door(DOOR_NAME, Role.RELAY, auth=False, local=True, any_name=True))
        try:
            brought = await bring(house, door, letter, iter(partial(content.read, BLOCK_OCTETS), b""))
        except DialogueOver:
            raise NotTaken(_GONE, "") from None
        finally:
            await asyncio.sleep(0)
            if house.tasks:
                await asyncio.wait(house.tasks, timeout=5)
        return _submitted(brought, events)


def _submitted(brought: Brought, events: list[Event]) -> Submitted:
    """What became of it, as the events tell. Raises NotTaken."""
    accepted = next((event for event in events if isinstance(event, Accept)), None)
    if accepted is not None and brought.answer.is_positive:
        return Submitted(accepted.id, accepted.recipients, brought.refused)
    refusals = [event for event in events if isinstance(event, Refuse)]
    raise NotTaken(brought.answer, refusals[0].reason if refusals else "", brought.refused)


__all__ = ["NO_WISHES", "NotTaken", "Submitted", "Wishes", "submit_locally"]
