"""`config`: check the file, show what is in force."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, json_option, load_or_exit, read
from staffetta.cli.output import line, print_json
from staffetta.config import explain
from staffetta.config.load import Beyond, Problems
from staffetta.config.problems import render
from staffetta.control.answer import versioned

LIVE: Final = "C4"
"""How codes of what --live finds begin."""


@click.group()
@config_option
def config(config: Path | None) -> None:
    """Check and show the configuration."""


@config.command()
@click.option("--live", is_flag=True, help="Also try ports, the DNS, each next hop with its login, and the disk.")
@config_option
@json_option
def check(config: Path | None, as_json: bool, live: bool) -> None:
    """All mistakes of the file at once. Exit status 8 when it cannot be used; warnings alone are 0, but 1 when --live
    found them."""
    loaded = read(config, beyond=_beyond() if live else None)
    wrong = isinstance(loaded, Problems)
    problems = loaded.problems if isinstance(loaded, Problems) else loaded.warnings
    if as_json:
        for problem in problems:
            print_json(versioned(problem.fields()))
    elif problems:
        line(render(problems, "This file cannot be used." if wrong else "The file can be used."))
    elif not isinstance(loaded, Problems):
        line(f"{loaded.file}: no mistakes" + (", and all it names can be reached" if live else ""))
    if wrong:
        click.get_current_context().exit(exits.CONFIGURATION)
    if live and any(problem.code.startswith(LIVE) for problem in problems):
        click.get_current_context().exit(exits.PROBLEM)


def _beyond() -> Beyond:
    from staffetta.app.live_check import check_live  # noqa: PLC0415 - slow to import, needed only here

    return check_live


@config.command()
@config_option
@json_option
def show(config: Path | None, as_json: bool) -> None:
    """Every effective value and where it came from. Secrets are not shown."""
    loaded = load_or_exit(config, files=False)
    if not as_json:
        line(explain.explain(loaded).removesuffix("\n"))
        return
    for setting in explain.fields(loaded):
        print_json(versioned(dict(setting)))
