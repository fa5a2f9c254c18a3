"""The server core with the simplest owner that makes sense, as a wire for dialogues and a model for fuzzing.

The owner takes mail for `anna@example.org` and `bob@example.org`, relays after a login as `anna@example.org` with the
password `secret`, and keeps everything that it was told.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final

import msgspec

from staffetta.mail.reply import Reply, reply
from staffetta.protocol import events
from staffetta.protocol.extensions import ServerSettings
from staffetta.protocol.sasl import ScramKeys
from staffetta.protocol.server import ServerConnection

HOSTNAME: Final = "mx.example.org"
USERNAME: Final = "anna@example.org"
PASSWORD: Final = "secret"  # noqa: S105 - of a world that exists in tests only
LOCAL: Final = frozenset({"anna@example.org", "bob@example.org", "postmaster"})
NONCE: Final = "0123456789abcdefghij"
_SALT: Final = b"sixteen octets.."
_ITERATIONS: Final = 4096

OK: Final = reply(250, "2.0.0", "ok")
SENDER_OK: Final = reply(250, "2.1.0", "sender ok")
RECIPIENT_OK: Final = reply(250, "2.1.5", "recipient ok")
GO_AHEAD: Final = reply(354, "", "end with <CRLF>.<CRLF>")
BYE: Final = reply(221, "2.0.0", "bye")
TLS_GO: Final = reply(220, "2.0.0", "ready to start TLS")
NO_RELAY: Final = reply(550, "5.7.1", "relaying denied")
NO_SENDER: Final = reply(550, "5.7.1", "sender not welcome")
LOGIN_OK: Final = reply(235, "2.7.0", "logged in")
LOGIN_REFUSED: Final = reply(535, "5.7.8", "authentication credentials invalid")
LOGIN_FIRST: Final = reply(530, "5.7.0", "authentication required")
TOO_BIG: Final = reply(552, "5.3.4", "too big")
BAD_CONTENT: Final = reply(554, "5.6.0", "content not acceptable")


def scram_keys(password: str = PASSWORD) -> ScramKeys:
    """The keys of a password in the tests' world."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), _SALT, _ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramKeys(_SALT, _ITERATIONS, hashlib.sha256(client_key).digest(), server_key)


def settings_for(needs: dict[str, str]) -> ServerSettings | None:
    """The core's settings for a dialogue's needs; None when the core alone cannot meet them."""
    door = needs.get("door", "mx")
    given: dict[str, Any] = {}
    for key, value in needs.items():
        if key in {"message_size", "recipients", "commands", "errors"}:
            given[key] = int(value)
        elif key not in {"door", "tls"}:
            return None
    return ServerSettings(hostname=HOSTNAME, starttls=True, auth=door != "mx", normalise=door == "submission", **given)


class Accepted(msgspec.Struct, frozen=True):
    """One message that was taken."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class CoreWire:
    """Drives one ServerConnection. `said` holds all events but content, in order."""

    def __init__(self, settings: ServerSettings, *, tls: bool = False, login_required: bool = False) -> None:
        self.core: Final = ServerConnection(settings, tls=tls)
        self.said: list[events.Event] = []
        self.messages: list[Accepted] = []
        self._sender = ""
        self._recipients: list[str] = []
        self._content: list[bytes] = []
        self._login_required = login_required
        self._logged_in = False
        self._closed = False
        self.core.greet()
        self._output = self.core.take_output()

    def send(self, octets: bytes) -> None:
        """Octets from the client."""
        if self._closed:
            return
        self.core.receive(octets)
        while (event := self.core.next_event()) is not None:
            self._hear(event)
        self._output += self.core.take_output()
        self._closed = self.core.closing

    def receive_until_quiet(self) -> bytes:
        """What the core wants to write."""
        output, self._output = self._output, b""
        return output

    def start_tls(self) -> None:
        """As if a handshake had been done."""
        self._logged_in = False
        self.core.tls_started()

    def is_closed(self) -> bool:
        """True when the core asked to close."""
        return self._closed

    def accepted(self) -> list[bytes]:
        """Contents."""
        return [message.content for message in self.messages]

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.Content):
            self._content.append(event.data)
            return
        self.said.append(event)
        if isinstance(event, events.ScramNeeded):
            self.core.scram_keys(scram_keys(PASSWORD if event.username == USERNAME else "another"), NONCE)
        elif not isinstance(event, events.Violation):
            self.core.answer(self._judge(event))

    def _judge(self, event: events.Event) -> Reply:
        if isinstance(event, events.MailFrom):
            return self._judge_sender(event)
        if isinstance(event, events.RcptTo):
            recipient = str(event.recipient.forward_path)
            if not self._logged_in and recipient not in LOCAL:
                return NO_RELAY
            self._recipients.append(recipient)
            return RECIPIENT_OK
        if isinstance(event, events.DataStart):
            self._content.clear()
            return GO_AHEAD
        if isinstance(event, events.ContentEnd):
            return self._judge_content(event)
        if isinstance(event, events.PasswordOffered):
            return self._judge_login(event.username == USERNAME and event.password.reveal() == PASSWORD)
        if isinstance(event, events.LoginProven | events.LoginFailed):
            return self._judge_login(isinstance(event, events.LoginProven))
        if isinstance(event, events.Quit):
            return BYE
        return TLS_GO if isinstance(event, events.StartTls) else OK

    def _judge_sender(self, event: events.MailFrom) -> Reply:
        if self._login_required and not self._logged_in:
            return LOGIN_FIRST
        self._sender = str(event.sender.reverse_path)
        self._recipients = []
        return NO_SENDER if self._sender == "unwelcome@example.com" else SENDER_OK

    def _judge_content(self, event: events.ContentEnd) -> Reply:
        if event.problem is not None:
            return TOO_BIG if event.problem == "too_big" else BAD_CONTENT
        content = b"".join(self._content)
        if len(content) != event.octets:
            raise AssertionError(f"{len(content)} octets were handed on, {event.octets} were announced")
        self.messages.append(Accepted(self._sender, tuple(self._recipients), content))
        return OK

    def _judge_login(self, known: bool) -> Reply:
        self._logged_in = known
        return LOGIN_OK if known else LOGIN_REFUSED
