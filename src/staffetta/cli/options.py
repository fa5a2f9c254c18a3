"""`-c FILE`, anywhere on the command line, and the configuration behind it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from staffetta.cli import exits
from staffetta.cli.output import Stop, say

if TYPE_CHECKING:
    from staffetta.config.load import Beyond, Loaded, Problems

DEFAULT_FILES: Final = (Path("staffetta.toml"), Path("/etc/staffetta/staffetta.toml"))
"""Where the configuration is looked for, in this order."""

_META: Final = "staffetta.config"

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(function: Command) -> Command:
    """`-c FILE` for a verb: its parameter `config`, None when no file is named here or before the verb."""
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        callback=_remembered,
        help="The configuration; else $STAFFETTA_CONFIG, ./staffetta.toml, then /etc/staffetta/staffetta.toml.",
    )(function)


def json_option(function: Command) -> Command:
    """`--json` for a reading verb: its parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON for programs.")(function)


def find_file(config: Path | None) -> Path | None:
    """The file to read: the one that is named here, or in STAFFETTA_CONFIG, or the first of the defaults that exists;
    None when none does."""
    if config is not None:
        return config
    from staffetta.config.environment import FILE_VARIABLE  # noqa: PLC0415

    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    return next((path for path in DEFAULT_FILES if path.exists()), None)


def read(config: Path | None, *, files: bool = True, beyond: Beyond | None = None) -> Loaded | Problems:
    """The configuration or what is wrong with it; `files` and `beyond` as in config.load. Raises Stop when there is no
    file."""
    path = find_file(config)
    if path is None:
        looked = " and ".join(map(str, DEFAULT_FILES))
        raise Stop(f"there is no configuration: looked for {looked}; name it with -c FILE", exits.CONFIGURATION)
    from staffetta.config.load import load  # noqa: PLC0415 - not for --help

    return load(path, os.environ, files=files, beyond=beyond)


def load_or_exit(config: Path | None, *, files: bool = True, beyond: Beyond | None = None) -> Loaded:
    """The configuration; what is wrong with it goes to stderr and ends the verb with status 8.

    Without `files`, for verbs that use none, what the file names outside itself is not looked at.
    """
    from staffetta.config.load import Problems  # noqa: PLC0415
    from staffetta.config.problems import render  # noqa: PLC0415

    loaded = read(config, files=files, beyond=beyond)
    if isinstance(loaded, Problems):
        say(render(loaded.problems, "Nothing was done."))
        click.get_current_context().exit(exits.CONFIGURATION)
    return loaded


def _remembered(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    """What is named at a verb goes before what is named at its group or at `staffetta`."""
    if value is not None:
        ctx.meta[_META] = value
        return value
    known = ctx.meta.get(_META)
    return known if isinstance(known, Path) else None
