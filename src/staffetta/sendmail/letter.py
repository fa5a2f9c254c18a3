"""The message that a program writes to `sendmail`: from its standard input, in stretches, with CRLF line ends.

The header is kept, because recipients may stand in it (`-t`); the body passes through. A line with a single dot ends
the message unless the caller says that it does not (`-i`). A first line that no header can have means that there is no
header. An mbox line (`From anna Tue …`) in front is not part of the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.message.addresses import AddressProblem, parse_address_list
from staffetta.message.header import HEADER_OCTETS, Header
from staffetta.message.qualify import elements, is_field_line, qualified_list
from staffetta.protocol.framing import ContentFilter
from staffetta.sendmail.drop import LARGEST_CONTENT
from staffetta.sendmail.statuses import DATA, Stop

BLOCK_OCTETS: Final = 64 * 1024
_HERE: Final = "this-machine.invalid"
"""Stands for the domain of bare names while addresses are read. Nobody can have it (RFC 6761 section 6.4)."""

_SPOILED: Final = frozenset(
    {AddressProblem.NUL, AddressProblem.CONTROL, AddressProblem.NOT_UTF8, AddressProblem.SYNTAX}
    | {AddressProblem.TOO_LONG, AddressProblem.TOO_MANY, AddressProblem.ENCODED_WORD}
)
"""With these nobody can tell who is meant."""


class Source(Protocol):
    """Where the message comes from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` octets; none at the end."""


class Letter:
    """One message from a source: `header` once `read_header` has returned, then `rest` of the content."""

    def __init__(self, source: Source, *, dot_ends: bool) -> None:
        self.header = b""
        self._source = source
        self._dot_ends = dot_ends
        self._filter = ContentFilter(LARGEST_CONTENT, normalise=True)
        self._pending = b""
        self._ended = False
        self._at_line_start = True
        self._held = b""

    def read_header(self) -> None:
        """Read as far as the header goes. Raises Stop when it is longer than any header may be."""
        kept = b""
        while True:
            if b"\r\n\r\n" in kept or kept[:2] == b"\r\n" or len(kept) > 2 * HEADER_OCTETS:
                break
            block = self._next()
            if not block:
                break
            kept += block
        self.header, self._pending = _divided(kept)
        if len(self.header) > HEADER_OCTETS:
            raise Stop("the header of the message is too long", DATA)

    def rest(self) -> Iterator[bytes]:
        """What follows the header: an empty line and the body, or nothing."""
        if self._pending:
            yield self._pending
        while block := self._next():
            yield block

    def _next(self) -> bytes:
        """The next octets with their line ends made whole; none at the end."""
        while not self._ended:
            block = self._source.read(BLOCK_OCTETS)
            if not block:
                self._ended = True
                found = self._filter.take(b"") + self._filter.finish()
            else:
                found = self._filter.take(block)
            if self._dot_ends:
                found = self._until_dot(found)
            if found:
                return found
        return self._take_held()

    def _until_dot(self, found: bytes) -> bytes:
        """Cut at a line with a single dot. A dot that may still become one is held back; the filter before us never
        gives half a line end."""
        found = self._take_held() + found
        start = 0 if self._at_line_start and found[:3] == b".\r\n" else -1
        if start < 0:
            start = found.find(b"\r\n.\r\n")
            start = start + 2 if start >= 0 else -1
        if start >= 0:
            self._ended = True
            return found[:start]
        if not self._ended and (found.endswith(b"\r\n.") or (self._at_line_start and found == b".")):
            found, self._held = found[:-1], b"."
        if found:
            self._at_line_start = found[-2:] == b"\r\n"
        return found

    def _take_held(self) -> bytes:
        held, self._held = self._held, b""
        return held


def header_recipients(block: bytes) -> tuple[str, ...]:
    """Whom a header names: To, Cc and Bcc, or those of Resent- where there are any (RFC 5322 section 3.6.6).

    Names without a domain stay without. Raises Stop when one is no address.
    """
    header = Header(block)
    names = (b"resent-to", b"resent-cc", b"resent-bcc")
    if not any(header.has(name) for name in names):
        names = (b"to", b"cc", b"bcc")
    found: dict[str, None] = {}
    for field in header.fields:
        if field.name in names:
            for element in elements(field.value):
                for mailbox in _mailboxes(element):
                    found[bare(mailbox)] = None
    return tuple(found)


def one_address(text: str) -> str:
    """The one address in a word of the command line, with or without brackets and a name. Raises Stop."""
    octets = text.encode("utf-8", "surrogateescape")
    found = [mailbox for element in elements(octets) for mailbox in _mailboxes(element)]
    if len(found) != 1:
        raise Stop(f"{text!a} is no address", DATA)
    return bare(found[0])


def addresses(text: str) -> tuple[str, ...]:
    """The addresses in a word of the command line: one, or several with commas between. Raises Stop."""
    octets = text.encode("utf-8", "surrogateescape")
    found = tuple([bare(mailbox) for element in elements(octets) for mailbox in _mailboxes(element)])
    if not found:
        raise Stop(f"{text!a} is no address", DATA)
    return found


def bare(mailbox: Mailbox) -> str:
    """An address as the drop file has it: without the domain that stands for this machine."""
    if mailbox.domain == Domain(_HERE):
        return str(mailbox).removesuffix(f"@{_HERE}")
    return str(mailbox)


def _mailboxes(element: bytes) -> tuple[Mailbox, ...]:
    read = parse_address_list(qualified_list(element, _HERE.encode()))
    if _SPOILED.intersection(read.problems) or not read.mailboxes:
        raise Stop(f"{element[:100].decode('utf-8', 'replace')!a} is no address", DATA)
    return read.mailboxes


def _divided(kept: bytes) -> tuple[bytes, bytes]:
    """The header block and what follows it, which begins with an empty line unless there is nothing."""
    if kept[:5] == b"From " or kept[:6] == b">From ":
        end = kept.find(b"\r\n")
        kept = kept[end + 2 :] if end >= 0 else b""
    at = 0
    while at < len(kept):
        end = kept.find(b"\r\n", at)
        end = end + 2 if end >= 0 else len(kept)
        if end - at == 2:
            break
        line = kept[at:end]
        if not (is_field_line(line) or (at and line[:1] in {b" ", b"\t"})):
            return kept[:at], b"\r\n" + kept[at:]
        at = end
    return kept[:at], kept[at:]


__all__ = ["Letter", "Source", "addresses", "bare", "header_recipients", "one_address"]
