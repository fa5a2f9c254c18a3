"""MAIL and RCPT as a client writes them, and what must be true before they may be written.

RFC 5321 section 4.1.1, RFC 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8), 3461 section 4 (RET, ENVID, NOTIFY, ORCPT),
6533 section 3 (utf-8 address type). A parameter is sent only where its extension is offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from staffetta.mail.address import Mailbox
from staffetta.mail.envelope import Body, Notify, Sender
from staffetta.mail.outcome import Outcome, Scope
from staffetta.protocol.capabilities import Capabilities
from staffetta.protocol.verdict import NEEDS_EIGHT_BIT, NEEDS_UTF8, TOO_BIG, ours


class Addressee(Protocol):
    """What RCPT needs to know of a recipient."""

    @property
    def address(self) -> Mailbox:
        """Where to."""

    @property
    def notify(self) -> tuple[Notify, ...]:
        """NOTIFY, empty when the sender said nothing."""

    @property
    def orcpt(self) -> str | None:
        """ORCPT, `type;decoded-address`."""


class ContentFacts(msgspec.Struct, frozen=True, gc=False):
    """What the envelope commands need to know of the content. `eight_bit` is None when nobody looked."""

    size: int
    eight_bit: bool | None


class Commands(msgspec.Struct, frozen=True, gc=False):
    """The envelope of one transaction, each command with its CRLF. `encoding` is that of the whole."""

    mail: str
    recipients: list[str]
    encoding: str


def plan(
    sender: Sender, recipients: Sequence[Addressee], content: ContentFacts, offers: Capabilities
) -> Commands | Outcome:
    """The commands for this server, or the outcome for all recipients when it cannot take such a message.

    8-bit content for a server without 8BITMIME fails when it was declared as such (RFC 6152 section 3 asks for
    conversion, which would break signatures); undeclared, it goes out as it came in. A message that was declared
    SMTPUTF8 and turns out to be plain ASCII needs nothing (RFC 6531 section 3.2).
    """
    if 0 < offers.size < content.size:
        return ours(TOO_BIG, Scope.MESSAGE, "mail")
    mail = f"MAIL FROM:<{sender.reverse_path}>"
    if offers.has_size:
        mail += f" SIZE={content.size}"
    eight_bit = content.eight_bit
    if eight_bit or sender.body is Body.EIGHT_BIT_MIME:
        if offers.eight_bit_mime:
            mail += " BODY=8BITMIME"
        elif eight_bit and sender.body is Body.EIGHT_BIT_MIME:
            return ours(NEEDS_EIGHT_BIT, Scope.MESSAGE, "mail")
    utf8 = _needs_utf8(sender, recipients, eight_bit)
    if utf8:
        if not offers.smtputf8:
            return ours(NEEDS_UTF8, Scope.MESSAGE, "mail")
        mail += " SMTPUTF8"
    if offers.dsn:
        if sender.ret is not None:
            mail += f" RET={sender.ret.value}"
        if sender.envid is not None and _is_printable(sender.envid):
            mail += f" ENVID={xtext(sender.envid)}"
        rcpts = [f"RCPT TO:<{one.address}>{_dsn(one)}\r\n" for one in recipients]
    else:
        rcpts = [f"RCPT TO:<{one.address}>\r\n" for one in recipients]
    return Commands(f"{mail}\r\n", rcpts, "utf-8" if utf8 else "ascii")


def xtext(text: str) -> str:
    """RFC 3461 section 4. `text` is printable ASCII."""
    if "+" not in text and "=" not in text and " " not in text:
        return text
    return "".join([f"+{ord(one):02X}" if one in "+= " else one for one in text])


def _needs_utf8(sender: Sender, recipients: Sequence[Addressee], eight_bit: bool | None) -> bool:
    if sender.smtputf8 and eight_bit is not False:
        return True
    beyond_ascii = [one for one in recipients if not one.address.is_ascii]
    return bool(beyond_ascii) or not sender.reverse_path.is_ascii


def _dsn(recipient: Addressee) -> str:
    text = ""
    if recipient.notify:
        text = " NOTIFY=" + ",".join([value.value for value in recipient.notify])
    if recipient.orcpt is not None:
        kind, semicolon, address = recipient.orcpt.partition(";")
        if semicolon and kind and all(one.isascii() and (one.isalnum() or one == "-") for one in kind):
            if _is_printable(address):
                text += f" ORCPT={kind};{xtext(address)}"
            elif kind.lower() == "utf-8" and address.isprintable():
                text += f" ORCPT={kind};{_utf8_xtext(address)}"
    return text


def _utf8_xtext(address: str) -> str:
    r"""RFC 6533 section 3, utf-8-addr-xtext: everything that is not plain becomes `\x{HEX}`, which is ASCII."""
    return "".join([one if one.isascii() and one not in "+=\\ " else f"\\x{{{ord(one):02X}}}" for one in address])


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()
