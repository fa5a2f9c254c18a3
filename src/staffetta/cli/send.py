"""`send`: compose or send a message through the queue."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from staffetta.cli import exits, given
from staffetta.cli.options import config_option, json_option, load_or_exit
from staffetta.cli.output import Stop, finish, line, print_json, safe, say
from staffetta.cli.storing import store_errors
from staffetta.cli.timeline import timeline
from staffetta.control.answer import versioned
from staffetta.control.place import who_asks
from staffetta.control.send import End, Following, SendReport, compose, default_sender
from staffetta.mail.address import ForwardPath, ReversePath
from staffetta.spool.recovery import relay_alive

if TYPE_CHECKING:
    from staffetta.config.schema import Config

WAIT: Final = "5m"
"""How long `--wait` waits when no time is given."""

_STATUS: Final = {End.DELIVERED: exits.DONE, End.FAILED: exits.REFUSED, End.WAITING: exits.TEMPORARY}


def _duration(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    from staffetta.control.filters import FilterError, parse_filter  # noqa: PLC0415

    try:
        return None if text is None else parse_filter([f"older:{text}"]).older_than_seconds
    except FilterError as error:
        raise click.BadParameter(
            "a time is a whole number and s, m, h or d, such as 30s; a FILE stands before --wait"
        ) from error


@click.command()
@click.option("--to", "recipients", metavar="A", required=True, multiple=True, callback=given.recipients)
@click.option("--from", "sender", metavar="S", callback=given.sender, help="The sender; else postmaster here.")
@click.option("--subject", default="", metavar="TEXT", help="Subject of a message that is composed.")
@click.option("--wait", is_flag=False, flag_value=WAIT, callback=_duration, metavar="[TIME]", help="Follow it; 5m.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@config_option
@json_option
def send(
    recipients: tuple[ForwardPath, ...],
    sender: ReversePath | None,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Send a message through the queue, with and without a running relay: FILE is a whole message, header and all; with
    no FILE, standard input is the text of one that is composed.

    Exit status 0: in the queue, or with --wait: delivered to all; 6: refused for now, or still waiting when the time
    was over; 7: refused, or returned.
    """
    known = load_or_exit(config, files=False).config
    user = who_asks()
    author = sender if sender is not None else default_sender(known, user)
    with store_errors(), _content(options["file"], author, recipients, options["subject"]) as content:
        report = _submit(known, author, recipients, content, user)
    if not relay_alive(known.data_dir):
        say("No relay is running on this store: the message leaves when one is started.")
    if options["wait"] is None:
        _print(report, as_json=as_json)
        return
    following = Following(known.data_dir, report)
    with store_errors():
        events = following.events(options["wait"])
        if as_json:
            for event in events:
                print_json(versioned(event))
                finish()
        else:
            for text in timeline(events):
                line(text)
                finish()
    if following.end is End.WAITING:
        say(f"It still waits. Its journey: staffetta trace {report.id}")
    click.get_current_context().exit(_STATUS[following.end])


def _submit(
    config: Config, sender: ReversePath, recipients: tuple[ForwardPath, ...], content: BinaryIO, user: str
) -> SendReport:
    from staffetta.app.pickup import NotTaken, submit_locally  # noqa: PLC0415 - after the arguments are right

    try:
        done = submit_locally(config, sender, recipients, content, user=user)
    except NotTaken as refusal:
        for recipient, reply in refusal.refused:
            say(f"refused: {safe(str(recipient))}: {safe(str(reply))}")
        reason = f" ({refusal.reason})" if refusal.reason else ""
        status = exits.REFUSED if refusal.reply.is_permanent else exits.TEMPORARY
        raise Stop(f"nothing was sent: {refusal.reply}{reason}", status) from None
    return SendReport(done.id, str(sender), done.recipients)


def _content(file: Path | None, sender: ReversePath, recipients: tuple[ForwardPath, ...], subject: str) -> BinaryIO:
    if file is not None:
        if subject:
            raise click.UsageError("--subject is for a message that is composed; FILE has a header of its own")
        return sys.stdin.buffer if str(file) == "-" else file.open("rb")
    if sys.stdin.isatty():
        say("The text of the message; Ctrl-D ends it.")
    return io.BytesIO(compose(sender, recipients, subject, sys.stdin.buffer.read()))


def _print(report: SendReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        line(report.id)
        say(f"Queued for {safe(', '.join(report.recipients))}. Its journey: staffetta trace {report.id}")
