"""The table of known replies (`replies.toml`): reading it, and finding the row that fits.

Rows match by the beginning of the code, by enhanced status, and by literal pieces of text; there are no patterns in the
data, so no row can be slow. The first row that fits is taken.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from staffetta.control.reply_text import PastedReply, fold
from staffetta.mail.reply import EnhancedStatus

TABLE: Final = Path(__file__).with_name("replies.toml")

CLASSES: Final = (
    "reputation",
    "policy",
    "authentication",
    "content",
    "mailbox",
    "quota",
    "rate",
    "greylist",
    "network",
    "tls",
    "configuration",
    "size",
    "relay",
    "temporary",
    "accepted",
)
"""What a reply can be about. `accepted` is for 2yz and 3yz."""

ACTORS: Final = ("sender", "relay operator", "recipient", "remote operator", "nobody")
"""Who can do something about it."""


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "class"}):
    """A row as it stands in the file."""

    id: str
    kind: str
    actor: str
    cause: str
    advice: str
    source: str
    example: str
    codes: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    text: tuple[tuple[str, ...], ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    advice: dict[str, str]
    sources: dict[str, str]
    reply: tuple[_Written, ...]


class Row(msgspec.Struct, frozen=True, gc=False):
    """One known reply. `statuses` are ranges of enhanced statuses, both ends included; `texts` are alternatives."""

    id: str
    kind: str
    actor: str
    cause: str
    advice: str
    source: str
    example: str
    codes: tuple[str, ...]
    statuses: tuple[tuple[EnhancedStatus, EnhancedStatus], ...]
    texts: tuple[tuple[str, ...], ...]

    def fits(self, reply: PastedReply, folded: str) -> bool:
        """Whether this row is about `reply`, whose folded text is `folded`."""
        return (
            self._fits_code(reply)
            and self._fits_status(reply.enhanced)
            and (not self.texts or any(all(part in folded for part in parts) for parts in self.texts))
        )

    def _fits_code(self, reply: PastedReply) -> bool:
        if not self.codes:
            return True
        if reply.code is not None:
            return str(reply.code).startswith(self.codes)
        kind = reply.enhanced.kind if reply.enhanced is not None else 0
        return any(code[0] == str(kind) for code in self.codes)

    def _fits_status(self, status: EnhancedStatus | None) -> bool:
        if not self.statuses:
            return True
        return status is not None and any(first <= status <= last for first, last in self.statuses)


@cache
def rows() -> tuple[Row, ...]:
    """All rows in their order. Raises ValueError when the file is not as it should be, which a test prevents."""
    file = msgspec.convert(tomllib.loads(TABLE.read_text("utf-8")), _File)
    return tuple(_row(file, one) for one in file.reply)


def find_row(reply: PastedReply) -> Row | None:
    """The first row that fits; None when nobody wrote down such a reply."""
    folded = reply.folded
    return next((row for row in rows() if row.fits(reply, folded)), None)


def _row(file: _File, one: _Written) -> Row:
    if one.kind not in CLASSES or one.actor not in ACTORS:
        raise ValueError(f"{one.id}: no such class or actor")
    advice = file.advice[one.advice[1:]] if one.advice.startswith("@") else one.advice
    return Row(
        one.id,
        one.kind,
        one.actor,
        one.cause,
        advice,
        file.sources[one.source],
        one.example,
        one.codes,
        tuple(_range(text) for text in one.status),
        tuple(tuple(fold(part) for part in parts) for parts in one.text),
    )


def _range(text: str) -> tuple[EnhancedStatus, EnhancedStatus]:
    first, _, last = text.partition("-")
    return _status(first), _status(last or first)


def _status(text: str) -> EnhancedStatus:
    return EnhancedStatus(*map(int, text.split(".")))
