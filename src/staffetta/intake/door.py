"""One door's settings, and what all sessions of the house share. Built by `app`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from staffetta.accounts.directory import Directory
from staffetta.accounts.login import Logins
from staffetta.intake.examination import ExaminingRoom
from staffetta.intake.forecasts import Forecaster
from staffetta.intake.handover import HandOver, hand_over
from staffetta.intake.probes import Probes
from staffetta.intake.refusals import RefusalJournal
from staffetta.intake.signing import SigningRoom
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.mail.identity import IdentitySource
from staffetta.mail.network import NetworkSet
from staffetta.observe.events import Event
from staffetta.policy.acceptance import AcceptanceSettings
from staffetta.policy.door import Door
from staffetta.policy.rate import Connections, LoginFailures
from staffetta.protocol.extensions import ServerSettings
from staffetta.spool.contract import Claim, Spool

if TYPE_CHECKING:
    from staffetta.intake.session import Session
    from staffetta.intake.transaction import Transaction

BUFFERED_OCTETS = 256 * 1024
"""What a client may send ahead while an answer is pending; then it has to wait."""


class DoorSettings(msgspec.Struct, frozen=True):
    """`[listen.NAME]` as the sessions need it. `context` makes the TLS context of a new connection."""

    door: Door
    core: ServerSettings
    implicit_tls: bool = False
    context: Callable[[], ssl.SSLContext] | None = None
    trust: NetworkSet | None = None
    proxies: NetworkSet | None = None
    idle_seconds: float = 300.0
    acceptance: AcceptanceSettings = AcceptanceSettings()

    @property
    def name(self) -> str:
        """The door's name."""
        return self.door.name


class Outlet(Protocol):
    """Where accepted messages go on: delivery, seen from here."""

    def has_room(self, destination: str) -> bool:
        """True when a message for this destination may be claimed in the write that accepts it."""

    def offer(self, claim: Claim) -> None:
        """A claimed message is on disk."""

    def wake(self) -> None:
        """An unclaimed message is on disk."""


class Masks(Protocol):
    """Who watches for strangers behind trusted addresses (policy/masking). Its methods are quick and do not fail."""

    def greeted(self, session: Session) -> None:
        """A client said its name."""

    def withdrawn(self, client: str) -> bool:
        """True when this trusted address is not to be trusted any more."""

    def asked(self, session: Session, transaction: Transaction, *, outside: bool) -> None:
        """A recipient was taken because the client's address is trusted."""


class House(msgspec.Struct):
    """What every session uses.

    `spawn` is the loop's create_task: asking for the running loop costs a system call each time. `hand_over` is another
    one where the store and delivery are in another process.
    """

    spool: Spool
    directory: Directory
    logins: Logins
    destination: Callable[[Mailbox, ReversePath], str]
    outlet: Outlet
    identities: IdentitySource
    refusals: RefusalJournal
    connections: Connections
    login_failures: LoginFailures
    emit: Callable[[Event], None]
    report: Callable[[Exception], None]
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    hostname: str
    sessions: set[Session]
    tasks: set[asyncio.Task[None]]
    signing: SigningRoom | None = None
    examining: ExaminingRoom | None = None
    hand_over: HandOver = hand_over
    forecaster: Forecaster | None = None
    probes: Probes | None = None
    masks: Masks | None = None
