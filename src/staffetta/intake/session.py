"""One client's session: it owns the stream, pumps bytes into the protocol core and answers its events.

Commands are answered at once, in callbacks: no task, no waiting. Only what must ask somebody (a password, the disk)
pauses the pump; while it is paused the peer's bytes wait in the core, bounded because reading is paused too.
RFC 5321 sections 3 and 4; deadlines: section 4.5.3.2.7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from staffetta.intake.answers import ANSWERS
from staffetta.intake.door import BUFFERED_OCTETS, DoorSettings, House
from staffetta.intake.presence import EARLY_TALKER, connect_event, disconnect_event
from staffetta.intake.refusals import Why, refuse_event
from staffetta.intake.taking import BROKEN
from staffetta.intake.transaction import Transaction
from staffetta.mail.address import ReversePath
from staffetta.mail.reply import Reply, reply
from staffetta.net.contract import Stream, TlsFacts
from staffetta.observe.events import encode
from staffetta.policy.alignment import Rights
from staffetta.policy.verdict import Refusal
from staffetta.protocol.proxy import ProxyReader
from staffetta.protocol.server import ServerConnection
from staffetta.spool.contract import Draft, JournalEntry, SpoolUnavailable

TIMEOUT: Final = reply(421, "4.4.2", "timeout, closing")
STOPPING: Final = reply(421, "4.3.2", "shutting down, try again in a moment")
TOO_SLOW: Final = reply(421, "4.4.2", "too slow, closing")

SLOW_GRACE_SECONDS: Final = 60.0
"""How long content may come at any speed."""

SLOWEST_OCTETS_PER_SECOND: Final = 64
"""Least average speed of content after the grace."""

PROXY_SECONDS: Final = 10.0
"""A listed proxy sends its header at once."""

HANDSHAKE_SECONDS: Final = 30.0
"""A TLS handshake takes two round trips."""

FOREVER: Final = float("inf")


class Session:
    """The handler of one incoming stream (net.contract.StreamHandler)."""

    __slots__ = (
        "_admitted",
        "_at_door",
        "_blocked",
        "_core",
        "_finished",
        "_moved",
        "_proxy",
        "_received",
        "_stopping",
        "_task",
        "_waiting",
        "client",
        "content_began",
        "content_octets",
        "deadline",
        "door",
        "esmtp",
        "helo",
        "house",
        "id",
        "login",
        "opening",
        "probe",
        "reason",
        "rights",
        "stream",
        "transaction",
        "trusted",
    )

    def __init__(self, stream: Stream, house: House, door: DoorSettings, at_door: set[Session] | None = None) -> None:
        now = house.clock()
        self.stream = stream
        self.house = house
        self.door = door
        self.id = house.identities.new(now)
        self.client = stream.peer.address
        self.probe = house.probes is not None and house.probes.recognise(self)  # of our sentinel: nobody's news
        self.trusted = False
        self.helo = ""
        self.esmtp = False
        self.login = ""
        self.rights: Rights | None = None
        self.reason = ""
        self.opening: tuple[bytes, bytes] | None = None
        self.transaction: Transaction | None = None
        self.content_began = 0.0
        self.content_octets = 0
        self.deadline = FOREVER
        self._core: ServerConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._proxy: ProxyReader | None = None
        self._received = 0
        self._moved = False  # something was said or done since the clock was looked at: half a command is not
        self._admitted = False
        self._waiting = False  # an event waits for its answer: the pump stands still
        self._blocked = False  # the client does not read its replies
        self._finished = False  # the client will say no more
        self._stopping = False
        self._at_door = at_door  # who keeps the door finds its sessions there, from now until they are closed
        house.sessions.add(self)
        if at_door is not None:
            at_door.add(self)
        if door.proxies is not None and door.proxies.contains(self.client):
            self._proxy = ProxyReader()
            self.deadline = house.monotonic() + min(PROXY_SECONDS, door.idle_seconds)
        else:
            try:
                self._begin(now)
            except BaseException:  # nobody has us yet, so nobody will say that we are closed
                self._leave()
                raise

    # What the stream says.

    def bytes_received(self, data: bytes) -> None:
        """Octets from the client."""
        self._received += len(data)
        core = self._core
        if core is None:
            self._before_greeting(data)
            return
        core.receive(data)
        if not self._waiting:
            self._pump(core)
        elif core.buffered > BUFFERED_OCTETS:
            self.stream.pause_reading()

    def peer_finished(self) -> None:
        """The client will send no more: nothing unfinished of it counts."""
        self._finished = True
        if not self._waiting:
            self._end("the client left")

    def tls_established(self, facts: TlsFacts) -> None:
        """Everything said before is forgotten; with implicit TLS the dialogue begins now."""
        core = self._core
        if core is None:
            self._greet()
            return
        self.helo = ""
        self.opening = None
        core.tls_started()
        self._moved = True

    def write_blocked(self, blocked: bool) -> None:
        """A client that does not read its replies gets no more of them."""
        self._blocked = blocked
        if blocked:
            self.stream.pause_reading()
        elif self._core is not None and not self._waiting:
            self.stream.resume_reading()
            self._pump(self._core)

    def stream_closed(self, error: Exception | None) -> None:
        """The stream is gone. What was being committed goes on: the disk may have it already."""
        house = self.house
        self._leave()
        self._core = None  # what the client said before it went must not be acted on any more
        self.drop_transaction()
        if not self.probe:
            house.emit(disconnect_event(self, house.clock(), self._received, error))

    def _leave(self) -> None:
        self.house.sessions.discard(self)
        if self._at_door is not None:
            self._at_door.discard(self)
        if self._admitted:
            self.house.connections.leave(self.client)

    # What the house says.

    def look_at_clock(self, now: float) -> None:
        """Called every second or so: cut off who is idle, and content that trickles in slower than anybody's line."""
        if self._moved:
            self._moved = False
            self.deadline = FOREVER if self._waiting else now + self.door.idle_seconds
        if now >= self.deadline:
            self._say_goodbye(TIMEOUT, "timeout")
        elif self.content_began and not self._waiting:
            seconds = now - self.content_began
            if seconds > SLOW_GRACE_SECONDS and self.content_octets < seconds * SLOWEST_OCTETS_PER_SECOND:
                self._say_goodbye(TOO_SLOW, "slower than the minimum data rate")

    def stop(self) -> None:
        """The relay stops: 421 at the next command boundary (RFC 5321 section 3.8); content is taken to its end."""
        self._stopping = True
        if not self._waiting and not self.content_began:
            self._say_goodbye(STOPPING, "stopping")

    # Beginning.

    def _begin(self, now: float, received: bytes = b"", *, known: bool = True) -> None:
        """Who the client is stands fast: judge it, then TLS or the greeting."""
        house, door = self.house, self.door
        # A proxy that does not say whom it brings must not lend them the trust in its own address.
        self.trusted = known and door.trust is not None and door.trust.contains(self.client)
        if not self.probe:
            house.emit(connect_event(self, now))
        refusal = house.connections.enter(self.client)
        if refusal is not None:
            self._turn_away(refusal)
            return
        self._admitted = True
        if door.implicit_tls and door.context is not None:
            self.deadline = house.monotonic() + HANDSHAKE_SECONDS
            self.stream.start_tls(door.context(), server_side=True, received=received)
        elif received:
            self._turn_away(EARLY_TALKER)
        else:
            self._moved = True
            self.stream.after_arrivals(self._greet_who_waited)

    def _before_greeting(self, data: bytes) -> None:
        proxy = self._proxy
        if proxy is None:
            if self._admitted and not self.stream.closing:
                self._turn_away(EARLY_TALKER)
            return
        found = proxy.feed(data)
        if found is None:
            return
        self._proxy = None
        if found.error:
            self.reason = f"PROXY header: {found.error}"
            self.stream.abort()
            return
        if found.source is not None:
            self.client = found.source.address
        self._begin(self.house.clock(), found.rest, known=found.source is not None)

    def _greet_who_waited(self) -> None:
        if not self.stream.closing:  # it did not speak early, and is still there
            self._greet()

    def _greet(self) -> None:
        core = self._core = ServerConnection(self.door.core, tls=self.stream.tls is not None)
        core.greet()
        self.stream.write(core.take_output())
        self._moved = True

    def _turn_away(self, refusal: Refusal) -> None:
        self.note_refusal("connect", refusal.reply, Why(refusal.rule, refusal.reason))
        if not self.door.implicit_tls:
            self.stream.write(refusal.reply.encode())
        self._end(refusal.reason)

    def begin_tls(self) -> None:
        """After 220: the rest of this stream is TLS."""
        core = self._core
        if core is None or self.door.context is None:
            raise RuntimeError("STARTTLS at a door without a certificate")
        self.stream.write(core.take_output())
        self.deadline = self.house.monotonic() + HANDSHAKE_SECONDS
        self.drop_transaction()
        self._moved = False  # or the handshake would have the time of a command
        if not core.closing:  # closing: something was said in clear behind STARTTLS, and the core has refused
            self.stream.start_tls(self.door.context(), server_side=True)

    # The pump.

    def _pump(self, core: ServerConnection) -> None:
        while not (self._waiting or self._blocked):
            event = core.next_event()
            if event is None:
                break
            self._moved = True
            ANSWERS[type(event)](self, event, core)
        output = core.take_output()
        if output:
            self._moved = True
            self.stream.write(output)
        if core.closing:
            self._end("closed by us")
        elif self._finished and not self._waiting:
            self._end("the client left")
        elif self._stopping and not self._waiting and not self.content_began:
            self._say_goodbye(STOPPING, "stopping")

    def _end(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.stream.close()

    def wait(self) -> None:
        """The current event will be answered by `answer_later`; until then the pump stands still."""
        self._waiting = True

    def answer_later(self, answer: Reply) -> None:
        """The answer to the event that waits."""
        self._waiting = False
        core = self._core
        if core is not None:
            core.answer(answer)
            self._go_on(core)

    def answer_by(self, work: Coroutine[Any, Any, Reply]) -> None:
        """Answer the current event when `work` has its reply."""
        self._waiting = True
        self._task = self.house.spawn(self._answered(work))

    async def _answered(self, work: Coroutine[Any, Any, Reply]) -> None:
        try:
            answer = await work
        except Exception as error:
            self.house.report(error)
            answer = BROKEN
        self._task = None
        self.answer_later(answer)

    def pause_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Take no further event until `work` is done (content goes to disk); a failure refuses the message later."""
        self._waiting = True
        self._task = self.house.spawn(self._paused(work, self.transaction))

    async def _paused(self, work: Coroutine[Any, Any, None], transaction: Transaction | None) -> None:
        try:
            await work
        except Exception as error:
            if not isinstance(error, SpoolUnavailable):
                self.house.report(error)
            if transaction is not None:
                transaction.failed = error
        self._task = None
        self._waiting = False
        if transaction is not None and transaction is not self.transaction:
            self.discard(transaction.draft)  # dropped while its content was on its way to the disk
        if self._core is not None:
            self._go_on(self._core)

    def _go_on(self, core: ServerConnection) -> None:
        self._moved = True  # the client has its time again, also one that does not read
        if self._blocked:
            return
        self.stream.resume_reading()
        try:
            self._pump(core)
        except Exception as error:
            self.house.report(error)
            self.stream.abort()

    def _say_goodbye(self, answer: Reply, reason: str) -> None:
        self.reason = reason
        if self._core is not None:
            self.stream.write(answer.encode())
            self.stream.close()
        else:
            self.stream.abort()

    # Refusing.

    def refuse(self, stage: str, refusal: Refusal, *, recipient: str = "", sender: ReversePath | None = None) -> None:
        """Answer the current event with a refusal, and keep why."""
        core = self._core
        if core is None:
            raise RuntimeError("nobody asked")
        self.note_refusal(stage, refusal.reply, Why(refusal.rule, refusal.reason, recipient, sender))
        core.answer(refusal.reply)

    def note_refusal(self, stage: str, answer: Reply | None, why: Why) -> None:
        """One `refuse` event, in the log and in the journal."""
        if self.probe:
            return
        house = self.house
        event = refuse_event(self, stage, answer, why)
        house.emit(event)
        entry = JournalEntry(encode(event), event.time.timestamp(), session=self.id, message_id=event.message_id)
        house.refusals.add(entry)

    def drop_transaction(self) -> None:
        """Forget the transaction and what was stored of it."""
        transaction, self.transaction = self.transaction, None
        self.content_began = 0.0
        if transaction is not None and self._task is None:
            self.discard(transaction.draft)

    def discard(self, draft: Draft | None) -> None:
        """Give back what was stored of content that nobody takes."""
        if draft is not None and draft.number is not None:
            task = self.house.spawn(_discard(self.house, draft))
            self.house.tasks.add(task)
            task.add_done_callback(self.house.tasks.discard)


async def _discard(house: House, draft: Draft) -> None:
    with suppress(SpoolUnavailable):  # swept at the next start
        await house.spool.discard(draft)
