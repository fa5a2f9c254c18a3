"""`sendmail -bs`: an SMTP dialogue on standard input and output, by the protocol core that our doors speak with.

Every message becomes a file in the drop directory. Who may send what to whom is judged when the relay takes it; what
cannot be said in SMTP is refused here (RFC 5321).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from staffetta.mail.envelope import Recipient, Sender
from staffetta.mail.reply import Reply, reply
from staffetta.protocol import events as said
from staffetta.protocol.extensions import ServerSettings
from staffetta.protocol.server import ServerConnection
from staffetta.sendmail.drop import LARGEST_CONTENT, DropFile, Envelope
from staffetta.sendmail.letter import BLOCK_OCTETS, Source
from staffetta.sendmail.statuses import OK, Stop

RECIPIENTS: Final = 10_000
"""A program on this machine may have a long list."""

_HELLO: Final = reply(250, "", "ok")
_OK: Final = reply(250, "2.0.0", "ok")
_GO_AHEAD: Final = reply(354, "", "end with <CRLF>.<CRLF>")
_BYE: Final = reply(221, "2.0.0", "bye")
_NOT_STORED: Final = reply(451, "4.3.0", "the message cannot be stored now, try again later")
_NOT_WHOLE: Final = reply(554, "5.6.0", "the message cannot be taken as it is")
_NO_LOGIN: Final = reply(535, "5.7.8", "there is no login here")


def serve(directory: Path, source: Source, write: Callable[[bytes], None]) -> int:
    """Speak until the program hangs up or quits; the exit status."""
    host = socket.gethostname()
    settings = ServerSettings(
        hostname=host if host.isascii() and host.isprintable() and " " not in host else "localhost",
        message_size=LARGEST_CONTENT,
        recipients=RECIPIENTS,
        commands=10 * RECIPIENTS,
        errors=RECIPIENTS,
        normalise=True,
    )
    core = ServerConnection(settings, tls=False)
    session = _Session(directory, core)
    core.greet()
    write(core.take_output())
    try:
        while not core.closing and (data := source.read(BLOCK_OCTETS)):
            core.receive(data)
            while (event := core.next_event()) is not None:
                session.answer(event)
            write(core.take_output())
    finally:
        session.drop()
    return OK


class _Session:
    """What was said so far, and the file that the content goes into."""

    def __init__(self, directory: Path, core: ServerConnection) -> None:
        self._directory = directory
        self._core = core
        self._sender: Sender | None = None
        self._recipients: list[Recipient] = []
        self._file: DropFile | None = None
        self._failed = False

    def answer(self, event: Any) -> None:
        """Do what an event asks for, and answer where an answer is due."""
        if isinstance(event, said.Content):
            self._content(event.data)
        elif isinstance(event, said.Violation):
            if event.ends_transaction:
                self.drop()
        else:
            self._core.answer(self._reply(event))

    def drop(self) -> None:
        """Forget the transaction."""
        if self._file is not None:
            self._file.discard()
        self._file, self._sender, self._recipients, self._failed = None, None, [], False

    def _reply(self, event: Any) -> Reply:
        match event:
            case said.Hello():
                self.drop()
                return _HELLO
            case said.MailFrom(sender=sender):
                self.drop()
                self._sender = sender
                return _OK
            case said.RcptTo(recipient=recipient):
                self._recipients.append(recipient)
                return _OK
            case said.DataStart():
                return self._begin()
            case said.ContentEnd(problem=problem):
                answer = _NOT_WHOLE if problem is not None else self._commit()
                self.drop()
                return answer
            case said.Reset():
                self.drop()
                return _OK
            case said.Quit():
                return _BYE
        return _NO_LOGIN

    def _begin(self) -> Reply:
        try:
            self._file = DropFile(self._directory)
        except Stop:
            return _NOT_STORED
        return _GO_AHEAD

    def _content(self, data: bytes) -> None:
        if self._file is None or self._failed:
            return
        try:
            self._file.write(data)
        except Stop:
            self._failed = True

    def _commit(self) -> Reply:
        file, sender = self._file, self._sender
        if file is None or sender is None or self._failed:
            return _NOT_STORED
        # One file has one set of wishes for all its recipients: those that all of them share.
        notify = {recipient.notify for recipient in self._recipients}
        envelope = Envelope(
            tuple(str(recipient.forward_path) for recipient in self._recipients),
            str(sender.reverse_path),
            notify=tuple(word.value for word in notify.pop()) if len(notify) == 1 else (),
            ret=sender.ret.value if sender.ret is not None else None,
            envid=sender.envid,
        )
        try:
            file.commit(envelope)
        except Stop:
            return _NOT_STORED
        self._file = None
        return reply(250, "2.0.0", f"stored as {file.name}")
