"""`check ip`: which name has an address, and is it on a list?"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staffetta.cli import exits, given
from staffetta.cli.options import config_option, find_file, json_option, load_or_exit
from staffetta.cli.output import line, print_json, safe, say
from staffetta.mail.domain import Domain

if TYPE_CHECKING:
    from staffetta.control.check_ip import IpAnswer, ListAnswer


@click.command()
@click.argument("address", metavar="ADDRESS", callback=given.ip_address)
@click.option(
    "--list",
    "lists",
    multiple=True,
    metavar="ZONE",
    callback=given.domains,
    help="Ask this block list, beside those of [[checks.blocklist]]; several times for several.",
)
@config_option
@json_option
def ip(address: str, lists: tuple[Domain, ...], config: Path | None, as_json: bool) -> None:
    """Which name has ADDRESS, does it lead back, and is it on a list?

    Asks the lists that the configuration names, and no others by itself. Exit status 0: clean; 1: listed, or no name
    that leads back; 2: not an IP address; 6: the DNS or a list does not answer.
    """
    known = load_or_exit(config, files=False).config if find_file(config) is not None else None
    from staffetta.control.check_ip import Outcome, ask  # noqa: PLC0415 - after the arguments are right

    report = asyncio.run(ask(address, known, lists, time.monotonic))
    if as_json:
        print_json(report.answer)
    else:
        _print(report.answer)
    if not report.answer.lists:
        _name_lists(address)
    status = {Outcome.CLEAN: exits.DONE, Outcome.PROBLEM: exits.PROBLEM, Outcome.UNKNOWN: exits.TEMPORARY}
    click.get_current_context().exit(status[report.outcome])


def _print(answer: IpAnswer) -> None:
    if answer.special:
        line(f"{answer.address} is {safe(answer.special)}")
    if answer.error is not None:
        line(f"name: not known: {safe(answer.error)}")
    elif answer.reverse is None:
        line("name: none; many receivers refuse mail from an address without a name")
    else:
        end = "leads back to it" if answer.confirmed else "does NOT lead back to it, so it proves nothing"
        line(f"name: {safe(answer.reverse)}, which {end}")
    if answer.generic:
        line(f"      looks like a name that nobody chose ({safe(answer.generic)}); receivers take it for a home line")
    for one in answer.lists:
        line(_list_line(one))


def _list_line(one: ListAnswer) -> str:
    if one.error is not None:
        return f"{safe(one.zone)}: NOT KNOWN: {safe(one.error)}"
    if not one.listed:
        return f"{safe(one.zone)}: not listed"
    reason = f" ({safe(one.reason)})" if one.reason else ""
    return f"{safe(one.zone)}: LISTED, {safe(one.code)}: {safe(one.meaning)}{reason}"


def _name_lists(address: str) -> None:
    say("No list was asked: the configuration names none in [[checks.blocklist]].")
    say("Lists have terms of use; some that small sites may ask for free, from a resolver of their own:")
    say(f"  staffetta check ip {safe(address)} --list zen.spamhaus.org --list bl.spamcop.net --list psbl.surriel.com")
