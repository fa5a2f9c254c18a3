"""The part of a report that people read: what happened, what the other server said, what to do.

RFC 3464 section 2 asks for a part that needs no knowledge of mail. The peer's reply stands in it verbatim, set apart
from our own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Final

from staffetta.mail.reply import EnhancedStatus, Reply
from staffetta.message.report_input import Action, Kind, ReportedRecipient, ReportInput
from staffetta.message.trace import date_time
from staffetta.message.transfer import on_one_line, pieces

REPLY_LINES: Final = 40
"""Most lines of a peer's reply that are repeated."""

REPLY_LINE_CHARACTERS: Final = 1024
"""Longest line of a peer's reply that is repeated, RFC 5321 section 4.5.3.1.5 allows 512 octets."""

TOLD_RECIPIENTS: Final = 50
"""How many recipients the text speaks of; the machine-readable part has all of them."""

SUBJECTS: Final = {
    Kind.FAILED: "Your message could not be delivered",
    Kind.DELAYED: "Your message is delayed",
    Kind.DELIVERED: "Your message was delivered",
}

_OPENINGS: Final = {
    Kind.FAILED: "Your message of {date} could not be delivered to everybody it was meant for. What became of it:",
    Kind.DELAYED: "Your message of {date} has not been delivered yet. This is only a notice: you need not send it "
    "again, delivery is tried again on its own.",
    Kind.DELIVERED: "You asked to be told when your message of {date} was delivered. What became of it:",
}

_TRY_ANOTHER_WAY: Final = "Try to reach the recipient in another way, or show this report to whoever runs your mail."
_ADVICE: Final = {
    (1, 0): "Check the address for mistakes.",
    (1, 1): "There is no such mailbox at that server. Check the part before the @ for mistakes.",
    (1, 2): "There is no mail server under that name. Check the part after the @ for mistakes.",
    (1, 3): "The address is not written as an address should be. Check it for mistakes.",
    (1, 6): "The mailbox has moved. Ask the recipient for the new address.",
    (1, 10): "The domain after the @ takes no mail at all. Check the address for mistakes.",
    (2, 1): "The mailbox is switched off. Reach the recipient in another way.",
    (2, 2): "The mailbox is full. Send the message again later, or reach the recipient in another way.",
    (2, 3): "The message is too big for that mailbox. Send a smaller one, or a link in place of the attachment.",
    (3, 4): "The message is too big for that server. Send a smaller one, or a link in place of the attachment.",
    (4, 6): "The servers there send mail in a circle. Show this report to whoever runs your mail.",
    (4, 7): "Send the message again later, or reach the recipient in another way.",
    (6, 7): "The server there cannot handle addresses with letters beyond plain ASCII. Ask for another address.",
}
_REFUSED_BY_RULE: Final = (
    "The server there refuses the message by its rules; its answer may say why. " + _TRY_ANOTHER_WAY
)


def text_part(told: ReportInput) -> str:
    """The text, CRLF line ends; no line longer than about 100 characters but for what a peer wrote (900 octets)."""
    lines = [f"This is the mail server {told.hostname}.", ""]
    lines += wrap(_OPENINGS[told.kind].format(date=date_time(told.arrived_at)), 76)
    for recipient in told.recipients[:TOLD_RECIPIENTS]:
        lines += ["", f"  {recipient.address}", *_fate(recipient)]
    more = len(told.recipients) - TOLD_RECIPIENTS
    if more > 0:
        lines += ["", f"and {more} more, which the attached delivery report lists."]
    return "\r\n".join([*lines, ""])


def _fate(recipient: ReportedRecipient) -> Iterator[str]:
    if recipient.original is not None and recipient.original != recipient.address:
        yield f"  (you wrote to {recipient.original}, whose mail goes there)"
    yield ""
    for paragraph in _sentences(recipient):
        for line in wrap(paragraph, 72):
            yield f"    {line}"
    reply = recipient.reply
    if reply is not None:
        yield ""
        for line in reply_lines(reply, utf8=True):
            for piece in pieces(line, 900):
                yield f"        {piece}"
    advice = _advice(recipient)
    if advice:
        yield ""
        for line in wrap(advice, 72):
            yield f"    {line}"


def _sentences(recipient: ReportedRecipient) -> Iterator[str]:
    server = f"The server {on_one_line(recipient.remote_mta, utf8=False, limit=255)}" if recipient.remote_mta else ""
    said = f"{server} said:" if server else "The reason:"
    match recipient.action:
        case Action.FAILED if recipient.expired:
            yield "It could not be delivered for so long that no further attempt will be made."
            yield f"In the end {server} said:" if server else "The last reason:"
        case Action.FAILED:
            yield f"{server} refused it and said:" if server else "It could not be delivered. The reason:"
        case Action.DELAYED:
            yield "It could not be delivered so far."
            yield said
        case Action.RELAYED:
            yield "It was handed to the next server, which does not promise a report of its own."
            if recipient.reply is not None:
                yield said
        case Action.EXPANDED:
            yield "It was passed on to the several addresses that this one stands for."
        case _:
            yield "It was delivered."
            if recipient.reply is not None:
                yield said
    if recipient.in_doubt:
        yield "The connection broke right after the message was sent, so it may have arrived all the same."


def _advice(recipient: ReportedRecipient) -> str:
    if recipient.action is Action.DELAYED:
        if recipient.retry_until is None:
            return "You need to do nothing."
        return f"You need to do nothing. It will be tried again until {date_time(recipient.retry_until)}."
    if recipient.action is not Action.FAILED:
        return ""
    if recipient.expired:
        return _ADVICE[4, 7]
    status = recipient.reply.enhanced if recipient.reply is not None else None
    return f"What you can do: {_advice_for(status)}"


def _advice_for(status: EnhancedStatus | None) -> str:
    if status is None:
        return _TRY_ANOTHER_WAY
    known = _ADVICE.get((status.subject, status.detail))
    if known:
        return known
    return _REFUSED_BY_RULE if status.subject == 7 else _TRY_ANOTHER_WAY


def reply_lines(reply: Reply, *, utf8: bool) -> list[str]:
    """A reply as it stood on the wire, line by line: `550-5.1.1 text`; safe to stand on lines of their own."""
    status = f"{reply.enhanced} " if reply.enhanced else ""
    lines = reply.lines[:REPLY_LINES]
    last = len(lines) - 1
    return [
        f"{reply.code}{' ' if index == last else '-'}{status}"
        + on_one_line(line, utf8=utf8, limit=REPLY_LINE_CHARACTERS)
        for index, line in enumerate(lines)
    ]
