"""From the greeting to the first MAIL, seen from the client: EHLO or LHLO, STARTTLS, AUTH.

RFC 5321 sections 3.1, 3.2, 4.1.1.1; RFC 3207 section 4.2 (all knowledge is forgotten after TLS); RFC 4954; RFC 2033.
Replies come in, bytes go out; `phase` says what is to be done next. What refuses the session raises Refused, with an
outcome that speaks about the host: another host of the destination may do.
What follows is `protocol.transaction`. This module refuses to know sockets, contexts and time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import Reply
from staffetta.protocol.capabilities import NOTHING_OFFERED, Capabilities, parse_capabilities, server_name
from staffetta.protocol.client_sasl import (
    Credentials,
    Mechanism,
    SaslFailed,
    decode_challenge,
    encode_auth,
    encode_response,
    mechanisms,
)
from staffetta.protocol.verdict import LOGIN_IN_CLEAR, LOOP, NO_LOGIN, NO_TLS, NOT_PROVEN, OUT_OF_STEP, ours

REPLY: Final = 0
"""Phase: give the next reply to `receive`."""

HANDSHAKE: Final = 1
"""Phase: shake hands, then write what `secured` returns."""

READY: Final = 2
"""Phase: the session is open."""


class OpeningSettings(msgspec.Struct, frozen=True):
    """How to open a session.

    `hostname` is ours. `want_tls`: use STARTTLS where offered; `need_tls`: say nothing of interest without it.
    `detect_loop`: a server with our name is ourselves (not so for an LMTP server on the same machine).
    """

    hostname: str
    lmtp: bool = False
    want_tls: bool = True
    need_tls: bool = False
    detect_loop: bool = True
    credentials: Credentials | None = None


class Refused(Exception):
    """The session does not come about; `outcome` holds for every recipient that waits for it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome.reply))
        self.outcome = outcome


class ClientSettings(msgspec.Struct, frozen=True):
    """How long each step may take, in seconds: RFC 5321 section 4.5.3.2. `factor` shortens all of them alike."""

    greeting_seconds: float = 300.0
    mail_seconds: float = 300.0
    rcpt_seconds: float = 300.0
    data_seconds: float = 120.0
    block_seconds: float = 180.0
    dot_seconds: float = 600.0
    factor: float = 1.0

    def by_stage(self) -> dict[str, float]:
        """Stage of an Outcome to the seconds that a reply there may take; `content` is for one block."""
        return {
            "greeting": self.greeting_seconds * self.factor,
            "ehlo": self.mail_seconds * self.factor,
            "starttls": self.data_seconds * self.factor,
            "auth": self.data_seconds * self.factor,
            "mail": self.mail_seconds * self.factor,
            "rcpt": self.rcpt_seconds * self.factor,
            "data": self.data_seconds * self.factor,
            "content": self.block_seconds * self.factor,
            "dot": self.dot_seconds * self.factor,
        }


class Opening:
    """The opening dialogue of one session. `secure` says that TLS stands from the first octet.

    `heavy` is true when the next `receive` computes for long (SCRAM): give it to a thread.
    """

    __slots__ = ("_helo", "_mechanisms", "_nonce", "_settings", "capabilities", "phase", "secure", "stage")

    def __init__(self, settings: OpeningSettings, *, secure: bool, nonce: str) -> None:
        self._settings = settings
        self._nonce = nonce
        self._helo = False
        self._mechanisms: list[Mechanism] = []
        self.capabilities: Capabilities = NOTHING_OFFERED
        self.phase = REPLY
        self.stage = "greeting"
        self.secure = secure

    @property
    def heavy(self) -> bool:
        """True when a challenge of SCRAM is awaited."""
        return self.stage == "auth" and self._mechanisms[0].name == "SCRAM-SHA-256"

    def receive(self, reply: Reply) -> bytes:
        """The next reply; what to write then, b"" when the phase has changed. Raises Refused."""
        if self.stage == "greeting":
            return self._after_greeting(reply)
        if self.stage == "ehlo":
            return self._after_hello(reply)
        if self.stage == "starttls":
            return self._after_starttls(reply)
        return self._after_auth(reply)

    def secured(self) -> bytes:
        """The handshake is done: forget what was said before, and begin again."""
        self.secure = True
        self.capabilities = NOTHING_OFFERED
        self.phase = REPLY
        self._helo = False
        return self._hello()

    def _hello(self) -> bytes:
        self.stage = "ehlo"
        verb = "LHLO" if self._settings.lmtp else "HELO" if self._helo else "EHLO"
        return f"{verb} {self._settings.hostname}\r\n".encode("ascii")

    def _after_greeting(self, reply: Reply) -> bytes:
        if reply.code != 220:
            raise Refused(self._outcome(reply))
        self._look_for_loop(reply)
        return self._hello()

    def _after_hello(self, reply: Reply) -> bytes:
        if reply.is_permanent and not self._helo and not self._settings.lmtp:
            self._helo = True
            return self._hello()
        if reply.code != 250:
            # Any other 2yz answers another command: taking it for offers would put us one reply behind.
            raise Refused(self._outcome(reply))
        self._look_for_loop(reply)
        if not self._helo:
            self.capabilities = parse_capabilities(reply)
        settings = self._settings
        if settings.want_tls and not self.secure:
            if self.capabilities.starttls:
                self.stage = "starttls"
                return b"STARTTLS\r\n"
            if settings.need_tls:
                raise Refused(ours(NO_TLS, Scope.HOST, "starttls"))
        return self._log_in()

    def _after_starttls(self, reply: Reply) -> bytes:
        if reply.code == 220:
            self.phase = HANDSHAKE
            return b""
        if self._settings.need_tls or reply.code == 421 or not 400 <= reply.code < 600:
            raise Refused(self._outcome(reply, failed=Result.DEFERRED))
        return self._log_in()

    def _log_in(self) -> bytes:
        credentials = self._settings.credentials
        if credentials is None:
            self.phase = READY
            return b""
        self.stage = "auth"
        if not self.secure:
            raise Refused(ours(LOGIN_IN_CLEAR, Scope.HOST, "auth"))
        try:
            self._mechanisms = mechanisms(self.capabilities.auth, credentials, self._nonce)
        except SaslFailed:
            self._mechanisms = []
        if not self._mechanisms:
            raise Refused(ours(NO_LOGIN, Scope.HOST, "auth"))
        return encode_auth(self._mechanisms[0])

    def _after_auth(self, reply: Reply) -> bytes:
        mechanism = self._mechanisms[0]
        if reply.code == 334:
            try:
                # What LOGIN asks is nobody's business, and some servers ask in plain text.
                challenge = b"" if mechanism.name == "LOGIN" else decode_challenge(reply.lines[0])
                return encode_response(mechanism.respond(challenge))
            except SaslFailed as failure:
                raise Refused(ours(NOT_PROVEN if failure.unproven else OUT_OF_STEP, Scope.HOST, "auth")) from failure
        if 200 <= reply.code < 300:
            if not mechanism.finished:
                raise Refused(ours(NOT_PROVEN, Scope.HOST, "auth"))
            self.phase = READY
            return b""
        if reply.code == 504 and len(self._mechanisms) > 1:
            # Offered, but not for this connection (RFC 4954 section 4): the next one.
            self._mechanisms.pop(0)
            return encode_auth(self._mechanisms[0])
        # A wrong password is the operator's to mend; until then mail waits instead of bouncing.
        raise Refused(self._outcome(reply, failed=Result.DEFERRED))

    def _look_for_loop(self, reply: Reply) -> None:
        if self._settings.detect_loop and server_name(reply) == self._settings.hostname.lower():
            raise Refused(ours(LOOP, Scope.HOST, self.stage))

    def _outcome(self, reply: Reply, failed: Result = Result.FAILED) -> Outcome:
        if reply.code < 400:
            return ours(OUT_OF_STEP, Scope.HOST, self.stage)
        return Outcome(failed if reply.is_permanent else Result.DEFERRED, Scope.HOST, reply, self.stage)
