"""Addresses on a command line, and what reads them wrong."""

from __future__ import annotations

import re
from typing import Final

import click

from staffetta.cli.output import safe
from staffetta.dns.denied import canonical_address
from staffetta.mail.address import (
    NULL_PATH,
    POSTMASTER,
    AddressError,
    ForwardPath,
    Mailbox,
    ReversePath,
    parse_mailbox,
)
from staffetta.mail.domain import Domain, DomainError, parse_domain

SELECTOR_OCTETS: Final = 128
"""Longer selectors leave no room for a domain."""

_SELECTOR: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?")


def mailbox(_: click.Context | None, __: click.Parameter | None, text: str) -> Mailbox:
    """A full address, with or without angle brackets."""
    try:
        text.encode()
        inner = text[1:-1] if text.startswith("<") and text.endswith(">") else text
        return parse_mailbox(inner, smtputf8=True)
    except (AddressError, UnicodeEncodeError) as error:
        message = f"{text!r} is not a full address such as anna@example.org: {error}"
        raise click.BadParameter(safe(message)) from error


def sender(ctx: click.Context, parameter: click.Parameter, text: str | None) -> ReversePath | None:
    """The same, or `<>` or nothing between quotes for the null path; None when it is not given."""
    if text is None:
        return None
    return NULL_PATH if text in {"", "<>"} else mailbox(ctx, parameter, text)


def recipients(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[ForwardPath, ...]:
    """Full addresses, or `postmaster` alone."""
    return tuple(
        POSTMASTER if text.strip("<>").lower() == "postmaster" else mailbox(ctx, parameter, text) for text in texts
    )


def domain(_: click.Context | None, __: click.Parameter | None, text: str) -> Domain:
    """A domain; one dot at its end, as DNS people write it, is allowed."""
    try:
        return parse_domain(text.removesuffix("."))
    except (DomainError, UnicodeError) as error:
        raise click.BadParameter(safe(f"{text!r}: {error}")) from error


def domains(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[Domain, ...]:
    """Several of them."""
    return tuple(domain(ctx, parameter, text) for text in texts)


def selectors(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """DKIM selectors: one or several labels each (RFC 6376 section 3.1)."""
    for text in texts:
        if not _SELECTOR.fullmatch(text) or len(text) > SELECTOR_OCTETS:
            raise click.BadParameter(safe(f"{text!r} is not a selector such as s1"))
    return tuple(dict.fromkeys(text.lower() for text in texts))


def ip_address(_: click.Context, __: click.Parameter, text: str) -> str:
    """An IP address in its one canonical form; brackets and an IPv4-mapped form are understood."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    inner = inner[5:] if inner[:5].lower() == "ipv6:" else inner
    canonical = canonical_address(inner)
    if canonical is None:
        raise click.BadParameter(safe(f"{text!r} is not an IP address"))
    return canonical
