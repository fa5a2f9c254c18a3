"""`lookup`: ask DNS as the relay does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, find_file, json_option, load_or_exit
from staffetta.cli.output import line, on_terminal, print_json, safe, say, table
from staffetta.control.mx import MxReport, Verdict, ask, parse_asked
from staffetta.mail.domain import DomainError

_STATUS = {
    Verdict.TAKES_MAIL: exits.DONE,
    Verdict.TAKES_NONE: exits.PROBLEM,
    Verdict.UNKNOWN: exits.TEMPORARY,
}


@click.group()
@config_option
def lookup(config: Path | None) -> None:
    """Ask DNS as the relay does."""


@lookup.command()
@click.argument("domain", metavar="DOMAIN")
@config_option
@json_option
def mx(domain: str, config: Path | None, as_json: bool) -> None:
    """Which hosts take mail for DOMAIN, and what the relay would do.

    Asks the servers of [dns] when there is a configuration, else the system's. Exit status 0: it takes mail;
    1: it takes none; 2: not a domain; 6: the DNS does not answer.
    """
    try:
        name = parse_asked(domain)
    except DomainError as error:
        raise click.BadParameter(safe(f"{domain!r}: {error}"), param_hint="DOMAIN") from error
    known = load_or_exit(config, files=False).config if find_file(config) is not None else None
    report = asyncio.run(ask(name, known))
    if as_json:
        print_json(report.answer)
    else:
        _print(report)
    click.get_current_context().exit(_STATUS[report.verdict])


def _print(report: MxReport) -> None:
    answer = report.answer
    if answer.error is not None and not answer.hosts:
        line(f"{safe(answer.domain)}: {safe(answer.error)}")
    else:
        if on_terminal():
            line(f"Mail for {safe(answer.domain)}")
        rows = [(str(host.preference), host.host, ", ".join(host.addresses) or "-") for host in answer.hosts]
        table(("preference", "host", "addresses"), rows)
    for sentence in report.would:
        say(f"The relay would: {safe(sentence)}")
