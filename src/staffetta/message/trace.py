"""The fields that say where a message has been: Received, Return-Path, Delivered-To.

RFC 5321 section 4.4 (trace), RFC 3848 and RFC 6531 section 4.3 (`with` keywords), RFC 8314 section 4.3 (TLS is told),
RFC 5322 section 3.3 (date). Names of logins are not told: `ESMTPSA` says that there was one.
What comes from outside cannot leave its place: every octet that has a meaning in these fields becomes `?`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from staffetta.mail.address import Mailbox, ReversePath

FIELD_LINE: Final = 78
"""Lines of ours stay under this where their parts allow it, RFC 5322 section 2.1.1."""

NAME_CHARACTERS: Final = 255
"""Longest name of a client that is written, RFC 5321 section 4.5.3.1.2."""

_NOT_NAME = re.compile(r"[^A-Za-z0-9.\-_:\[\]]")
_NOT_DNS = re.compile(r"[^A-Za-z0-9.\-_]")
_NOT_CIPHER = re.compile(r"[^A-Za-z0-9.\-_:+]")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Client(msgspec.Struct, frozen=True, gc=False):
    """Who handed the message to us. Every part but `helo` may be empty.

    `reverse_name` is the name the address has in DNS, only when it was confirmed forward. `tls` is
    `VERSION:CIPHER`, for example `TLSv1.3:TLS_AES_256_GCM_SHA384`.
    """

    helo: str
    address: str = ""
    reverse_name: str = ""
    tls: str = ""


def with_keyword(*, esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool = False, lmtp: bool = False) -> str:
    """The protocol as RFC 3848 and RFC 6531 section 4.3 name it: `SMTP`, `ESMTPSA`, `UTF8SMTPS`, `LMTP`."""
    suffix = ("S" if tls else "") + ("A" if authenticated else "")
    if smtputf8:
        return ("UTF8LMTP" if lmtp else "UTF8SMTP") + suffix
    if lmtp:
        return "LMTP" + suffix
    return "ESMTP" + suffix if esmtp or suffix else "SMTP"


@lru_cache(maxsize=16)
def _second(second: int) -> str:
    t = datetime.fromtimestamp(second, UTC)
    day, month = _DAYS[t.weekday()], _MONTHS[t.month - 1]
    return f"{day}, {t.day} {month} {t.year:04} {t.hour:02}:{t.minute:02}:{t.second:02} +0000"


def date_time(now: float) -> str:
    """`now` (seconds since the epoch) as RFC 5322 section 3.3 writes it, in UTC: `Tue, 24 Nov 2026 11:08:42 +0000`."""
    return _second(int(now))


def received_opening(client: Client, hostname: str) -> tuple[bytes, bytes]:
    """The parts of Received that stay the same for a whole session; for `received`. Make them once per session."""
    if not client.helo and not client.address:
        return f"Received: by {hostname} with ".encode(), b" id "
    helo = _NOT_NAME.sub("?", client.helo)[:NAME_CHARACTERS] or "unknown"
    first = f"Received: from {helo}"
    info = ""
    if client.address:
        info = f"[{_literal(client.address)}]"
        if client.reverse_name:
            info = f"{_NOT_DNS.sub('?', client.reverse_name)[:NAME_CHARACTERS]} {info}"
        info = f"({info})"
    # The comment goes to a line of its own when it would make the first one too long.
    gap = " " if len(first) + len(info) < FIELD_LINE else "\r\n\t"
    start = f"{first}{gap}{info}" if info else first
    tls = f"\r\n\t({_NOT_CIPHER.sub('?', client.tls)[:100]}) id " if client.tls else " id "
    return f"{start}\r\n\tby {hostname} with ".encode(), tls.encode()


def received(
    opening: tuple[bytes, bytes], protocol: str, queue_id: str, recipient: Mailbox | None, now: float
) -> bytes:
    """The Received field of one message, CRLF included.

    `protocol` is from `with_keyword`; `recipient` only when there is no other (a second one would be told of the
    first); `now` in seconds since the epoch.
    """
    start, middle = opening
    if recipient is None:
        return b"%b%b%b%b;\r\n\t%b\r\n" % (
            start,
            protocol.encode(),
            middle,
            queue_id.encode(),
            _second(int(now)).encode(),
        )
    return b"%b%b%b%b\r\n\tfor <%b>;\r\n\t%b\r\n" % (
        start,
        protocol.encode(),
        middle,
        queue_id.encode(),
        str(recipient).encode(),
        _second(int(now)).encode(),
    )


def return_path(reverse_path: ReversePath) -> bytes:
    """Return-Path, written by the server that makes final delivery (RFC 5321 section 4.4), CRLF included."""
    return b"Return-Path: <%b>\r\n" % str(reverse_path).encode()


def delivered_to(mailbox: Mailbox) -> bytes:
    """Delivered-To, by which a mailbox recognises that a message was there before, CRLF included."""
    return b"Delivered-To: %b\r\n" % str(mailbox).encode()


def _literal(address: str) -> str:
    text = _NOT_NAME.sub("?", address)[:64]
    return f"IPv6:{text}" if ":" in text else text


__all__ = [
    "Client",
    "date_time",
    "delivered_to",
    "received",
    "received_opening",
    "return_path",
    "with_keyword",
]
