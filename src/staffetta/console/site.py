"""What the console's port answers, by name and path. Made anew by every reload and swapped as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from staffetta.console import autoconfig, autodiscover
from staffetta.console.exposition import CONTENT_TYPE
from staffetta.console.health import Readiness, live, ready
from staffetta.console.names import Names, Standing
from staffetta.console.request import XML, Request, Response, sentence
from staffetta.control.client_settings import ClientSettings
from staffetta.mail.address import AddressError, Mailbox, parse_mailbox
from staffetta.mail.domain import Domain

NOT_HERE: Final = sentence(404, "there is nothing here")
NOT_SERVED: Final = sentence(421, "no such name is served here; ask by address, localhost or hostname")
_HEALTH: Final = frozenset({"/livez", "/readyz"})


class Asked(msgspec.Struct, frozen=True):
    """Whom to ask for what changes from moment to moment."""

    readiness: Callable[[], Awaitable[Readiness]]
    metrics: Callable[[], Awaitable[bytes]]


class Site:
    """The pages of one configuration. `settings` are those of the domains that tell mail programs their servers."""

    def __init__(self, names: Names, settings: Mapping[Domain, ClientSettings], asked: Asked) -> None:
        self._names = names
        self._settings = settings
        self._asked = asked

    async def answer(self, request: Request) -> Response:
        """The answer to one request."""
        standing = self._names.standing(request.host)
        if standing is Standing.STRANGER:
            return NOT_SERVED
        path = request.path
        if path in autoconfig.PATHS:
            return self._autoconfig(request)
        if path.lower() == autodiscover.PATH:
            return self._autodiscover(request)
        if standing is not Standing.OWN or path not in {*_HEALTH, "/metrics"}:
            return NOT_HERE
        if request.method == "POST":
            return _only("GET, HEAD")
        if path == "/livez":
            return live()
        if path == "/readyz":
            return ready(await self._asked.readiness())
        return Response(200, await self._asked.metrics(), CONTENT_TYPE)

    def _autoconfig(self, request: Request) -> Response:
        if request.method == "POST":
            return _only("GET, HEAD")
        domain = _domain_of(request)
        settings = self._settings.get(domain) if domain is not None else None
        return NOT_HERE if settings is None else Response(200, autoconfig.document(settings), XML)

    def _autodiscover(self, request: Request) -> Response:
        if request.method != "POST":
            return _only("POST")
        if not self._settings:
            return NOT_HERE
        try:
            address = autodiscover.asked_for(request.body)
        except autodiscover.NotUnderstood as error:
            return sentence(400, str(error))
        settings = self._settings.get(address.domain) if isinstance(address.domain, Domain) else None
        return NOT_HERE if settings is None else Response(200, autodiscover.document(settings, address), XML)


def _domain_of(request: Request) -> Domain | None:
    """The domain of the address that is asked for; without one, that of the name that was asked."""
    text = request.parameters.get("emailaddress", "")
    if not text:
        text = "x@" + request.host.removeprefix("autoconfig.")
    try:
        mailbox: Mailbox = parse_mailbox(text, smtputf8=True)
    except AddressError:
        return None
    return mailbox.domain if isinstance(mailbox.domain, Domain) else None


def _only(methods: str) -> Response:
    return sentence(405, f"only {methods} here", ("Allow", methods))
