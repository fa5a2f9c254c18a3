"""One client's session: it owns the stream, pumps bytes into the protocol core and answers its events.

Commands are answered at once, in callbacks: no task, no waiting. Only what must ask somebody (a password, the disk)
pauses the pump; while it is paused the peer's bytes wait in the core, bounded because reading is paused too.
RFC 5321 sections 3 and 4; deadlines: section 4.5.3.2.7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from staffetta.intake.authentication import Authentication
from staffetta.intake.door import DoorSettings
from staffetta.intake.house import House
from staffetta.intake.transaction import Transaction
from staffetta.mail.reply import Reply, reply
from staffetta.net.contract import Endpoint, Stream, TlsFacts
from staffetta.observe.events import Connect, Disconnect, Refuse, encode, moment
from staffetta.policy.verdict import Refusal
from staffetta.protocol import events as said
from staffetta.protocol.proxy import ProxyReader
from staffetta.protocol.server import ServerConnection
from staffetta.spool.contract import JournalEntry

OK: Final = reply(250, "2.0.0", "ok")
SENDER_OK: Final = reply(250, "2.1.0", "sender ok")
RECIPIENT_OK: Final = reply(250, "2.1.5", "recipient ok")
GO_AHEAD: Final = reply(354, "", "end with <CRLF>.<CRLF>")
BYE: Final = reply(221, "2.0.0", "bye")
TLS_GO: Final = reply(220, "2.0.0", "ready to start TLS")
TIMEOUT: Final = reply(421, "4.4.2", "timeout, closing")
STOPPING: Final = reply(421, "4.3.2", "shutting down, try again in a moment")
TOO_SLOW: Final = reply(421, "4.4.2", "too slow, closing")
BROKEN: Final = reply(451, "4.3.0", "internal error, try again later")
EARLY: Final = reply(554, "5.5.1", "you spoke before the greeting")

SLOW_GRACE_SECONDS: Final = 60.0
"""How long content may come at any speed."""

SLOWEST_OCTETS_PER_SECOND: Final = 64
"""Least average speed of content after the grace."""

PROXY_SECONDS: Final = 10.0
"""A listed proxy sends its header at once."""

HANDSHAKE_SECONDS: Final = 30.0
"""A TLS handshake takes two round trips."""


class Session:
    """The handler of one incoming stream (net.contract.StreamHandler)."""

    __slots__ = (
        "__weakref__",
        "authentication",
        "bytes",
        "client",
        "content_began",
        "content_octets",
        "core",
        "deadline",
        "door",
        "helo",
        "house",
        "id",
        "login",
        "paused",
        "proxy",
        "reason",
        "stopping",
        "stream",
        "task",
        "transaction",
        "trusted",
        "waiting",
    )

    def __init__(self, stream: Stream, house: House, door: DoorSettings) -> None:
        self.stream = stream
        self.house = house
        self.door = door
        self.id = house.identities.new(house.clock())
        self.client: Endpoint = stream.peer
        self.trusted = False
        self.helo = ""
        self.login = ""
        self.bytes = 0
        self.reason = ""
        self.core: ServerConnection | None = None
        self.transaction: Transaction | None = None
        self.authentication: Authentication | None = None
        self.task: asyncio.Task[None] | None = None
        self.proxy: ProxyReader | None = None
        self.waiting = False  # an event waits for its answer: the pump stands still
        self.paused = False  # the peer reads too slowly: produce nothing more
        self.stopping = False
        self.content_began = 0.0
        self.content_octets = 0
        self.deadline = house.monotonic() + PROXY_SECONDS
        if door.proxies is not None and stream.peer.address in door.proxies:
            self.proxy = ProxyReader()
        else:
            self._begin(b"")

    # What the stream says.

    def bytes_received(self, data: bytes) -> None:
        """Octets from the client."""
        self.bytes += len(data)
        core = self.core
        if core is None:
            self._before_greeting(data)
            return
        core.receive(data)
        if not self.waiting:
            self._pump(core)
        elif core.buffered > self.door.buffered_octets:
            self.stream.pause_reading()

    def peer_finished(self) -> None:
        """The client will send no more: nothing unfinished of it counts."""
        if self.task is None:
            self.reason = self.reason or "the client left"
            self.stream.close()

    def tls_established(self, facts: TlsFacts) -> None:
        """Everything said before is forgotten; with implicit TLS the dialogue begins now."""
        if self.core is None:
            self._greet()
        else:
            self.helo = ""
            self.transaction = None
            self.core.tls_started()
        self._touch()

    def write_blocked(self, blocked: bool) -> None:
        """A client that does not read its replies gets no more of them."""
        self.paused = blocked
        if blocked:
            self.stream.pause_reading()
        else:
            self.stream.resume_reading()
            self._resume()

    def stream_closed(self, error: Exception | None) -> None:
        """The stream is gone."""
        if self.task is not None:
            self.task.cancel()
        self._drop_transaction()
        house = self.house
        house.sessions.left(self)
        if not self.reason and error is not None:
            self.reason = str(error)
        house.emit(
            Disconnect(
                time=moment(house.clock()),
                session=self.id,
                listener=self.door.name,
                client=self.client.address,
                tls=str(self.stream.tls or ""),
                bytes=self.bytes,
                reason=self.reason or "quit",
            )
        )

    # What the house says.

    def expire(self, now: float) -> None:
        """The deadline passed."""
        self._say_goodbye(TOO_SLOW if self.content_began else TIMEOUT, "timeout")

    def check_speed(self, now: float) -> None:
        """Cut off content that trickles in slower than anybody's line."""
        if self.content_began:
            seconds = now - self.content_began
            if seconds > SLOW_GRACE_SECONDS and self.content_octets < seconds * SLOWEST_OCTETS_PER_SECOND:
                self._say_goodbye(TOO_SLOW, "slower than the minimum data rate")

    def stop(self) -> None:
        """The relay stops: say 421 at the next command boundary (RFC 5321 section 3.8)."""
        self.stopping = True
        if not self.waiting and self.transaction is None:
            self._say_goodbye(STOPPING, "stopping")

    # Beginning.

    def _begin(self, received: bytes) -> None:
        """Who the client is stands fast: judge it, then TLS or the greeting."""
        house, door = self.house, self.door
        self.trusted = door.trust is not None and self.client.address in door.trust
        house.emit(
            Connect(
                time=moment(house.clock()),
                session=self.id,
                listener=door.name,
                client=self.client.address,
                tls="implicit" if door.implicit_tls else "",
            )
        )
        refusal = house.sessions.admit(self)
        if refusal is not None:
            self._turn_away(refusal)
            return
        if door.implicit_tls:
            self.deadline = house.monotonic() + HANDSHAKE_SECONDS
            self.stream.start_tls(door.context(), server_side=True, received=received)
            return
        self._greet()
        if received:
            self.core = None
            self._turn_away(Refusal(EARLY, "early_talker", "octets behind the PROXY header, before the greeting"))

    def _before_greeting(self, data: bytes) -> None:
        proxy = self.proxy
        if proxy is None:
            self._turn_away(Refusal(EARLY, "early_talker", "octets before the greeting"))
            return
        found = proxy.feed(data)
        if found is None:
            return
        self.proxy = None
        if found.error:
            self.reason = f"PROXY header: {found.error}"
            self.stream.abort()
            return
        if found.source is not None:
            self.client = found.source
        self._begin(found.rest)

    def _greet(self) -> None:
        core = self.core = ServerConnection(self.door.core, tls=self.stream.tls is not None)
        core.greet()
        self.stream.write(core.take_output())
        self._touch()

    def _turn_away(self, refusal: Refusal) -> None:
        self.refused("connect", refusal)
        if not self.door.implicit_tls or self.stream.tls is not None:
            self.stream.write(refusal.reply.encode())
        self.reason = refusal.reason
        self.stream.close()

    # The pump.

    def _pump(self, core: ServerConnection) -> None:
        while not (self.waiting or self.paused):
            event = core.next_event()
            if event is None:
                break
            HANDLERS[type(event)](self, event, core)
        output = core.take_output()
        if output:
            self.stream.write(output)
        if core.closing:
            self.reason = self.reason or "closed by us"
            self.stream.close()
        elif self.stopping and not self.waiting and self.transaction is None:
            self._say_goodbye(STOPPING, "stopping")

    def _resume(self) -> None:
        core = self.core
        if core is not None and not (self.waiting or self.paused):
            self.stream.resume_reading()
            self._touch()
            self._pump(core)

    def _touch(self) -> None:
        self.deadline = self.house.monotonic() + self.door.idle_seconds

    def later(self, work: Coroutine[Any, Any, Reply], done: Callable[[Reply], None] | None = None) -> None:
        """Answer the current event when `work` has its reply; until then the pump stands still."""
        self.waiting = True
        self.deadline = float("inf")  # it waits for us, not we for it
        self.task = asyncio.create_task(self._wait_for(work))

    async def _wait_for(self, work: Coroutine[Any, Any, Reply]) -> None:
        try:
            answer = await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.house.report(error)
            answer = BROKEN
        self.task = None
        self.answer(answer)

    def answer(self, answer: Reply) -> None:
        """The answer to the event that waits, from outside the pump."""
        core = self.core
        self.waiting = False
        if core is None:
            return
        core.answer(answer)
        self._resume()
