"""Delivery status notifications: the report that tells a sender what became of a message.

RFC 6522 (multipart/report), RFC 3464 (message/delivery-status), RFC 3461 section 6 (what goes into one), RFC 6533
(addresses that are not ASCII), RFC 3834 (automatic mail says so). Nothing that a peer said or a header held can add a
line: all of it passes through `transfer`.
This module refuses to know whether a report is wanted; a null reverse path never gets one, and cannot be given here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.reply import EnhancedStatus, Reply
from staffetta.message.fixups import message_id
from staffetta.message.report_input import Action, Kind, Original, ReportedRecipient, ReportInput
from staffetta.message.report_words import SUBJECTS, reply_lines, text_part
from staffetta.message.trace import date_time
from staffetta.message.transfer import on_one_line, pieces, quoted_printable, travels

ORIGINAL_OCTETS: Final = 50 * 1024
"""Most of the original that a report carries (no RFC; reports must not multiply what attackers send)."""

_FOLD_OCTETS: Final = 900
_EXPIRED: Final = EnhancedStatus(4, 4, 7)
_STATUS_BY_CLASS: Final = {
    2: EnhancedStatus(2, 0, 0),
    4: EnhancedStatus(4, 0, 0),
    5: EnhancedStatus(5, 0, 0),
}


class Report(msgspec.Struct, frozen=True, gc=False):
    """A report, and what its next hop must be able to do: BODY=8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531)."""

    content: bytes
    eight_bit: bool
    smtputf8: bool


def original_part(beginning: bytes, size: int, *, full: bool) -> Original:
    """What to return of a stored message of `size` octets, given its `beginning` (the first chunk is enough).

    `full` is what RET=FULL asks for; it is honoured for messages up to ORIGINAL_OCTETS.
    """
    if beginning[:2] == b"\r\n":
        end = 0
    else:
        found = beginning.find(b"\r\n\r\n")
        end = len(beginning) if found < 0 else found + 2
    if full and size <= ORIGINAL_OCTETS and len(beginning) == size:
        return Original(beginning[:end], beginning[end:])
    return Original(beginning[: min(end, ORIGINAL_OCTETS + 1)])


def make_report(told: ReportInput) -> Report:
    """The report as a message, CRLF everywhere, no line longer than 998 octets."""
    utf8 = not all(map(_is_ascii, told.recipients))  # RFC 6533: then the status part has to be in UTF-8
    text = _text_part(told)
    status_type = "message/global-delivery-status" if utf8 else "message/delivery-status"
    status = b"\r\n".join(_status_blocks(told, utf8))
    original, original_eight_bit = _original_part(told.original)
    boundary = _boundary(told.id, (text, status, original))
    mark = f"--{boundary}\r\n".encode()
    content = b"".join(
        [
            _header(told, boundary, status_type).encode(),
            mark,
            text,
            b"\r\n" + mark,
            f"Content-Type: {status_type}\r\n".encode(),
            b"Content-Transfer-Encoding: 8bit\r\n" if utf8 else b"",
            b"Content-Description: Delivery report\r\n\r\n",
            status,
            b"\r\n" + mark,
            original,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
    )
    return Report(content, eight_bit=utf8 or original_eight_bit or not told.to.is_ascii, smtputf8=not told.to.is_ascii)


def _is_ascii(recipient: ReportedRecipient) -> bool:
    return recipient.address.is_ascii and (recipient.orcpt is None or recipient.orcpt.isascii())


def _header(told: ReportInput, boundary: str, status_type: str) -> str:
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{told.author_domain or told.hostname}>",
        f"To: <{told.to}>",
        f"Subject: {SUBJECTS[told.kind]}",
        f"Date: {date_time(told.now)}",
        f"Message-ID: <{message_id(told.id, told.hostname)}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report;",
        f"\treport-type={status_type.removeprefix('message/')};",
        f'\tboundary="{boundary}"',
    ]
    original_id = on_one_line(told.message_id, utf8=False, limit=250)
    if original_id and not set(original_id) & set("<> ?"):
        lines[5:5] = [f"In-Reply-To: <{original_id}>", f"References: <{original_id}>"]
    return "\r\n".join(lines) + "\r\n\r\n"


def _text_part(told: ReportInput) -> bytes:
    """The part for people, with its own header; plain where it can be, so that it reads well even undecoded."""
    text = text_part(told).encode()
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\nContent-Description: Notification\r\n\r\n" + text
    return (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
        b"Content-Description: Notification\r\n\r\n" + quoted_printable(text)
    )


def _status_blocks(told: ReportInput, utf8: bool) -> list[bytes]:
    """One block about the message, one for each recipient; every block ends with the CRLF of its last field."""
    lines = [f"Reporting-MTA: dns; {told.hostname}"]
    if told.envid:
        lines.append(f"Original-Envelope-Id: {on_one_line(told.envid, utf8=False, limit=256)}")
    lines.append(f"Arrival-Date: {date_time(told.arrived_at)}")
    blocks = [lines, *[_recipient_fields(recipient, utf8) for recipient in told.recipients]]
    return ["".join(line + "\r\n" for line in block).encode() for block in blocks]


def _recipient_fields(recipient: ReportedRecipient, utf8: bool) -> list[str]:
    lines: list[str] = []
    if recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        kind = kind.strip(" ") if kind.strip(" ").replace("-", "").isalnum() and kind.isascii() else "rfc822"
        given = on_one_line(address.strip(" "), utf8=utf8, limit=500).encode()[:_FOLD_OCTETS]
        lines.append(f"Original-Recipient: {kind}; {given.decode('utf-8', 'ignore')}")
    kind = "rfc822" if recipient.address.is_ascii else "utf-8"
    lines.append(f"Final-Recipient: {kind}; {recipient.address}")
    lines.append(f"Action: {recipient.action.value}")
    lines.append(f"Status: {_status(recipient)}")
    if recipient.remote_mta:
        lines.append(f"Remote-MTA: dns; {on_one_line(recipient.remote_mta, utf8=False, limit=255)}")
    if recipient.reply is not None:
        lines += _diagnostic(recipient.reply, "smtp" if recipient.remote_mta else "x-staffetta", utf8)
    if recipient.last_attempt_at is not None:
        lines.append(f"Last-Attempt-Date: {date_time(recipient.last_attempt_at)}")
    if recipient.retry_until is not None and recipient.action is Action.DELAYED:
        lines.append(f"Will-Retry-Until: {date_time(recipient.retry_until)}")
    return lines


def _diagnostic(reply: Reply, kind: str, utf8: bool) -> list[str]:
    """The reply as it came, its lines as continuation lines of the field."""
    lines: list[str] = []
    for line in reply_lines(reply, utf8=utf8):
        lines += [f" {piece}" for piece in pieces(line, _FOLD_OCTETS)]
    return [f"Diagnostic-Code: {kind};{lines[0]}", *lines[1:]] if lines else []


def _status(recipient: ReportedRecipient) -> EnhancedStatus:
    """RFC 3464 section 2.3.4: the peer's status where its class fits the action."""
    reply = recipient.reply
    if recipient.expired:
        return _EXPIRED
    wanted = {Action.FAILED: 5, Action.DELAYED: 4}.get(recipient.action, 2)
    if reply is not None and reply.enhanced is not None and reply.enhanced.kind == wanted:
        return reply.enhanced
    return _STATUS_BY_CLASS[wanted]


def _original_part(original: Original) -> tuple[bytes, bool]:
    """The third part with its own header, and whether it has octets with the high bit set."""
    header, rest = original.header, original.rest
    if rest is not None and header.isascii() and travels(header + rest):
        eight_bit = not rest.isascii()
        encoding = b"Content-Transfer-Encoding: 8bit\r\n" if eight_bit else b""
        head = b"Content-Type: message/rfc822\r\n" + encoding + b"Content-Description: Your message\r\n\r\n"
        return head + header + rest, eight_bit
    if len(header) > ORIGINAL_OCTETS:
        end = header.rfind(b"\r\n", 0, ORIGINAL_OCTETS)
        header = header[: end + 2] if end >= 0 else header[:ORIGINAL_OCTETS]
    head = b"Content-Description: Header of your message\r\n"
    if header.isascii() and travels(header):
        return b"Content-Type: text/rfc822-headers\r\n" + head + b"\r\n" + header, False
    head += b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    return b"Content-Type: text/rfc822-headers; charset=utf-8\r\n" + head + quoted_printable(header), False


def _boundary(report_id: str, parts: tuple[bytes, ...]) -> str:
    # Ids can be guessed, so a sender could have put the boundary into the message that comes back.
    number = 0
    while True:
        boundary = f"=_{report_id}_{number}"
        if not any(boundary.encode() in part for part in parts):
            return boundary
        number += 1


__all__ = [
    "ORIGINAL_OCTETS",
    "Action",
    "Kind",
    "Original",
    "Report",
    "ReportInput",
    "ReportedRecipient",
    "make_report",
    "original_part",
]
