"""`check relay`: could strangers send through us?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, find_file, json_option, load_or_exit
from staffetta.cli.output import line, print_json, safe, say
from staffetta.cli.storing import store_errors

if TYPE_CHECKING:
    from staffetta.config.load import Loaded
    from staffetta.control.check_relay import Failure, RelayReport


@click.command()
@config_option
@json_option
@click.option("--live", is_flag=True, help="Let the running relay ask at its own doors, over real connections.")
def relay(config: Path | None, as_json: bool, live: bool) -> None:
    """Could strangers send through us? Every known shape of asking, at every door, judged by what would be taken.

    The doors answer in memory: nothing is sent, and no running relay is asked, unless --live. Exit status 0: nothing
    would be accepted for anybody outside; 1: something would; 4 with --live: no relay runs.
    """
    if live:
        from staffetta.cli import check_live  # noqa: PLC0415 - asks the relay, needs no configuration that is right

        check_live.live(config, as_json=as_json)
        return
    loaded = load_or_exit(config, files=False)
    file = find_file(config)
    assert file is not None  # noqa: S101 - or there would be nothing loaded
    with store_errors():
        report = asyncio.run(_check(loaded, file))
    if as_json:
        print_json(report)
    else:
        _print(report)
    click.get_current_context().exit(exits.DONE if report.passed else exits.PROBLEM)


async def _check(loaded: Loaded, file: Path) -> RelayReport:
    from staffetta.app.dry_run import DrySettings, accounts_as_they_are, dry_run  # noqa: PLC0415
    from staffetta.control.check_relay import check_relay  # noqa: PLC0415
    from staffetta.control.places import Places  # noqa: PLC0415
    from staffetta.dns.table import TableResolver  # noqa: PLC0415

    settings = DrySettings(TableResolver({}), patient=True)
    with accounts_as_they_are(loaded.config) as accounts:
        async with dry_run(loaded.config, accounts, settings) as dry:
            return await check_relay(loaded.config, dry, Places(loaded, file), _progress())


def _progress() -> Callable[[int, int], None]:
    if not sys.stderr.isatty():
        return lambda _, __: None

    def show(done: int, total: int) -> None:
        click.echo(f"\r{done} of {total} tried" + ("\r\033[K" if done == total else ""), err=True, nl=False)

    return show


def _print(report: RelayReport) -> None:
    for door in report.doors:
        end = f"{door.failed} TAKEN" if door.failed else "none taken"
        line(f"{safe(door.door)} ({door.role}, {safe(door.where)}): {door.tried} tried, {end}")
    for failure in report.failures:
        _print_failure(failure)
    for note in report.notes:
        say(f"Note: {safe(note)}")
    if report.passed:
        line(f"Strangers cannot send through this relay: {report.tried} messages tried in {report.seconds:.1f} s.")
    else:
        line(f"THIS IS AN OPEN RELAY: {report.failed} of {report.tried} messages would be sent on for strangers.")


def _print_failure(failure: Failure) -> None:
    line("")
    line(f"door {safe(failure.door)}, client {failure.client}: {safe(failure.shape)}")
    for said in failure.dialogue:
        if said.said:
            line(f"  > {safe(said.said)}")
        if said.reply:
            line(f"    {safe(said.reply)}")
    where = f" ({safe(failure.where)})" if failure.where else ""
    line(f"  would go to {safe(', '.join(failure.went_to))}, let in by {safe(failure.rule)}{where}")
