"""`send`: a plain message made of a few words, and following a message to its end by the journal.

RFC 5322 section 2.2 (fields), RFC 2047 (encoded words), RFC 2045 (MIME). Date and Message-ID are added where every
submission gets them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, cast

from staffetta.config.schema import Config
from staffetta.control.answer import Answer
from staffetta.control.queue import open_queue
from staffetta.mail.address import ForwardPath, Mailbox, ReversePath, parse_mailbox
from staffetta.message.transfer import LINE_OCTETS
from staffetta.observe import journal
from staffetta.observe.journal import Event

LOOK_SECONDS: Final = 0.2
"""How often the journal is looked at."""

_WORD_OCTETS: Final = 42
"""Octets of text in one encoded word: 68 characters with what is around them, of the 75 that RFC 2047 section 2 allows,
so that `Subject: ` fits on the first line."""

_TO_LINE: Final = 70


class SendReport(Answer, frozen=True):
    """`send`: in the queue as `id`, for these recipients, aliases followed."""

    id: str
    sender: str
    recipients: tuple[str, ...]


class End(StrEnum):
    """How a message ended for all of its recipients together."""

    DELIVERED = "delivered"
    FAILED = "failed"
    WAITING = "waiting"


_ENDS: Final = {"deliver": End.DELIVERED, "bounce": End.FAILED, "expire": End.FAILED, "drop": End.FAILED}


def compose(sender: ReversePath, recipients: Sequence[ForwardPath], subject: str, body: bytes) -> bytes:
    """The whole message, line ends as LF; `body` is UTF-8 text or whatever it is, with its line ends as they come."""
    author = str(sender) or "MAILER-DAEMON"
    lines = [f"From: {author}", f"To: {_folded(recipients)}"]
    if subject:
        lines.append(f"Subject: {_encoded(subject)}")
    lines.append("MIME-Version: 1.0")
    if all(len(line) <= LINE_OCTETS for line in body.replace(b"\r", b"\n").split(b"\n")):
        charset = "us-ascii" if body.isascii() else "utf-8"
        encoding = "7bit" if body.isascii() else "8bit"
        text = body
    else:
        charset, encoding, text = "utf-8", "base64", base64.encodebytes(body)
    lines += [f"Content-Type: text/plain; charset={charset}", f"Content-Transfer-Encoding: {encoding}", "", ""]
    return "\n".join(lines).encode() + text


def default_sender(config: Config, user: str) -> Mailbox:
    """Who sends when nobody is named: an address that exists, so that a bounce arrives somewhere."""
    if config.domains:
        return Mailbox("postmaster", config.domains[0].domain)
    return parse_mailbox(f"{user}@{config.hostname}") if user.isascii() and user.isalnum() else Mailbox(
        "postmaster", config.hostname
    )  # fmt: skip


class Following:
    """The events of one message, as they come; afterwards `end` says what became of it."""

    def __init__(
        self,
        data_dir: Path,
        report: SendReport,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._data_dir = data_dir
        self._id = report.id
        self._open = set(report.recipients)
        self._clock = clock
        self._pause = pause
        self.end = End.WAITING

    def events(self, seconds: float) -> Iterator[Event]:
        """Each event once, until every recipient has ended or the time is over.

        Raises place.NothingThere, place.NotAllowed, StoreError.
        """
        over = self._clock() + seconds
        seen = 0
        failed = False
        version = -1
        with open_queue(self._data_dir) as store:
            while True:
                now_version = cast(int, store.connection.execute("PRAGMA data_version").fetchall()[0][0])
                fresh = journal.by_id(store.connection, self._id)[seen:] if now_version != version else []
                version = now_version
                seen += len(fresh)
                for event in fresh:
                    end = _ENDS.get(str(event.get("event")))
                    if end is not None:
                        self._open.discard(str(event.get("recipient")))
                        failed |= end is End.FAILED
                    yield event
                if not self._open:
                    self.end = End.FAILED if failed else End.DELIVERED
                    return
                if self._clock() >= over:
                    return
                self._pause(LOOK_SECONDS)


def _folded(recipients: Sequence[ForwardPath]) -> str:
    """Addresses with commas, folded so that no line gets long."""
    lines = [""]
    for place, path in enumerate(recipients):
        text = f"{path}" + ("," if place < len(recipients) - 1 else "")
        if lines[-1] and len(lines[-1]) + len(text) >= _TO_LINE:
            lines.append("")
        lines[-1] += f" {text}" if lines[-1] else text
    return "\n ".join(lines)


def _encoded(subject: str) -> str:
    """A subject as a header may hold it; no character of it can end the line."""
    text = " ".join(subject.split())
    if text.isascii() and text.isprintable() and len(text) < _TO_LINE:
        return text
    words: list[bytes] = [b""]
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(words[-1]) + len(octets) > _WORD_OCTETS:
            words.append(b"")
        words[-1] += octets
    return "\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)
