"""Verbs that work on a store: what can go wrong there, as exit statuses; and asking before something is changed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import apsw
import click

from staffetta.cli import exits
from staffetta.cli.output import Stop, say
from staffetta.control.place import NotAllowed, NothingThere
from staffetta.spool.contract import SpoolUnavailable
from staffetta.spool.database import StoreError


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Turn what a store raises into the end of the verb."""
    try:
        yield
    except NothingThere as error:
        raise Stop(f"{error}: has the relay run with this configuration?", exits.NOTHING_MATCHED) from error
    except NotAllowed as error:
        raise Stop(str(error), exits.NOT_ALLOWED) from error
    except (SpoolUnavailable, apsw.BusyError) as error:
        raise Stop(f"the store cannot be used now: {error}", exits.TEMPORARY) from error
    except (StoreError, apsw.Error) as error:
        raise Stop(str(error), exits.PROBLEM) from error


def confirm(question: str) -> None:
    """Return when a person at the terminal says yes; else the verb ends. For `--yes`, do not call it."""
    if not sys.stdin.isatty():
        raise Stop("nothing was done: there is no terminal to ask on; add --yes to do it", exits.USAGE)
    if not click.confirm(question, err=True):
        say("Nothing was done.")
        click.get_current_context().exit(exits.PROBLEM)
