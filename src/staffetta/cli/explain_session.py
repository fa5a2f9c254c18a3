"""`explain session`: what a client would be answered, and by which rule."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from staffetta.cli import exits, given
from staffetta.cli.options import config_option, find_file, json_option, load_or_exit
from staffetta.cli.output import line, print_json, safe
from staffetta.cli.storing import store_errors
from staffetta.mail.address import ForwardPath, Mailbox, ReversePath
from staffetta.mail.network import address_number

if TYPE_CHECKING:
    from staffetta.config.load import Loaded
    from staffetta.control.explain_session import Question, SessionReport


def _client(_: click.Context, __: click.Parameter, text: str) -> str:
    if address_number(text) is None:
        raise click.BadParameter(safe(f"{text!r} is not an IP address"))
    return text


def _helo(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is not None and not (text.isascii() and text.isprintable() and text):
        raise click.BadParameter("a client's name is printable ASCII")
    return text


def _login(ctx: click.Context, parameter: click.Parameter, text: str | None) -> Mailbox | None:
    return None if text is None else given.mailbox(ctx, parameter, text)


@click.command()
@click.option("--from-ip", "client", metavar="A", required=True, callback=_client, help="The client's address.")
@click.option("--helo", metavar="H", callback=_helo, help="What it calls itself; else its address in brackets.")
@click.option("--mail-from", "sender", metavar="S", required=True, callback=given.sender, help="The sender, or <>.")
@click.option("--rcpt", "recipients", metavar="R", required=True, multiple=True, callback=given.recipients)
@click.option("--door", metavar="NAME", help="Which [listen.NAME]; else the one that such a client would use.")
@click.option("--login", metavar="L", callback=_login, help="Logged in as L; no password is asked.")
@click.option("--tls", is_flag=True, help="Over TLS; --login implies it.")
@click.option("--header-from", metavar="TEXT", help="From of the message that is made up; else the sender.")
@config_option
@json_option
def session(
    client: str,
    sender: ReversePath,
    recipients: tuple[ForwardPath, ...],
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """What a client would be answered at a door, command by command, and which rule decides, with its line.

    A real session answers, in memory: nothing is kept and nothing is sent. Exit status 0: the message would be
    accepted; 1: refused; 2: wrong usage; 6: put off.
    """
    from staffetta.control.explain_session import Question  # noqa: PLC0415 - after the arguments are right

    loaded = load_or_exit(config, files=False)
    file = find_file(config)
    assert file is not None  # noqa: S101 - or there would be nothing loaded
    question = Question(
        client,
        options["helo"] or f"[{'IPv6:' if ':' in client else ''}{client}]",
        sender,
        recipients,
        options["login"],
        tls=options["tls"],
        header_from=_one_line(options["header_from"]),
    )
    with store_errors():
        report = asyncio.run(_explain(loaded, file, question, options["door"]))
    if as_json:
        print_json(report)
    else:
        _print(report)
    status = {"accepted": exits.DONE, "refused": exits.PROBLEM}
    click.get_current_context().exit(status.get(report.verdict, exits.TEMPORARY))


async def _explain(loaded: Loaded, file: Path, question: Question, name: str | None) -> SessionReport:
    from staffetta.app.dry_run import DrySettings, accounts_as_they_are, dry_run  # noqa: PLC0415
    from staffetta.control.explain_session import choose_door, explain_session  # noqa: PLC0415
    from staffetta.control.mx import resolver_settings  # noqa: PLC0415
    from staffetta.control.places import Places  # noqa: PLC0415
    from staffetta.dns.live import LiveResolver  # noqa: PLC0415

    config = loaded.config
    resolver = LiveResolver(resolver_settings(config))
    try:
        with accounts_as_they_are(config) as accounts:
            async with dry_run(config, accounts, DrySettings(resolver, question.login)) as dry:
                door = choose_door(dry.doors, name, login=question.login is not None)
                if door is None:
                    names = ", ".join(dict.fromkeys(one.name for one in dry.doors)) or "none"
                    raise click.UsageError(safe(f"there is no door {name!r}; doors are: {names}"))
                return await explain_session(config, dry, Places(loaded, file), door, question)
    finally:
        await resolver.close()


def _one_line(text: str | None) -> str | None:
    if text is not None and not text.isprintable():
        raise click.UsageError("--header-from is one line of text")
    return text


def _print(report: SessionReport) -> None:
    line(f"{report.client} at door {safe(report.door)}: {report.verdict}")
    for step in report.steps:
        line(f"  > {safe(step.command)}")
        line(f"    {safe(step.reply)}")
        if step.rule:
            because = f"because: {step.rule}" + (f" - {step.reason}" if step.reason else "")
            line(f"      {safe(because)}" + (f"  ({safe(step.where)})" if step.where else ""))
    if report.recipients:
        line(f"  it would go to {safe(', '.join(report.recipients))}")
