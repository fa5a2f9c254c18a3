"""The document by which Thunderbird and its kin learn their servers: `clientConfig`, version 1.1.

They ask `http(s)://autoconfig.D/mail/config-v1.1.xml` and `https://D/.well-known/autoconfig/mail/config-v1.1.xml`, with
the address that a person has typed. The document is the same for everybody of a domain, and placeholders stand for the
address, so nothing of the question is in the answer. Programs want at least one server of each kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from staffetta.console.markup import element, xml
from staffetta.control.client_settings import ClientSettings, Security, Server

PATHS: Final = ("/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml")

_SOCKET: Final = {Security.TLS: "SSL", Security.STARTTLS: "STARTTLS"}
_KIND: Final = {"submission": ("outgoingServer", "smtp"), "imap": ("incomingServer", "imap")}


def document(settings: ClientSettings) -> bytes:
    """The document of one domain."""
    domain = settings.domain
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<clientConfig version="1.1">',
        f'<emailProvider id="{xml(domain)}">',
        element("domain", domain),
        element("displayName", domain),
        element("displayShortName", domain),
        *_servers(settings.incoming),
        *_servers(settings.outgoing),
        "</emailProvider>",
        "</clientConfig>",
        "",
    ]
    return "\n".join(lines).encode()


def _servers(servers: Iterable[Server]) -> Iterable[str]:
    for server in servers:
        name, kind = _KIND.get(server.kind, ("incomingServer", server.kind))
        yield f'<{name} type="{xml(kind)}">'
        yield element("hostname", server.host)
        yield element("port", server.port)
        yield element("socketType", _SOCKET[server.security])
        yield element("username", "%EMAILADDRESS%")
        yield element("authentication", "password-cleartext")
        yield f"</{name}>"
