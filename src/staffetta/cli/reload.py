"""`reload`: let the running relay read its configuration again."""

from __future__ import annotations

from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, json_option
from staffetta.cli.output import Stop, line, print_json, safe, say
from staffetta.cli.reaching import data_dir_of
from staffetta.control.channel import NotReachable, Reload, ReloadReport, RequestFailed, ask
from staffetta.control.place import NotAllowed, who_asks

RELOAD_SECONDS = 65.0
"""How long a reload may take; the relay itself gives up before."""


@click.command()
@config_option
@json_option
def reload(config: Path | None, as_json: bool) -> None:
    """Read the configuration again: all of it, or nothing.

    Exit status 8 when the relay refused it; the configuration of before then stays in force.
    """
    data_dir, _ = data_dir_of(config)
    try:
        report = ask(data_dir, Reload(who_asks()), ReloadReport, RELOAD_SECONDS)
    except NotAllowed as error:
        raise Stop(str(error), exits.NOT_ALLOWED) from error
    except NotReachable as error:
        raise Stop(f"nothing was reloaded: {error}", exits.NOT_REACHABLE) from error
    except RequestFailed as error:
        raise Stop(f"the relay could not carry it out: {error}", exits.TEMPORARY) from error
    if as_json:
        print_json({"schema": 1, **{name: getattr(report, name) for name in report.__struct_fields__}})
    for problem in report.problems:
        if problem not in report.reason:
            say(safe(problem))
    if not report.done:
        if not as_json:
            say(f"Refused: {safe(report.reason)}")
            say(f"The configuration of before ({report.digest}) stays in force.")
        click.get_current_context().exit(exits.CONFIGURATION)
    if not as_json:
        line(f"Reloaded: {safe(report.reason)}")
