"""`check relay --live`: let the running relay ask at its own doors, now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from staffetta.cli import exits
from staffetta.cli.output import Stop, line, print_json, safe
from staffetta.cli.reaching import data_dir_of
from staffetta.control.channel import NotReachable, RequestFailed, ask
from staffetta.control.place import NotAllowed
from staffetta.control.selfcheck import SelfCheck, SelfCheckReport, SelfCheckState, Taken

LOOK_SECONDS: Final = 0.25
"""Between two looks at how far it is."""

PATIENCE_SECONDS: Final = 700.0
"""A check ends by itself before."""

Sleep = Callable[[float], None]


def live(config: Path | None, *, as_json: bool, sleep: Sleep = time.sleep) -> None:
    """Run the self check and show it."""
    data_dir, _ = data_dir_of(config)
    report = _wait(data_dir, sleep)
    if as_json:
        print_json(report)
    else:
        _print(report)
    click.get_current_context().exit(exits.DONE if report.passed else exits.PROBLEM)


def _wait(data_dir: Path, sleep: Sleep) -> SelfCheckReport:
    """Begin a check, and look until it has ended. Raises Stop."""
    state = _ask(data_dir, SelfCheck(start=True))
    end = time.monotonic() + PATIENCE_SECONDS
    while state.running and time.monotonic() < end:
        _show(state)
        sleep(LOOK_SECONDS)
        state = _ask(data_dir, SelfCheck())
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    if state.running or state.last is None:
        raise Stop("the relay did not come to an end of its check", exits.TEMPORARY)
    return state.last


def _ask(data_dir: Path, request: SelfCheck) -> SelfCheckState:
    try:
        return ask(data_dir, request, SelfCheckState)
    except NotAllowed as error:
        raise Stop(str(error), exits.NOT_ALLOWED) from error
    except NotReachable as error:
        raise Stop(f"nothing was checked: {error}", exits.NOT_REACHABLE) from error
    except RequestFailed as error:
        raise Stop(f"the relay could not check itself: {error}", exits.TEMPORARY) from error


def _show(state: SelfCheckState) -> None:
    if sys.stderr.isatty() and state.total:
        click.echo(f"\r{state.done} of {state.total} asked", err=True, nl=False)


def _print(report: SelfCheckReport) -> None:
    for door in report.doors:
        end = f"{door.failed} TAKEN" if door.failed else "none taken"
        how = {"tcp": f"from {door.client}", "proxy": f"by PROXY header as {door.client}"}.get(
            door.way, f"in memory as {door.client}"
        )
        note = f" ({safe(door.note)})" if door.note else ""
        line(f"{safe(door.door)} ({door.role}, {safe(door.address)}) {safe(how)}: {door.tried} asked, {end}{note}")
    for failure in report.failures:
        _print_failure(failure)
    if not report.passed:
        line(f"THIS IS AN OPEN RELAY: {report.failed} of {report.tried} shapes would be sent on for strangers.")
        return
    line(f"The running relay lets no stranger send: {report.tried} shapes asked in {report.seconds:.1f} s.")
    if not report.complete:
        line("Not every door could be asked everything; the notes above say why.")


def _print_failure(failure: Taken) -> None:
    line("")
    line(f"door {safe(failure.door)} at {safe(failure.address)}, client {failure.client}: {safe(failure.shape)}")
    for said in failure.dialogue:
        line(f"  > {safe(said.said)}")
        line(f"    {safe(said.reply)}")
    line(f"  would go to {safe(', '.join(failure.went_to))}, let in by {safe(failure.rule)}")
