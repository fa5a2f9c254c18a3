"""One mail transaction, seen from the client: MAIL, RCPT, DATA or BDAT, and what each reply means for whom.

RFC 5321 section 3.3, RFC 2920 section 3.1 (pipelining), RFC 3030 (BDAT), RFC 2033 section 4.2 (LMTP: a reply for
each accepted recipient). Replies come in, bytes and outcomes go out; the core is total: any reply at any moment ends
in exactly one outcome for each recipient.
This module refuses to know content, sockets and time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import Reply
from staffetta.protocol.client_commands import Commands
from staffetta.protocol.content import END_OF_DATA
from staffetta.protocol.verdict import OUT_OF_STEP, judge, judge_recipient, ours

REPLY: Final = 0
"""Phase: give the next reply to `receive`."""

CONTENT: Final = 1
"""Phase: send content (for BDAT: the next chunk), then call `content_sent`."""

DONE: Final = 2
"""Phase: `outcomes` holds one outcome per recipient."""


class Manner(msgspec.Struct, frozen=True, gc=False):
    """How to talk: all envelope commands in one go, BDAT in place of DATA, LMTP in place of SMTP."""

    pipelining: bool = False
    chunking: bool = False
    lmtp: bool = False


class Transaction:
    """Made for one message and dropped after it.

    `phase` says what is to be done, `stage` (vocabulary of Outcome) what is being answered. `heard` turns true at the
    first reply to MAIL. At the end, `closed` says that the session is over, `reset_needed` that RSET must come before
    the next MAIL.
    """

    __slots__ = (
        "_accepted",
        "_answered",
        "_commands",
        "_manner",
        "_refused",
        "_reset",
        "_slots",
        "closed",
        "heard",
        "phase",
        "reset_needed",
        "stage",
    )

    def __init__(self, commands: Commands, manner: Manner, *, reset: bool = False) -> None:
        self._commands = commands
        self._manner = manner
        self._reset = reset
        self._slots: list[Outcome | None] = [None] * len(commands.recipients)
        self._accepted: list[int] = []
        self._answered = 0
        self._refused: Outcome | None = None
        self.phase = REPLY
        self.stage = "mail"
        self.heard = False
        self.closed = False
        self.reset_needed = False

    @property
    def outcomes(self) -> list[Outcome]:
        """One for each recipient, in order. Only when DONE."""
        if self.phase != DONE:
            raise RuntimeError("the transaction is not over")
        return self._slots  # type: ignore[return-value]

    def begin(self) -> bytes:
        """What to write first."""
        commands = self._commands
        if not self._manner.pipelining:
            return b"RSET\r\n" if self._reset else self._encode(commands.mail)
        parts = ["RSET\r\n", commands.mail] if self._reset else [commands.mail]
        parts += commands.recipients
        if not self._manner.chunking:
            parts.append("DATA\r\n")
        return self._encode("".join(parts), len(parts))

    def receive(self, reply: Reply) -> bytes:
        """The answer to the oldest unanswered command; what to write next, b"" for nothing."""
        code = reply.code
        stage = self.stage
        if code == 421:
            self._reset = False
            self.heard = self.heard or stage != "mail"
            self._close(judge(reply, Scope.SESSION, stage))
            return b""
        if stage == "rcpt":
            return self._after_rcpt(reply)
        if stage == "dot":
            return self._after_dot(reply)
        if stage == "mail":
            return self._after_mail(reply)
        if stage == "data":
            return self._after_data(reply)
        return self._after_chunk(reply)

    def content_sent(self, *, last: bool = True) -> None:
        """The content, or a chunk of it, was written. `last`: with its end."""
        self.phase = REPLY
        if last:
            self.stage = "dot"

    def fail(self, reply: Reply) -> None:
        """No further reply will come, or none that can be used: `reply` is ours. After the final dot: in doubt."""
        self._close(ours(reply, Scope.SESSION, self.stage, in_doubt=self.stage == "dot"))

    def abandon(self, outcome: Outcome) -> None:
        """The content cannot be sent to its end, or the server said so before its end: the session goes with it."""
        self._close(outcome)

    # What each reply means.

    def _after_mail(self, reply: Reply) -> bytes:
        code = reply.code
        pipelining = self._manner.pipelining
        if self._reset:
            self._reset = False
            if not 200 <= code < 300:
                self.fail(OUT_OF_STEP)
                return b""
            return b"" if pipelining else self._encode(self._commands.mail)
        self.heard = True
        self.stage = "rcpt"
        if 200 <= code < 300:
            self.reset_needed = True
            return b"" if pipelining else self._next_rcpt()
        self.stage = "mail"
        if code < 400:
            self.fail(OUT_OF_STEP)
            return b""
        self._refused = judge(reply, Scope.MESSAGE, "mail")
        if pipelining:
            self.stage = "rcpt"
        else:
            self._finish()
        return b""

    def _next_rcpt(self) -> bytes:
        return self._encode(self._commands.recipients[self._answered])

    def _encode(self, text: str, commands: int = 1) -> bytes:
        """The commands as they leave. ValueError is our bug: parsed addresses hold no line ends."""
        group = text.encode(self._commands.encoding)
        if group.count(b"\n") != commands or group.count(b"\r") != commands or b"\0" in group:
            raise ValueError("an envelope holds a line end")
        return group

    def _after_rcpt(self, reply: Reply) -> bytes:
        code = reply.code
        number = self._answered
        self._answered = number + 1
        if self._refused is None:
            if 200 <= code < 300:
                self._accepted.append(number)
            elif code < 400:
                self.fail(OUT_OF_STEP)
                return b""
            else:
                self._slots[number] = judge_recipient(reply)
        manner = self._manner
        if self._answered < len(self._slots):
            return b"" if manner.pipelining else self._next_rcpt()
        if manner.pipelining and not manner.chunking:
            self.stage = "data"
            return b""
        if not self._accepted:
            self._finish()
            return b""
        if manner.chunking:
            self.stage = "content"
            self.phase = CONTENT
            return b""
        self.stage = "data"
        return b"DATA\r\n"

    def _after_data(self, reply: Reply) -> bytes:
        code = reply.code
        if 300 <= code < 400:
            if self._accepted:
                self.stage = "content"
                self.phase = CONTENT
                return b""
            if self._manner.lmtp:
                # Nobody says how many replies follow when there is no recipient: leave.
                self.closed = True
                self._finish()
                return b""
            # RFC 2920 section 3.1: a server that takes DATA without a recipient is given an empty message.
            self.stage = "dot"
            return END_OF_DATA
        if code < 300:
            self.fail(OUT_OF_STEP)
            return b""
        self._conclude(judge(reply, Scope.MESSAGE, "data"))
        return b""

    def _after_chunk(self, reply: Reply) -> bytes:
        code = reply.code
        if 200 <= code < 300:
            self.phase = CONTENT
        elif code < 400:
            self.fail(OUT_OF_STEP)
        else:
            self._conclude(judge(reply, Scope.MESSAGE, "content"))
        return b""

    def _after_dot(self, reply: Reply) -> bytes:
        code = reply.code
        accepted = self._accepted
        if accepted and 300 <= code < 400:
            self.fail(OUT_OF_STEP)
            return b""
        if self._manner.lmtp:
            number = accepted.pop(0)
            self._slots[number] = _final(reply, Scope.RECIPIENT)
            if accepted:
                return b""
            self.reset_needed = False
            self._finish()
            return b""
        self.reset_needed = False
        self._conclude(_final(reply, Scope.MESSAGE))
        return b""

    # Endings.

    def _conclude(self, outcome: Outcome) -> None:
        """One outcome for all that were accepted."""
        for number in self._accepted:
            self._slots[number] = outcome
        self._finish()

    def _close(self, outcome: Outcome) -> None:
        """The session is over: `outcome` for everybody who is undecided."""
        self.closed = True
        if self.stage == "dot" and self._manner.lmtp and self._accepted and not outcome.in_doubt:
            # 421 answered for one recipient; of the next ones the server may have kept the message.
            self._slots[self._accepted.pop(0)] = outcome
            outcome = Outcome(Result.DEFERRED, Scope.SESSION, outcome.reply, "dot", in_doubt=True)
        if self._refused is None:
            self._refused = outcome
        self._finish()

    def _finish(self) -> None:
        self.phase = DONE
        refused = self._refused
        if refused is not None:
            slots = self._slots
            for number, outcome in enumerate(slots):
                if outcome is None:
                    slots[number] = refused


def _final(reply: Reply, scope: Scope) -> Outcome:
    if reply.code < 300:
        return Outcome(Result.DELIVERED, scope, reply, "dot")
    return judge(reply, scope, "dot")
