"""`explain reply`: what a server's reply means, and who has to act."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, find_file, json_option, read
from staffetta.cli.output import Stop, line, print_json, safe, say

if TYPE_CHECKING:
    from staffetta.control.explain_reply import ReplyExplanation
    from staffetta.policy.retry import RetrySettings


@click.command()
@click.argument("text", nargs=-1, required=True, metavar="TEXT")
@config_option
@json_option
def reply(text: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """What a server's reply means, who has to act, and what this relay does with it.

    TEXT is a reply, several lines of one, or whatever quotes it: a log line, a Diagnostic-Code of a notice; `-` reads
    standard input. Exit status 0: a known reply; 3: only its code or status says something; 2: there is no reply in it.
    """
    from staffetta.control.explain_reply import classify  # noqa: PLC0415 - not for --help

    given = _standard_input() if text == ("-",) else " ".join(text)
    found = classify(given, _retry(config))
    if found is None:
        raise Stop("there is no SMTP reply in this text: it begins with a code such as 550", exits.USAGE)
    if as_json:
        print_json(found)
    else:
        _print(found)
    click.get_current_context().exit(exits.DONE if found.matched is not None else exits.NOTHING_MATCHED)


def _standard_input() -> str:
    from staffetta.control.reply_text import TEXT_CHARACTERS  # noqa: PLC0415

    return sys.stdin.buffer.read(4 * TEXT_CHARACTERS).decode("utf-8", "replace")


def _retry(config: Path | None) -> RetrySettings:
    """`[queue]` of the configuration; the defaults without one, and when it is not valid."""
    from staffetta.config.load import Loaded  # noqa: PLC0415
    from staffetta.control.explain_reply import DEFAULT_RETRY, retry_of  # noqa: PLC0415

    if config is None and find_file(None) is None:
        return DEFAULT_RETRY
    loaded = read(config, files=False)
    if isinstance(loaded, Loaded):
        return retry_of(loaded.config)
    say("the configuration is not valid: what the relay does is told by the defaults")
    return DEFAULT_RETRY


def _print(found: ReplyExplanation) -> None:
    from staffetta.control.reply_status import status_meaning  # noqa: PLC0415
    from staffetta.mail.reply import split_enhanced  # noqa: PLC0415

    duration = "permanent" if found.permanent else "temporary"
    kind = found.kind if found.kind == "accepted" else f"{found.kind}, {duration}"
    code = str(found.code) if found.code is not None else ""
    line(safe(" ".join(filter(None, (code, found.enhanced_status or "", found.text)))))
    line(f"  class       {kind}")
    if found.enhanced_status is not None:
        status, _ = split_enhanced(found.enhanced_status)
        if status is not None:
            line(f"  status      {found.enhanced_status}: {status_meaning(status)}")
    line(f"  cause       {safe(found.cause)}")
    line(f"  who acts    {found.actor}")
    line(f"  what to do  {safe(found.advice)}")
    line(f"  this relay  {safe(found.relay_does)}")
    line(f"  source      {safe(found.source) or 'none: the words are not in the table'}")
