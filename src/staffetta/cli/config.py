"""`config`: check the file, show what is in force."""

from __future__ import annotations

from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, json_option, load_or_exit, read
from staffetta.cli.output import line, print_json
from staffetta.config import explain
from staffetta.config.load import Problems
from staffetta.config.problems import render
from staffetta.control.answer import versioned


@click.group()
@config_option
def config(config: Path | None) -> None:
    """Check and show the configuration."""


@config.command()
@config_option
@json_option
def check(config: Path | None, as_json: bool) -> None:
    """All mistakes of the file at once. Exit status 8 when it cannot be used; warnings alone are 0."""
    loaded = read(config)
    wrong = isinstance(loaded, Problems)
    problems = loaded.problems if isinstance(loaded, Problems) else loaded.warnings
    if as_json:
        for problem in problems:
            print_json(versioned(problem.fields()))
    elif problems:
        line(render(problems, "This file cannot be used." if wrong else "The file can be used."))
    elif not isinstance(loaded, Problems):
        line(f"{loaded.file}: no mistakes")
    if wrong:
        click.get_current_context().exit(exits.CONFIGURATION)


@config.command()
@config_option
@json_option
def show(config: Path | None, as_json: bool) -> None:
    """Every effective value and where it came from. Secrets are not shown."""
    loaded = load_or_exit(config)
    if not as_json:
        line(explain.explain(loaded).removesuffix("\n"))
        return
    for setting in explain.fields(loaded):
        print_json(versioned(dict(setting)))
