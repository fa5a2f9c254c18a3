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
from typing import BinaryIO, Final

import msgspec

from staffetta.accounts.passwords import Hasher
from staffetta.accounts.store import AccountStore
from staffetta.app.dry_run import NO_LOGINS, no_connector
from staffetta.app.wiring import Parts, Stores, World
from staffetta.config.schema import Config
from staffetta.control import place
from staffetta.control.dialogue import Dialogue, DialogueOver
from staffetta.control.dry_run import Later
from staffetta.dns.table import TableResolver
from staffetta.intake.door import DoorSettings
from staffetta.intake.session import Session
from staffetta.mail.address import ForwardPath, Postmaster, ReversePath
from staffetta.mail.envelope import Notify, Return
from staffetta.mail.network import NetworkSet, parse_network
from staffetta.mail.reply import Reply, reply
from staffetta.net.contract import Endpoint
from staffetta.net.memory import MemoryNetwork
from staffetta.net.stream import TcpStream
from staffetta.observe.events import Accept, Event, Refuse
from staffetta.policy.acceptance import AcceptanceSettings
from staffetta.policy.door import Door, Role
from staffetta.protocol.client_commands import xtext
from staffetta.protocol.extensions import ServerSettings
from staffetta.spool.recovery import STORE_NAME
from staffetta.spool.sqlite import SqliteSpool
from staffetta.spool.sqlite_open import SqliteSettings

DOOR_NAME: Final = "local"
"""How this door is called in events."""

RECIPIENTS: Final = 10_000
"""Recipients of one message: a program on this machine may have a long list."""

BLOCK_OCTETS: Final = 64 * 1024
"""How much of the content is read and handed on at a time."""

_DOOR: Final = Endpoint("127.0.0.1", 25)
_GONE: Final = reply(451, "4.3.0", "the dialogue broke off, try again")
_LOOPBACK: Final = NetworkSet((parse_network("127.0.0.1/32"),))


class Wishes(msgspec.Struct, frozen=True):
    """What the sender asked for besides, of all recipients alike (RFC 3461). `envid` is printable ASCII."""

    notify: tuple[Notify, ...] = ()
    ret: Return | None = None
    envid: str = ""


NO_WISHES: Final = Wishes()


class _Order(msgspec.Struct, frozen=True):
    """What to say at the door."""

    sender: ReversePath
    recipients: tuple[ForwardPath, ...]
    user: str
    wishes: Wishes
    partly: bool


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
        return asyncio.run(_submit(config, _Order(sender, tuple(recipients), user, wishes, partly), content))


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


async def _submit(config: Config, order: _Order, content: BinaryIO) -> Submitted:
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
        network = MemoryNetwork(client=_DOOR.address)
        door = _door(config)
        sessions: list[Session] = []

        def greet(stream: TcpStream) -> Session:
            sessions.append(Session(stream, house, door))
            return sessions[-1]

        network.listen(_DOOR, greet)
        dialogue = Dialogue(await network.connect([_DOOR], deadline=asyncio.get_running_loop().time() + 1.0))
        try:
            return await _Letter(dialogue, sessions, events).send(order, content)
        except DialogueOver:
            raise NotTaken(_GONE, "") from None
        finally:
            dialogue.close()
            await asyncio.sleep(0)
            if house.tasks:
                await asyncio.wait(house.tasks, timeout=5)


class _Letter:
    """One message on its way through the door."""

    def __init__(self, dialogue: Dialogue, sessions: list[Session], events: list[Event]) -> None:
        self._dialogue = dialogue
        self._sessions = sessions
        self._events = events

    async def send(self, order: _Order, content: BinaryIO) -> Submitted:
        say = self._dialogue.say
        await self._dialogue.hear()
        await say("EHLO localhost")
        (session,) = self._sessions
        # Who sends is what the system says, not what was said in the dialogue; so is the trace field.
        session.login = order.user
        session.opening = (f"Received: by {session.house.hostname} with ".encode(), b" id ")
        self._check(await say(f"MAIL FROM:<{order.sender}>{_mail_parameters(order)}"))
        refused = []
        for recipient in order.recipients:
            answer = await say(f"RCPT TO:<{recipient}>{_rcpt_parameters(order.wishes)}")
            if not answer.is_positive:
                refused.append((recipient, answer))
        if refused and (not order.partly or len(refused) == len(order.recipients)):
            raise NotTaken(refused[0][1], self._reason(), tuple(refused))
        self._check(await self._bring(content))
        accepted = next(event for event in self._events if isinstance(event, Accept))
        await say("QUIT")
        return Submitted(accepted.id, accepted.recipients, tuple(refused))

    async def _bring(self, content: BinaryIO) -> Reply:
        """By BDAT, so that nothing in the content can end it."""
        while True:
            block = content.read(BLOCK_OCTETS)
            await self._dialogue.write(b"BDAT %d%b\r\n" % (len(block), b"" if block else b" LAST"))
            await self._dialogue.write(block)
            answer = await self._dialogue.hear()
            if not block or not answer.is_positive:
                return answer

    def _check(self, answer: Reply) -> None:
        if not answer.is_positive:
            raise NotTaken(answer, self._reason())

    def _reason(self) -> str:
        refusals = [event for event in self._events if isinstance(event, Refuse)]
        return refusals[0].reason if refusals else ""


def _door(config: Config) -> DoorSettings:
    limits = config.limits
    return DoorSettings(
        door=Door(DOOR_NAME, Role.RELAY, auth=False, local=True),
        core=ServerSettings(
            hostname=config.hostname.ascii,
            message_size=limits.message_size,
            recipients=RECIPIENTS,
            commands=10 * RECIPIENTS,
            errors=RECIPIENTS,
            normalise=True,
        ),
        trust=_LOOPBACK,
        acceptance=AcceptanceSettings(limits.message_size, limits.hops),
    )


def _mail_parameters(order: _Order) -> str:
    said = " BODY=8BITMIME"
    if not all(isinstance(path, Postmaster) or path.is_ascii for path in (order.sender, *order.recipients)):
        said += " SMTPUTF8"
    if order.wishes.ret is not None:
        said += f" RET={order.wishes.ret}"
    return said + (f" ENVID={xtext(order.wishes.envid)}" if order.wishes.envid else "")


def _rcpt_parameters(wishes: Wishes) -> str:
    return f" NOTIFY={','.join(wishes.notify)}" if wishes.notify else ""


__all__ = ["NO_WISHES", "NotTaken", "Submitted", "Wishes", "submit_locally"]
