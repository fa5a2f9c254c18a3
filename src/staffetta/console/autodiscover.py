"""Outlook's question and its answer: Autodiscover in plain XML ([MS-OXDSCLI], the response schema of 2006).

The question is a small document with an address in it, from anybody. It is searched, not parsed: what needs a parser
(declarations, entities, comments, sections of raw text) has no place in it and is refused, and so no parser's weakness
is ours. In the answer `SSL` is on only where TLS comes first; `Encryption` goes before it, and is the only way to say
STARTTLS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from staffetta.console.markup import element
from staffetta.control.client_settings import ClientSettings, Security, Server
from staffetta.mail.address import AddressError, Mailbox, parse_mailbox

PATH: Final = "/autodiscover/autodiscover.xml"
"""In lower case; clients write it in several ways."""

_RESPONSE: Final = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
_OUTLOOK: Final = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"

_LONGEST_ADDRESS: Final = 320
_ADDRESS: Final = re.compile(r"<EMailAddress>([^<>&]{1,400})</EMailAddress>")
_SCHEMA: Final = re.compile(r"<AcceptableResponseSchema>([^<>&]{1,400})</AcceptableResponseSchema>")

_TYPE: Final = {"submission": "SMTP", "imap": "IMAP", "pop3": "POP3"}
_ENCRYPTION: Final = {Security.TLS: "SSL", Security.STARTTLS: "TLS"}


class NotUnderstood(Exception):
    """The question cannot be answered; the message says why, and holds nothing of it."""


def asked_for(body: bytes) -> Mailbox:
    """The address that is asked for. Raises NotUnderstood."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotUnderstood("the question is not UTF-8") from None
    if "<!" in text or "\0" in text or text.count("<?") > 1:
        raise NotUnderstood("declarations, comments and raw text have no place in the question")
    schemas = _SCHEMA.findall(text)
    if schemas and schemas[0].strip() != _OUTLOOK:
        raise NotUnderstood("only the response schema of Outlook 2006a is spoken here")
    found = _ADDRESS.findall(text)
    if len(found) != 1:
        raise NotUnderstood("one EMailAddress is needed")
    address = found[0].strip(" \t\r\n")
    if len(address) > _LONGEST_ADDRESS:
        raise NotUnderstood("the address is too long")
    try:
        return parse_mailbox(address, smtputf8=True)
    except AddressError:
        raise NotUnderstood("EMailAddress holds no address") from None


def document(settings: ClientSettings, address: Mailbox) -> bytes:
    """The answer. The address was parsed, and is written as our own form of it."""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<Autodiscover xmlns="{_RESPONSE}">',
        f'<Response xmlns="{_OUTLOOK}">',
        f"<User>{element('DisplayName', str(address))}</User>",
        "<Account>",
        element("AccountType", "email"),
        element("Action", "settings"),
        *_protocols((*settings.incoming, *settings.outgoing), str(address)),
        "</Account>",
        "</Response>",
        "</Autodiscover>",
        "",
    ]
    return "\n".join(lines).encode()


def _protocols(servers: Iterable[Server], login: str) -> Iterable[str]:
    """One server of each type: Outlook takes the first, and the best stand first."""
    told: set[str] = set()
    for server in servers:
        if server.kind in told:
            continue
        told.add(server.kind)
        yield "<Protocol>"
        yield element("Type", _TYPE[server.kind])
        yield element("Server", server.host)
        yield element("Port", server.port)
        yield element("DomainRequired", "off")
        yield element("LoginName", login)
        yield element("SPA", "off")
        yield element("SSL", "on" if server.security is Security.TLS else "off")
        yield element("Encryption", _ENCRYPTION[server.security])
        yield element("AuthRequired", "on")
        if server.kind == "submission":
            yield element("UsePOPAuth", "off")
            yield element("SMTPLast", "off")
        yield "</Protocol>"
