"""A relay's doors in memory: real sessions over wires that lead nowhere, into a spool that is thrown away.

What `explain session` and `check relay` say is what these sessions do, so it cannot differ from what the doors do.
Two things are pretended: TLS (the wire is this process's own memory; the session is told that it is encrypted), and,
where the question names a login, its password. Nothing of this is reachable from the network.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import msgspec

from staffetta.accounts.login import LoginResult, Logins, LoginVerdict, login_name
from staffetta.accounts.store import AccountStore, AccountsUnavailable
from staffetta.control.dialogue import Dialogue
from staffetta.intake.door import DoorSettings, House
from staffetta.intake.session import Session
from staffetta.mail.address import Mailbox
from staffetta.net.channel import Channel
from staffetta.net.contract import Endpoint, TlsFacts
from staffetta.net.memory import memory_pair
from staffetta.net.stream import TcpStream
from staffetta.net.tls import ServerCertificate
from staffetta.observe.events import Event
from staffetta.protocol.sasl import ScramKeys
from staffetta.spool.contract import Claim, NewMessage
from staffetta.spool.memory import MemorySpool

PRETENDED: Final = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384")
"""What the sessions of a dry run believe of their TLS."""

_OURS: Final = ("192.0.2.25", "2001:db8::25")
"""Our end of a wire, by the family of the client's end."""


class DryDoor(msgspec.Struct, frozen=True):
    """One door with one kind of TLS; `port` is the first at which it would listen."""

    settings: DoorSettings
    port: int

    @property
    def name(self) -> str:
        """The name of `[listen.NAME]`."""
        return self.settings.name

    @property
    def title(self) -> str:
        """The name, and the port where it tells doors of one name apart."""
        return f"{self.name} (TLS from the start)" if self.settings.implicit_tls else self.name


class DryRun(msgspec.Struct, frozen=True):
    """The doors, the house behind them, and everything that has happened."""

    house: House
    doors: tuple[DryDoor, ...]
    spool: DrySpool
    events: list[Event]

    def connect(self, door: DryDoor, client: str) -> Dialogue:
        """A client at a door."""
        return self.meet(door, client)[0]

    def meet(self, door: DryDoor, client: str) -> tuple[Dialogue, Session]:
        """A client at a door, and the session that answers it."""
        channels: list[Channel] = []
        sessions: list[Session] = []

        def own(stream: TcpStream) -> Channel:
            channels.append(Channel(stream))
            return channels[-1]

        def greet(stream: TcpStream) -> Session:
            sessions.append(Session(stream, self.house, door.settings))
            return sessions[-1]

        names = (Endpoint(client, 49152), Endpoint(_OURS[":" in client], door.port or 25))
        memory_pair(TcpStream(own), _UnencryptedStream(greet), names=names)
        return Dialogue(channels[0]), sessions[0]

    async def close(self) -> None:
        """End what is still going on."""
        for session in list(self.house.sessions):
            session.stream.abort()
        await asyncio.sleep(0)
        if self.house.tasks:
            await asyncio.wait(self.house.tasks, timeout=5)
        await self.house.refusals.close()
        self.house.logins.close()


class DrySpool(MemorySpool):
    """A spool in memory that remembers what was committed to it, until `forget`."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.accepted: list[NewMessage] = []

    async def commit(self, new: NewMessage) -> None:
        """See Spool."""
        self.accepted.append(new)

    def forget(self) -> None:
        """As if nothing had been taken."""
        self.accepted.clear()
        self.journal.clear()


class Later:
    """Where accepted mail goes on when this process delivers nothing. See intake.door.Outlet."""

    def has_room(self, destination: str) -> bool:
        """Nothing is claimed here."""
        return False

    def offer(self, claim: Claim) -> None:
        """Never called: nothing is claimed."""

    def wake(self) -> None:
        """There is nobody to wake; a relay looks by itself."""


class UnreadCertificate(ServerCertificate):
    """Stands for the certificate of the configuration, whose files are not looked at."""

    def __init__(self) -> None:
        self.fault = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate = self.key = Path()

    def context(self, listener: str, *, legacy: bool = False) -> ssl.SSLContext:
        """A context that nobody shakes hands with."""
        return self._context


class PresumedLogin(Logins):
    """Believes one name, whatever the password, and nobody else. For dry runs only."""

    def __init__(self, store: AccountStore, login: Mailbox | None) -> None:
        super().__init__(store, threads=1, decoy="")  # it hashes nothing, and may be made on a relay's own loop
        self._accounts = store
        self._login = login.folded() if login is not None else None

    def look(self, mailbox: Mailbox | None, password: str) -> LoginVerdict:
        """Is it the one?"""
        name = "" if mailbox is None else str(mailbox)
        if mailbox is None or mailbox != self._login:
            return LoginVerdict(LoginResult.REFUSED, name, "wrong password")
        try:
            account = self._accounts.get(mailbox)
        except AccountsUnavailable as error:
            return LoginVerdict(LoginResult.PUT_OFF, name, str(error))
        if account is None:
            return LoginVerdict(LoginResult.REFUSED, name, "no such account")
        return LoginVerdict(LoginResult.ACCEPTED, name, "", account)

    def scram_keys(self, username: str) -> ScramKeys:
        """Nobody proves anything here. Raises AccountsUnavailable."""
        raise AccountsUnavailable("a dry run knows no passwords")

    def proven(self, username: str) -> LoginVerdict:
        """The same."""
        return self.look(login_name(username), "")


class _UnencryptedStream(TcpStream):
    """A stream that says it has shaken hands as soon as it is asked to, and goes on in clear."""

    __slots__ = ()

    def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None, received: bytes = b""
    ) -> None:
        """Pretend."""
        asyncio.get_running_loop().call_soon(self._pretend, received)

    def _pretend(self, received: bytes) -> None:
        if self._closing:
            return
        self.tls = PRETENDED
        self._handler.tls_established(PRETENDED)
        if received:
            self._handler.bytes_received(received)
