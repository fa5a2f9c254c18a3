"""Taking turns: octets wait until it is their turn, events wait for answers, replies go out in order.

The half of the server core that knows no command: it runs the phase that is on, counts mistakes and closes. RFC 5321
section 3.8 (421), RFC 2920 (replies of a pipelined batch are written together).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from types import FunctionType
from typing import Any, Final, Literal

from staffetta.mail.reply import Reply
from staffetta.protocol import refusals
from staffetta.protocol.events import Event, Violation
from staffetta.protocol.extensions import ServerSettings
from staffetta.protocol.framing import Inbox
from staffetta.protocol.states import State


class More(Enum):
    """What a phase returns when it cannot go on."""

    OCTETS = "octets"


MORE: Final = More.OCTETS
Step = Event | Literal[More.OCTETS] | None
"""An event; more octets are needed; or None: go on."""

Phase = Callable[[Any], Step]
"""What the octets are for at the moment. It is given the session. A plain function, which is not called without octets,
or an object with its own state, which is: it may have something to say when its last octets are used. Never a bound
method of the session, which would be a circle in memory."""


@lru_cache(maxsize=256)
def encoded(reply: Reply) -> bytes:
    """`reply.encode()`, for replies that are said again and again."""
    return reply.encode()


class Turns:
    """One session's octets, events and replies. The subclass brings the phases.

    The owner uses the methods, `closing` and `buffered`; the other attributes are for the phases.
    """

    __slots__ = (
        "answered",
        "closing",
        "command_phase",
        "deaf",
        "errors",
        "inbox",
        "output",
        "phase",
        "queued",
        "settings",
        "state",
    )

    def __init__(self, settings: ServerSettings, command_phase: Phase, *, tls: bool) -> None:
        self.settings: Final = settings
        self.command_phase: Final = command_phase
        self.closing = False
        """True when nothing more will be read: write the output, then close."""
        self.phase = command_phase
        self.state = State(tls)
        self.inbox: Final = Inbox()
        self.output: list[bytes] = []
        self.answered: Callable[[Any, Reply], None] | None = None
        self.queued: Event | None = None
        self.deaf = False
        self.errors = 0

    # What the owner calls.

    def receive(self, data: bytes) -> None:
        """Octets from the peer, in order."""
        if self.closing:
            return
        if self.deaf:
            # Said in clear after 220: never to be taken for something said under TLS.
            self.closing = True
            self.queued = Violation(None, "starttls_pipelining", "starttls")
            return
        self.inbox.receive(data)

    @property
    def buffered(self) -> int:
        """Octets received and not used yet; stop reading when it grows while an answer is pending."""
        return self.inbox.octets

    def next_event(self) -> Event | None:
        """Go on until something happens. None: more octets are needed, an answer is missing, or all is over."""
        event = self.queued
        if event is not None:
            self.queued = None
            return event
        if self.answered is not None:
            return None
        inbox = self.inbox
        if inbox.later is not None:
            inbox.gather()
        elif not inbox.buffer and type(self.phase) is FunctionType:
            return None  # the usual case: nothing came behind the command that was answered
        while not self.closing:
            step = self.phase(self)
            if step is MORE:
                inbox.compact()
                return None
            if step is not None:
                return step
        inbox.clear()
        return None

    def answer(self, reply: Reply) -> None:
        """The answer to the event that `next_event` returned last; 421 also ends the session."""
        answered = self.answered
        if answered is None:
            raise RuntimeError("no event waits for an answer")
        self.answered = None
        answered(self, reply)
        if reply.code == 421:
            self.closing = True

    def take_output(self) -> bytes:
        """Everything that is to be written now."""
        output = self.output
        if not output:
            return b""
        self.output = []
        return output[0] if len(output) == 1 else b"".join(output)

    # What the phases call.

    def refuse(self, reply: Reply, rule: str, stage: str, excerpt: str = "", *, ends: bool = False) -> Violation:
        """Say no and count it; too many mistakes end the session. `excerpt` must be printable and hold no secret."""
        self.output.append(encoded(reply))
        if reply is not refusals.TOO_MANY_RECIPIENTS:
            self.errors += 1
            if self.errors > self.settings.errors and not self.closing:
                self.output.append(encoded(refusals.TOO_MANY_ERRORS))
                self.closing = True
        if ends:
            ends = self.state.transaction is not None
            self.state.transaction = None
        return Violation(reply, rule, stage, excerpt, ends)

    def shut(self, reply: Reply, rule: str, stage: str, excerpt: str = "") -> Violation:
        """Say no and goodbye: the two sides no longer agree on what comes next."""
        self.closing = True
        return self.refuse(reply, rule, stage, excerpt, ends=True)

    def cut_off(self, rule: str) -> Violation:
        """Close without a word: this is not a mail client."""
        self.closing = True
        ends = self.state.transaction is not None
        self.state.transaction = None
        return Violation(None, rule, "command", "", ends)
