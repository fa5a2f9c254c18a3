"""Names, paths and methods: who is answered what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from staffetta.config.schema import Config
from staffetta.console.health import Readiness, ready
from staffetta.console.names import Names, discovery_names
from staffetta.console.request import Request, Response
from staffetta.console.site import Asked, Site
from staffetta.control.client_settings import client_settings

AUTOCONFIG = "/mail/config-v1.1.xml"
WELL_KNOWN = "/.well-known/autoconfig/mail/config-v1.1.xml"
AUTODISCOVER = "/autodiscover/autodiscover.xml"
QUESTION = "<EMailAddress>{}</EMailAddress>"
TEXT = """\
[listen.submission]
bind = ["*:587"]
role = "submission"
[domain."example.org"]
discover = true
[domain."bücher.example"]
discover = { imap = "imap.example.org" }
[domain."quiet.example"]
"""


@pytest.fixture
def site(configured: Callable[[str], Config]) -> Site:
    """A site with two domains that tell, and one that does not."""
    config = configured(TEXT)
    settings = {one.domain: client_settings(config, one) for one in config.domains if one.discover is not None}
    names = Names(frozenset({"mail.example.org"}), discovery_names(domain.ascii for domain in settings))

    async def readiness() -> Readiness:
        return Readiness(False, 1, 1)

    async def metrics() -> bytes:
        return b"metrics\n"

    return Site(names, settings, Asked(readiness, metrics))


def ask(site: Site, request: Request) -> Response:
    return asyncio.run(site.answer(request))


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("localhost", "/livez", 200),
        ("localhost", "/readyz", 200),
        ("localhost", "/metrics", 200),
        ("mail.example.org", "/metrics", 200),
        ("", "/livez", 200),
        ("localhost", "/", 404),
        ("localhost", "/livez/", 404),
        ("localhost", "//livez", 404),
        ("localhost", "/LIVEZ", 404),
        ("localhost", "/../metrics", 404),
        ("autoconfig.example.org", "/metrics", 404),
        ("autoconfig.example.org", "/livez", 404),
        ("example.org", "/metrics", 404),
        ("evil.example", "/metrics", 421),
        ("evil.example", AUTOCONFIG, 421),
        ("autoconfig.quiet.example", AUTOCONFIG, 421),
        ("autoconfig.example.org", AUTOCONFIG, 200),
        ("example.org", WELL_KNOWN, 200),
        ("localhost", AUTOCONFIG, 404),
        ("autoconfig.example.org", AUTODISCOVER, 405),
    ],
)
def test_get(site: Site, host: str, path: str, status: int) -> None:
    for method in ("GET", "HEAD"):
        assert ask(site, Request(method, path, host)).status == status


@pytest.mark.parametrize(
    ("address", "id_"),
    [
        ("anna@example.org", "example.org"),
        ("anna@EXAMPLE.org", "example.org"),
        ("anna@bücher.example", "xn--bcher-kva.example"),
        ("anna@xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("anna@quiet.example", ""),
        ("anna@other.example", ""),
        ("example.org", ""),
        ("<script>@example.org", ""),
        ("a\r\nb@example.org", ""),
        ("anna@[127.0.0.1]", ""),
        ("x" * 1000 + "@example.org", ""),
    ],
)
def test_autoconfig_by_address(site: Site, address: str, id_: str) -> None:
    answer = ask(site, Request("GET", AUTOCONFIG, "localhost", {"emailaddress": address}))
    assert answer.status == (200 if id_ else 404)
    assert f'emailProvider id="{id_}"'.encode() in answer.body or not id_
    assert b"anna" not in answer.body
    assert b"script" not in answer.body


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (AUTODISCOVER, QUESTION.format("anna@example.org"), 200),
        ("/Autodiscover/Autodiscover.xml", QUESTION.format("anna@example.org"), 200),
        ("/AutoDiscover/AutoDiscover.xml", QUESTION.format("anna@example.org"), 200),
        (AUTODISCOVER, QUESTION.format("anna@quiet.example"), 404),
        (AUTODISCOVER, QUESTION.format("anna@other.example"), 404),
        (AUTODISCOVER, QUESTION.format("anna@[127.0.0.1]"), 404),
        (AUTODISCOVER, "<!DOCTYPE x>" + QUESTION.format("anna@example.org"), 400),
        (AUTODISCOVER, "", 400),
        (AUTOCONFIG, "", 405),
        ("/metrics", "", 405),
        ("/livez", "", 405),
        ("/", "", 404),
    ],
)
def test_post(site: Site, path: str, body: str, status: int) -> None:
    answer = ask(
        site,
        Request(
            "POST", path, "autodiscover.example.org" if "utodis" in path.lower() else "localhost", body=body.encode()
        ),
    )
    assert answer.status == status
    assert (b"anna@example.org" in answer.body) == (status == 200)


def test_without_domains_nothing_is_told() -> None:
    site = Site(Names(frozenset()), {}, Asked(None, None))  # type: ignore[arg-type]
    body = QUESTION.format("anna@example.org").encode()
    assert ask(site, Request("POST", AUTODISCOVER, "localhost", body=body)).status == 404
    assert ask(site, Request("GET", AUTOCONFIG, "autoconfig.example.org")).status == 421


@pytest.mark.parametrize(
    ("facts", "status", "word"),
    [
        (Readiness(False, 3, 3), 200, b"ok"),
        (Readiness(False, 0, 0), 200, b"ok"),
        (Readiness(True, 3, 3), 503, b"draining"),
        (Readiness(False, 3, 2), 503, b"2 of 3"),
        (Readiness(False, 3, 3, "it cannot be written"), 503, b"store: it cannot"),
    ],
)
def test_readiness(facts: Readiness, status: int, word: bytes) -> None:
    answer = ready(facts)
    assert answer.status == status
    assert word in answer.body
