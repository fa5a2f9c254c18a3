"""One conversation of the sentinel with one door: connected, played, judged by what the door's own session would keep.

A reply alone proves nothing: a form may rightly be taken as a local part of ours. So the session at the other end, in
this same process, is looked into after each line; what counts is whether anything of its transaction would leave. No
content is ever sent, so nothing can be accepted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import msgspec

from staffetta.app.sentinel_targets import MEMORY, PROXY, Target
from staffetta.control.check_relay import Said, stays_here
from staffetta.control.dialogue import Dialogue, DialogueOver
from staffetta.control.dry_run import DryDoor, DryRun
from staffetta.control.relay_trials import Trial
from staffetta.intake.door import House
from staffetta.intake.probes import Probe, Probes
from staffetta.intake.session import Session
from staffetta.mail.address import Mailbox
from staffetta.net.channel import Channel, ChannelClosed, ChannelTimeout
from staffetta.net.contract import Endpoint
from staffetta.net.endpoint import endpoint_of
from staffetta.net.engine import TlsFailed
from staffetta.net.stream import TcpStream
from staffetta.net.tls import ClientContexts

CONNECT_SECONDS: Final = 5.0
"""A door of this machine answers at once, unless something is in the way."""

TRICK_LINES: Final = 64
"""Lines of a dialogue that are kept for showing."""


class NotAsked(Exception):
    """The door cannot be asked; the message says why."""


class Line(msgspec.Struct, frozen=True):
    """A conversation; `probe` leads to the session at the door's end, `close` hangs up."""

    dialogue: Dialogue
    probe: Probe


class Lines:
    """Makes conversations with the doors of one house. `dry` is the same house in memory."""

    def __init__(self, probes: Probes, dry: DryRun) -> None:
        self._probes = probes
        self._dry = dry
        self._contexts = ClientContexts()

    async def open(self, target: Target) -> Line:
        """Connect, greet, say EHLO. Raises NotAsked."""
        line = self._in_memory(target) if target.way == MEMORY else await self._over_tcp(target)
        try:
            greeting = await line.dialogue.hear()
            if line.probe.session is None:
                raise NotAsked("somebody else answered, or the connection was rewritten on its way")
            if greeting.code != 220:
                raise NotAsked(f"it said {greeting}")
            await line.dialogue.say("EHLO localhost")
        except (DialogueOver, NotAsked) as error:
            line.dialogue.close()
            raise NotAsked(str(error)) from error
        return line

    def _in_memory(self, target: Target) -> Line:
        probe = Probe()
        dialogue, probe.session = self._dry.meet(DryDoor(target.settings, target.to.port), target.client)
        return Line(dialogue, probe)

    async def _over_tcp(self, target: Target) -> Line:
        deadline = asyncio.get_running_loop().time() + CONNECT_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                channel, probe = await self._connect(target)
        except (OSError, TimeoutError) as error:
            raise NotAsked(f"no connection from {target.source}: {_words(error)}") from error
        try:
            if target.way == PROXY:
                channel.write(_proxy_header(target))
            if target.settings.implicit_tls:
                await channel.start_tls(self._contexts.unverified(), server_name=None, deadline=deadline)
        except (ChannelClosed, ChannelTimeout, TlsFailed) as error:
            channel.abort()
            raise NotAsked(f"no TLS: {error}") from error
        return Line(Dialogue(channel), probe)

    async def _connect(self, target: Target) -> tuple[Channel, Probe]:
        """Bind first, so that the door can be told who will come. Raises OSError."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET6 if ":" in target.source else socket.AF_INET, socket.SOCK_STREAM)
        near: Endpoint | None = None
        try:
            sock.setblocking(False)
            sock.bind((target.source, 0))
            near = endpoint_of(sock.getsockname()) or Endpoint(target.source, 0)
            probe = self._probes.expect(near, target.to)
            await self._probes.announced(near, target.to)
            await loop.sock_connect(sock, (target.to.address, target.to.port))
            channels: list[Channel] = []

            def own(stream: TcpStream) -> Channel:
                channels.append(Channel(stream))
                return channels[0]

            await loop.create_connection(lambda: TcpStream(own), sock=sock)
        except BaseException:
            sock.close()
            if near is not None:
                self._probes.forget(near, target.to)
            raise
        return channels[0], probe


class Judge(msgspec.Struct, frozen=True):
    """What counts as taken: recipients that leave, and that the configuration does not name itself (`named`)."""

    house: House
    named: frozenset[Mailbox]

    def outside(self, session: Session) -> tuple[str, ...]:
        """Whom the session's transaction would reach outside."""
        transaction = session.transaction
        if transaction is None:
            return ()
        waiting = transaction.waiting("", 0.0, self.house.destination)
        found = [one.address for one in waiting if not stays_here(one.destination) and one.address not in self.named]
        return tuple(dict.fromkeys(map(str, found)))


class Played(msgspec.Struct, frozen=True):
    """How a trial went. `went_to` is empty where nothing was taken."""

    dialogue: tuple[Said, ...] = ()
    went_to: tuple[str, ...] = ()
    rule: str = ""


async def play(line: Line, trial: Trial, judge: Judge, tell: Callable[[Played], None]) -> None:
    """Say the lines of a trial, then RSET; `tell` is called once, if something was taken. Raises DialogueOver."""
    session = line.probe.session
    assert session is not None  # noqa: S101 - see Lines.open
    heard: list[Said] = []
    told = False
    for said in trial.lines:
        answer = await line.dialogue.say(said)
        heard.append(Said(said, str(answer)))
        outside = judge.outside(session)
        if outside and not told:
            told = True
            transaction = session.transaction
            rule = transaction.rule if transaction is not None else ""
            tell(Played(tuple(heard[-TRICK_LINES:]), outside, rule))
    await line.dialogue.say("RSET")


def _proxy_header(target: Target) -> bytes:
    family = "TCP6" if ":" in target.client else "TCP4"
    return f"PROXY {family} {target.client} {target.to.address} 49152 {target.to.port}\r\n".encode()


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or "no answer in time"
