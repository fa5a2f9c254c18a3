"""`check upstream`: can we deliver to a route, step by step, without sending a message."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staffetta.cli import exits, given
from staffetta.cli.options import config_option, json_option, load_or_exit
from staffetta.cli.output import Stop, finish, line, print_json, safe, say
from staffetta.mail.address import ForwardPath, Mailbox, ReversePath
from staffetta.mail.domain import Domain, DomainError, Host, parse_domain

if TYPE_CHECKING:
    from staffetta.config.schema import Config
    from staffetta.control.check_upstream import Errand, UpstreamStep
    from staffetta.delivery.road import Road


def _domain(_: click.Context, __: click.Parameter, text: str | None) -> Domain | None:
    try:
        return None if text is None else parse_domain(text.removesuffix("."))
    except (DomainError, UnicodeError) as error:
        raise click.BadParameter(safe(f"{text!r}: {error}")) from error


def _recipient(ctx: click.Context, parameter: click.Parameter, text: str | None) -> ForwardPath | None:
    return None if text is None else given.recipients(ctx, parameter, (text,))[0]


@click.command()
@click.argument("route", metavar="ROUTE")
@click.option("--to", "recipient", metavar="RCPT", callback=_recipient, help="Ask for this recipient too.")
@click.option("--from", "sender", metavar="S", callback=given.sender, help="The sender; else the route's login.")
@click.option("--domain", metavar="D", callback=_domain, help="Whose MX, for a route by MX; else that of --to.")
@click.option("--timeout", type=click.FloatRange(1, 300), default=15.0, metavar="SECONDS", help="For one step; 15.")
@config_option
@json_option
def upstream(
    route: str,
    recipient: ForwardPath | None,
    sender: ReversePath | None,
    config: Path | None,
    as_json: bool,
    *,
    domain: Domain | None,
    timeout: float,
) -> None:
    """Can mail go out by [route.ROUTE]? Resolve, connect, greeting, features, TLS, login, sender, recipient: each step
    with its time, as it happens. No message is sent.

    Exit status 0: the route takes mail; 3: no such route; 6: a step failed for now; 7: it failed for good.
    """
    from staffetta.app.upstream import road_by, route_named  # noqa: PLC0415 - after the arguments are right
    from staffetta.control.check_upstream import Errand, default_sender  # noqa: PLC0415

    known = load_or_exit(config).config
    found = route_named(known, route)
    if found is None:
        names = ", ".join(one.name for one in known.routes)
        raise Stop(f"there is no route {route!r}; routes are: {names}", exits.NOTHING_MATCHED)
    host: Host | None = domain
    if host is None and isinstance(recipient, Mailbox):
        host = recipient.domain
    road = road_by(known, found, host)
    if road is None:
        raise click.UsageError(f"route {route} goes by MX: name a domain with --domain, or a recipient with --to")
    errand = Errand(sender if sender is not None else default_sender(road, known.hostname.ascii), recipient)
    last = asyncio.run(_steps(known, road, errand, timeout, as_json=as_json))
    if not last.ok:
        click.get_current_context().exit(exits.REFUSED if last.permanent else exits.TEMPORARY)


async def _steps(config: Config, road: Road, errand: Errand, seconds: float, *, as_json: bool) -> UpstreamStep:
    from staffetta.app.upstream import upstream_tools  # noqa: PLC0415
    from staffetta.app.wiring import live_world  # noqa: PLC0415
    from staffetta.control.check_upstream import check_upstream  # noqa: PLC0415

    world = live_world(config)
    last: UpstreamStep | None = None
    try:
        async for step in check_upstream(road, upstream_tools(config, world, step_seconds=seconds), errand):
            print_json(step) if as_json else _print(step)
            finish()
            last = step
        await asyncio.sleep(0)
    finally:
        await world.close()
    assert last is not None  # noqa: S101 - there is always an end
    return last


def _print(step: UpstreamStep) -> None:
    mark = "ok  " if step.ok else "FAIL"
    line(f"{mark} {step.seconds:>7.3f} s  {step.stage:<8} {safe(step.text)}")
    if step.advice:
        say(f"{'':17}{'':8} what to do: {safe(step.advice)}")
    if not step.ok and "subject" in step.details:
        shown = {name: value for name, value in step.details.items() if name != "verified"}
        for name, value in shown.items():
            line(f"{'':17}{'':8} {name}: {safe(value)}")
