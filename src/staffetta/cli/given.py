"""Addresses on a command line, and what reads them wrong."""

from __future__ import annotations

import click

from staffetta.cli.output import safe
from staffetta.mail.address import (
    NULL_PATH,
    POSTMASTER,
    AddressError,
    ForwardPath,
    Mailbox,
    ReversePath,
    parse_mailbox,
)


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
