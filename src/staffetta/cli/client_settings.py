"""`client-settings`: what people type into a mail program, and the records by which programs find it themselves."""

from __future__ import annotations

from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, json_option, load_or_exit
from staffetta.cli.output import Stop, line, on_terminal, print_json, safe, say, table
from staffetta.control.client_settings import ClientSettings, NotOurs, Security, find
from staffetta.control.client_settings import client_settings as settings_of
from staffetta.mail.domain import DomainError, parse_domain

_PURPOSE = {"submission": "sending (SMTP)", "imap": "reading (IMAP)", "pop3": "reading (POP3)"}
_PROTECTION = {Security.TLS: "SSL/TLS", Security.STARTTLS: "STARTTLS"}


@click.command("client-settings")
@click.argument("domain", metavar="DOMAIN")
@config_option
@json_option
def client_settings(domain: str, config: Path | None, as_json: bool) -> None:
    """What mail programs of people in DOMAIN have to be told, and the DNS records by which they find it themselves.

    Asks nobody. Exit status 3: DOMAIN is not one of ours.
    """
    try:
        name = parse_domain(domain.removesuffix("."))
    except (DomainError, UnicodeError) as error:
        raise click.BadParameter(safe(f"{domain!r}: {error}"), param_hint="DOMAIN") from error
    known = load_or_exit(config, files=False).config
    try:
        settings = settings_of(known, find(known, name))
    except NotOurs as error:
        raise Stop(str(error), exits.NOTHING_MATCHED) from error
    if as_json:
        print_json(settings)
    else:
        _print(settings)


def _print(settings: ClientSettings) -> None:
    servers = (*settings.outgoing, *settings.incoming)
    if on_terminal():
        line("To type into a mail program:")
    rows = [(_PURPOSE[one.kind], one.host, str(one.port), _PROTECTION[one.security]) for one in servers]
    table(("for", "server", "port", "protection"), rows)
    say(f"The login is the whole address, such as {settings.login}; the password is that of the account.")
    if not settings.outgoing:
        say("There is no server for sending: no door of the configuration takes logins.")
    if not settings.incoming:
        say(
            "Where mail is read is not known here: name the server that reads the Maildirs, such as"
            ' discover = { imap = "imap.example.org" }.'
        )
    if on_terminal():
        line("")
        line("To publish:")
    for one in settings.records:
        line(f"{one.name}. IN {one.type} {one.value}")
    if not settings.discover:
        say(f"Mail programs can ask this relay themselves: discover = true in [domain.{settings.domain}].")
