"""`run` and `demo`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, find_file, load_or_exit
from staffetta.cli.output import say


@click.command()
@config_option
def run(config: Path | None) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP re-reads the configuration."""
    from staffetta.app.live_check import check_before_start  # noqa: PLC0415 - the relay's imports, not for --help

    loaded = load_or_exit(config, beyond=check_before_start)
    if loaded.warnings:
        from staffetta.config.problems import render  # noqa: PLC0415

        say(render(loaded.warnings))
    from staffetta.app.serve import serve  # noqa: PLC0415

    sys.exit(serve(loaded, find_file(config)))


@click.command()
@click.option("--keep", is_flag=True, help="Leave it running afterwards, and say where.")
def demo(keep: bool) -> None:
    """Run five messages through a small internet on loopback; 0 when all ended as they should have."""
    from staffetta.demo.run import demo as run_demo  # noqa: PLC0415

    status = exits.DONE
    with contextlib.suppress(KeyboardInterrupt):
        status = asyncio.run(run_demo(keep=keep))
    sys.stdout.flush()
    sys.exit(status)
