"""`dkim`: the keys that sign for our domains, and the DNS records to publish for them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, json_option, load_or_exit
from staffetta.cli.output import Stop, line, print_json, safe, say, table
from staffetta.cli.storing import confirm, store_errors
from staffetta.control import dkim as control
from staffetta.mail.domain import Domain, DomainError, parse_domain
from staffetta.mailauth.dkim.keys import KeyChange, KeyPhase
from staffetta.mailauth.dkim.keystore import KeysUnusable
from staffetta.mailauth.dkim.publication import Publication, Published

FOUND_SHOWN = 120
"""How many characters of a foreign record a hint shows."""


def _domain(_: click.Context, __: click.Parameter, text: str) -> Domain:
    try:
        return parse_domain(text.removesuffix("."))
    except (DomainError, UnicodeError) as error:
        raise click.BadParameter(safe(f"{text!r}: {error}")) from error


_domain_argument = click.argument("domain", metavar="DOMAIN", callback=_domain)


@click.group()
@config_option
def dkim(config: Path | None) -> None:
    """The keys that sign for our domains, and the DNS records to publish for them."""


@dkim.command("list")
@config_option
@json_option
def list_(config: Path | None, as_json: bool) -> None:
    """List the keys of all domains. Asks no DNS."""
    known = load_or_exit(config, files=False).config
    with _errors():
        found = control.list_keys(known)
    if as_json:
        for one in found:
            print_json(one)
        return
    rows = [
        (
            one.domain,
            one.selector,
            one.algorithm,
            str(one.bits),
            one.state.value,
            f"{one.created_at:%Y-%m-%d %H:%M}" if one.created_at else "-",
        )
        for one in found
    ]
    if rows:
        table(("domain", "selector", "algorithm", "bits", "state", "created (UTC)"), rows)
    without = sorted(set(control.signing_sources(known)) - {one.domain for one in found})
    for domain in without:
        say(f"{domain} has no keys yet. Make them and see what to publish: staffetta dkim publish {domain}")


@dkim.command()
@_domain_argument
@click.option("--zone", is_flag=True, help="Lines for a zone file; asks no DNS.")
@config_option
@json_option
def publish(domain: Domain, zone: bool, config: Path | None, as_json: bool) -> None:
    """The DNS records that DOMAIN has to publish, and whether it does. Makes its keys when there are none.

    Exit status 0: all are published; 1: one is missing or different; 3: DOMAIN does not sign; 6: the DNS does not
    answer. With --zone: 0 when the lines are written.
    """
    import asyncio  # noqa: PLC0415 - not for `dkim list`

    if zone and as_json:
        raise click.UsageError("--zone and --json are two forms of the same records: choose one")
    known = load_or_exit(config, files=False).config
    with _errors():
        local = control.find(known, domain)
        keys = control.held_keys(known, local, time.time())
        if zone:
            for held in keys:
                line(control.zone_lines(*control.record_of(held.key)))
            return
        found = asyncio.run(control.ask(known, keys))
        changes = control.go_on(known, local, found, time.time())
    if as_json:
        for one in found:
            print_json(control.record_answer(one))
    else:
        table(("name", "type", "value", "state"), [(one.name, "TXT", one.value, one.state.value) for one in found])
    for held, one in zip(keys, found, strict=True):
        _explain(held, one)
    _tell(changes)
    click.get_current_context().exit(_status(found))


@dkim.command()
@_domain_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def rotate(domain: Domain, yes: bool, config: Path | None) -> None:
    """Make new keys for DOMAIN. The old ones sign until the records of the new ones are seen in the DNS."""
    known = load_or_exit(config, files=False).config
    with _errors():
        local = control.find(known, domain)
        before = control.rotation(known, local)
        say(_plan(domain, before))
        if not yes:
            confirm("Make new keys?")
        done = control.rotate(known, local, time.time())
    if not done.made:
        say(f"Nothing to make: {_listed(done.waiting)} wait for their records already.")
    else:
        table(("name", "type", "value"), [_record_row(*control.record_of(key)) for key in done.made])
        say(f"Made {_listed([key.selector for key in done.made])}. Publish the records, then let them be seen:")
    say(f"  staffetta dkim publish {domain}")


def _plan(domain: Domain, before: control.Rotation) -> str:
    if not before.signing and not before.waiting:
        return f"{domain} has no keys yet: its first would be made, and sign at once."
    signing = f"{_listed(before.signing)} sign{'s' if len(before.signing) == 1 else ''} until new records are seen"
    waiting = f"; {_listed(before.waiting)} wait for that already" if before.waiting else ""
    return f"{domain}: {signing}{waiting}."


def _record_row(name: str, value: str) -> tuple[str, str, str]:
    return name, "TXT", value


def _explain(held: control.HeldKey, found: Publication) -> None:
    """What a person should know of one record."""
    selector = safe(found.selector)
    if found.state is Published.UNKNOWN:
        say(f"{selector}: the DNS does not answer: {safe(found.problem)}")
    elif found.state is Published.DIFFERENT:
        say(f"{selector}: what is published is not this record: {safe(found.problem)}")
        for text in found.found:
            shown = text[:FOUND_SHOWN].decode("utf-8", "replace")
            say(f"  found: {safe(shown)}{'...' if len(text) > FOUND_SHOWN else ''}")
    elif found.state is Published.MISSING and held.state is KeyPhase.NEXT:
        say(f"{selector}: not published yet; it signs once its record is seen")
    elif found.state is Published.MISSING and held.state is KeyPhase.ACTIVE:
        say(f"{selector}: not published, and it signs: receivers cannot check what it signed")
    if held.record_may_go_at is not None:
        say(f"{selector}: signs no more; its record has to stay until {held.record_may_go_at:%Y-%m-%d}")


def _tell(changes: Sequence[KeyChange]) -> None:
    words = {KeyPhase.ACTIVE: "signs from now on", KeyPhase.RETIRED: "signs no more, and its record stays for now"}
    for change in changes:
        if change.state is None:
            say(f"{safe(change.selector)}: forgotten; take its record out of the DNS")
        else:
            say(f"{safe(change.selector)}: {words[change.state]}")


def _status(found: Sequence[Publication]) -> int:
    states = {one.state for one in found}
    if Published.UNKNOWN in states:
        return exits.TEMPORARY
    return exits.DONE if states <= {Published.PUBLISHED} else exits.PROBLEM


def _listed(names: Sequence[str]) -> str:
    return " and ".join(map(safe, names)) or "nobody"


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        with store_errors():
            yield
    except control.NoKeysHere as error:
        raise Stop(str(error), exits.NOTHING_MATCHED) from error
    except (control.NotOurKey, KeysUnusable) as error:
        forbidden = isinstance(error.__cause__, PermissionError)
        raise Stop(str(error), exits.NOT_ALLOWED if forbidden else exits.PROBLEM) from error
