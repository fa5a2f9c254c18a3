"""`explain route`: where mail for an address goes, and what decides it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staffetta.cli import exits, given
from staffetta.cli.options import config_option, find_file, json_option, load_or_exit
from staffetta.cli.output import line, print_json, safe
from staffetta.cli.storing import store_errors
from staffetta.mail.address import NULL_PATH, Mailbox, ReversePath

if TYPE_CHECKING:
    from staffetta.config.load import Loaded
    from staffetta.control.explain_route import RouteReport


@click.command()
@click.argument("address", callback=given.mailbox)
@click.option("--from", "sender", metavar="S", callback=given.sender, help="The sender; else the null path.")
@config_option
@json_option
def route(address: Mailbox, sender: ReversePath | None, config: Path | None, as_json: bool) -> None:
    """Where mail for ADDRESS goes, and what decides it; nothing is sent.

    Exit status 0: it would go; 1: it would be refused or returned; 2: not an address; 6: the DNS does not answer.
    """
    loaded = load_or_exit(config, files=False)
    file = find_file(config)
    assert file is not None  # noqa: S101 - or there would be nothing loaded
    with store_errors():
        report = asyncio.run(_explain(loaded, file, address, sender or NULL_PATH))
    if as_json:
        print_json(report)
    else:
        _print(report)
    status = {"refused": exits.PROBLEM, "unknown": exits.TEMPORARY}
    click.get_current_context().exit(status.get(report.verdict, exits.DONE))


async def _explain(loaded: Loaded, file: Path, address: Mailbox, sender: ReversePath) -> RouteReport:
    from staffetta.app.directory import build_directory  # noqa: PLC0415 - after the arguments are right
    from staffetta.app.dry_run import accounts_as_they_are  # noqa: PLC0415
    from staffetta.app.roads import Roads  # noqa: PLC0415
    from staffetta.control.explain_forecast import with_forecast  # noqa: PLC0415
    from staffetta.control.explain_route import Ways, explain_route  # noqa: PLC0415
    from staffetta.control.mx import resolver_settings  # noqa: PLC0415
    from staffetta.control.patience import patience  # noqa: PLC0415
    from staffetta.control.place import NothingThere  # noqa: PLC0415
    from staffetta.control.places import Places  # noqa: PLC0415
    from staffetta.control.queue import open_queue  # noqa: PLC0415
    from staffetta.dns.live import LiveResolver  # noqa: PLC0415
    from staffetta.spool.operator_destinations import Destination, destination  # noqa: PLC0415

    config = loaded.config

    def state(key: str) -> Destination | None:
        try:
            with open_queue(config.data_dir) as store:
                return destination(store, key, time.time())
        except NothingThere:
            return None

    roads = Roads(config)
    resolver = LiveResolver(resolver_settings(config))
    try:
        with accounts_as_they_are(config) as accounts:
            directory = build_directory(config, accounts.exists)
            ways = Ways(
                config, Places(loaded, file), directory, roads.table, roads.destination, roads.road, resolver, state
            )
            report = await explain_route(ways, address, sender)
        return await with_forecast(config, patience(resolver, time.monotonic), roads.road, sender, report)
    finally:
        await resolver.close()


def _print(report: RouteReport) -> None:
    line(f"mail for {safe(report.address)} from {safe(report.sender) or '<>'}: {report.verdict}")
    for step in report.steps:
        text = f"{step.number:>2}  {step.about:<10} {safe(step.text)}"
        line(f"{text:<78}  {safe(step.where)}".rstrip())
    for sentence in report.forecast:
        line(f"    {'forecast':<10} {safe(sentence)}")
