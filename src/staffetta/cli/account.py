"""`account`: logins and mailboxes. A password is never an argument: it would stand in the list of processes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from staffetta.accounts.passwords import PasswordRefused, prepared
from staffetta.accounts.store import (
    AccountExists,
    AccountStore,
    AccountsUnavailable,
    Grant,
    GrantError,
    NoSuchAccount,
    parse_grant,
    write_grant,
)
from staffetta.cli import exits
from staffetta.cli.options import config_option, json_option, load_or_exit
from staffetta.cli.output import Stop, print_json, safe, say, table
from staffetta.cli.storing import confirm, store_errors
from staffetta.control import accounts as control
from staffetta.control.place import NothingThere
from staffetta.mail.address import AddressError, Mailbox, parse_mailbox

LINE_OCTETS = 16 * 1024
"""What is read of standard input; far more than the longest password."""


def _address(_: click.Context, __: click.Parameter, text: str) -> Mailbox:
    try:
        text.encode()
        return parse_mailbox(text, smtputf8=True)
    except (AddressError, UnicodeEncodeError) as error:
        message = f"{text!r} is not a full address such as anna@example.org: {error}"
        raise click.BadParameter(safe(message)) from error


def _grants(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[Grant, ...]:
    try:
        for text in texts:
            text.encode()
        return tuple(map(parse_grant, texts))
    except (GrantError, UnicodeEncodeError) as error:
        raise click.BadParameter(safe(str(error))) from error


_address_argument = click.argument("address", callback=_address)
_stdin_option = click.option("--password-stdin", is_flag=True, help="Read the password: one line of standard input.")


@click.group()
@config_option
def account(config: Path | None) -> None:
    """Logins and mailboxes. The login name is the full address; changes hold at once."""


@account.command()
@_address_argument
@_stdin_option
@click.option(
    "--may-send", metavar="X", multiple=True, callback=_grants, help="May also send as user@domain, or @domain for all."
)
@config_option
def add(address: Mailbox, password_stdin: bool, may_send: tuple[Grant, ...], config: Path | None) -> None:
    """Add an account and its mailbox."""
    known = load_or_exit(config, files=False).config
    with _errors():
        control.prepare(known)
        with control.open_accounts(known.data_dir) as store:
            if store.exists(address):
                raise AccountExists(str(address))
        password = _password(from_stdin=password_stdin)
        with control.open_accounts(known.data_dir) as store:
            store.add(address, password, may_send)
    say(f"{safe(str(address))} added.")
    if not control.is_local(known, address):
        say(f"{safe(str(address.domain))} is not a local domain here: the account can log in and send, not receive.")


@account.command("list")
@config_option
@json_option
def list_(config: Path | None, as_json: bool) -> None:
    """List all accounts by address."""
    known = load_or_exit(config, files=False).config
    found: list[control.AccountEntry] = []
    with _errors(), contextlib.suppress(NothingThere), control.open_accounts(known.data_dir) as store:
        found = [control.entry(one) for one in store.list()]
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        rows = [(one.address, ", ".join(one.may_send), f"{one.created_at:%Y-%m-%d %H:%M}") for one in found]
        table(("address", "may also send as", "created (UTC)"), rows)
    else:
        say("There are no accounts. Add one: staffetta account add ADDRESS")


@account.command()
@_address_argument
@_stdin_option
@config_option
def passwd(address: Mailbox, password_stdin: bool, config: Path | None) -> None:
    """Set a new password; the old one is worth nothing from then on."""
    known = load_or_exit(config, files=False).config
    with _errors():
        with _existing(known.data_dir, address):
            pass
        password = _password(from_stdin=password_stdin)
        with _existing(known.data_dir, address) as store:
            store.set_password(address, password)
    say(f"{safe(str(address))} has a new password.")


@account.command()
@_address_argument
@click.option(
    "--may-send", metavar="X", multiple=True, callback=_grants, help="From now on also as user@domain or @domain."
)
@click.option("--revoke", metavar="X", multiple=True, callback=_grants, help="No more as user@domain or @domain.")
@config_option
def grant(address: Mailbox, may_send: tuple[Grant, ...], revoke: tuple[Grant, ...], config: Path | None) -> None:
    """Change what an account may send as, besides its own addresses."""
    if not may_send and not revoke:
        raise click.UsageError("say what with --may-send or --revoke")
    known = load_or_exit(config, files=False).config
    with _errors(), _existing(known.data_dir, address) as store:
        account = store.get(address)
        before = account.may_send if account is not None else ()
        unknown = [one for one in revoke if one not in before]
        if unknown:
            raise Stop(f"{safe(str(address))} was never granted {safe(write_grant(unknown[0]))}", exits.NOTHING_MATCHED)
        after = tuple(one for one in (*before, *may_send) if one not in revoke)
        store.set_may_send(address, after)
    names = ", ".join(map(write_grant, dict.fromkeys(after)))
    say(f"{safe(str(address))} may also send as {safe(names) or 'nobody else'}.")


@account.command()
@_address_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def remove(address: Mailbox, yes: bool, config: Path | None) -> None:
    """Remove an account: no more logins, no more mail. What is in its mailbox stays."""
    known = load_or_exit(config, files=False).config
    with _errors():
        with _existing(known.data_dir, address):
            pass
        if not yes:
            say(f"{safe(str(address))} will not be able to log in, and mail to it will be refused.")
            confirm("Remove it?")
        with _existing(known.data_dir, address) as store:
            store.remove(address)
    say(f"{safe(str(address))} removed; what is in its mailbox stays.")


@contextlib.contextmanager
def _existing(data_dir: Path, address: Mailbox) -> Iterator[AccountStore]:
    """The store, when it has this account. Raises NoSuchAccount."""
    try:
        with control.open_accounts(data_dir) as store:
            if not store.exists(address):
                raise NoSuchAccount(str(address))
            yield store
    except NothingThere as error:
        raise NoSuchAccount(str(address)) from error


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        with store_errors():
            yield
    except AccountExists as error:
        raise Stop(f"there is an account {error} already", exits.PROBLEM) from error
    except NoSuchAccount as error:
        raise Stop(f"there is no account {error}", exits.NOTHING_MATCHED) from error
    except (PasswordRefused, GrantError) as error:
        raise Stop(str(error), exits.USAGE) from None
    except AccountsUnavailable as error:
        raise Stop(str(error), exits.TEMPORARY) from error


def _password(*, from_stdin: bool) -> str:
    """The password, checked before the store is opened. Raises PasswordRefused, Stop."""
    if from_stdin:
        line = sys.stdin.buffer.readline(LINE_OCTETS)
        try:
            password = line.removesuffix(b"\n").decode("utf-8")
        except UnicodeDecodeError:
            raise PasswordRefused("the password is not UTF-8 text") from None
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        raise Stop("there is no terminal to ask for the password on: use --password-stdin", exits.USAGE)
    prepared(password)
    return password
