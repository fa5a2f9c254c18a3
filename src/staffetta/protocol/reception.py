"""The phases in which octets are content: DATA, chunks, and chunks that nobody wants.

RFC 5321 section 4.1.1.4, RFC 3030.
Each reads to a place where both sides agree what comes next, also when the content was refused long before.
"""

from __future__ import annotations

from typing import Final

from staffetta.mail.reply import Reply
from staffetta.protocol import refusals
from staffetta.protocol.events import Content, ContentEnd, Event
from staffetta.protocol.framing import ContentFilter, ContentProblem
from staffetta.protocol.turns import MORE, Step, Turns, encoded

DISCARDED_OCTETS: Final = 256 * 1024 * 1024
"""So much content beyond the limit is read and thrown away to stay in step; then the connection is closed."""


def read_data(turns: Turns) -> Step:
    """DATA: up to CRLF.CRLF."""
    inbox = turns.inbox
    stretch = inbox.data()
    if stretch is None:
        return MORE
    transaction = turns.state.transaction
    content = None if transaction is None else transaction.content
    assert content is not None  # noqa: S101 - it was made when DATA was allowed
    kept = content.take(stretch) if stretch else b""
    if inbox.data_ended:
        return _ended(turns, content, kept)
    if kept:
        return Content(kept)
    if content.octets <= turns.settings.message_size + DISCARDED_OCTETS:
        return None
    turns.answered = _answered_and_closed
    return ContentEnd(content.octets, content.problem)


class ChunkReception:
    """One BDAT: so many octets."""

    __slots__ = ("_content", "_is_last", "_octets")

    def __init__(self, content: ContentFilter, octets: int, *, is_last: bool) -> None:
        self._content = content
        self._octets = octets
        self._is_last = is_last

    def __call__(self, turns: Turns) -> Step:
        """Read on."""
        content = self._content
        if self._octets:
            octets = turns.inbox.chunk(self._octets)
            if not octets:
                return MORE
            self._octets -= len(octets)
            kept = content.take(octets)
            return Content(kept) if kept else None
        if self._is_last:
            return _ended(turns, content, content.finish())
        if content.problem is not None:
            return _ended(turns, content, b"")
        turns.phase = turns.command_phase
        turns.output.append(refusals.CHUNK)
        return None


class RefusedChunk:
    """A BDAT that cannot be accepted: its octets are thrown away, then `refusal` is said.

    `rule` names what the core found wrong; it is empty when the owner refused, who knows already.
    """

    __slots__ = ("_octets", "_refusal", "_rule")

    def __init__(self, octets: int, refusal: Reply, rule: str = "") -> None:
        self._octets = octets
        self._refusal = refusal
        self._rule = rule

    def __call__(self, turns: Turns) -> Step:
        """Read on."""
        if self._octets:
            octets = turns.inbox.chunk(self._octets)
            self._octets -= len(octets)
            return None if octets else MORE
        turns.phase = turns.command_phase
        if self._rule:
            return turns.refuse(self._refusal, self._rule, "bdat", "BDAT", ends=True)
        turns.output.append(encoded(self._refusal))
        return None


def begin_chunk(turns: Turns, content: ContentFilter, octets: int, *, is_last: bool) -> Event | None:
    """The next chunk of a message that was not refused yet. Its size is judged before anything of it is read."""
    limit = turns.settings.message_size
    if content.octets + octets > limit:
        content.add_problem(ContentProblem.TOO_BIG)
    if octets > limit + DISCARDED_OCTETS:
        turns.answered = _answered_and_closed
        return ContentEnd(content.octets, content.problem)
    turns.phase = ChunkReception(content, octets, is_last=is_last)
    return None


def refuse_chunk(turns: Turns, octets: int, refusal: Reply, rule: str = "") -> Event | None:
    """A chunk that cannot be accepted; with it goes the transaction, because a message would miss a part."""
    if octets > turns.settings.message_size + DISCARDED_OCTETS:
        return turns.shut(refusals.TOO_BIG, "message_size", "bdat", "BDAT")
    turns.phase = RefusedChunk(octets, refusal, rule)
    return None


def _ended(turns: Turns, content: ContentFilter, kept: bytes) -> Content | ContentEnd:
    """Nothing more comes; `kept` is the last that is kept of it, and told before the end."""
    turns.phase = turns.command_phase
    turns.answered = _answered
    end = ContentEnd(content.octets, content.problem)
    if not kept:
        return end
    turns.queued = end
    return Content(kept)


def _answered(turns: Turns, reply: Reply) -> None:
    turns.state.transaction = None
    turns.output.append(reply.encode())


def _answered_and_closed(turns: Turns, reply: Reply) -> None:
    _answered(turns, reply)
    turns.closing = True
