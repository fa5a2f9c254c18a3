"""`trace`: the journey of a message."""

from __future__ import annotations

from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.meaning import Meanings
from staffetta.cli.options import config_option, json_option, load_or_exit
from staffetta.cli.output import Stop, line, print_json, safe, say
from staffetta.cli.storing import store_errors
from staffetta.cli.timeline import timeline
from staffetta.control.answer import versioned
from staffetta.control.filters import FilterError, parse_filter
from staffetta.control.journey import journey
from staffetta.control.search import Wanted, search
from staffetta.spool.operator import Filter


@click.command()
@click.argument("names", metavar="ID-or-Message-ID | from:S to:R", nargs=-1, required=True)
@config_option
@json_option
def trace(names: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """The journey of a message, accepted or refused: all that is known of it, oldest first.

    Mail that was refused has no id. Look for it by addresses, from:anna@example.org to:@example.net; what is found
    names its id or session, and either leads to the whole journey.
    """
    loaded = load_or_exit(config, files=False)
    wanted = _wanted(names)
    with store_errors():
        data_dir = loaded.config.data_dir
        events = journey(data_dir, names[0]) if wanted is None else search(data_dir, wanted)
    if not events:
        days = round(loaded.config.journal.keep_seconds / 86400)
        raise Stop(f"the journal of the last {days} days knows nothing of {' '.join(names)}", exits.NOTHING_MATCHED)
    for event in events:
        if as_json:
            print_json(versioned(event))
    if not as_json:
        for text in timeline(events, Meanings(loaded.config)):
            line(text)
        if wanted is not None:
            name = str(events[-1].get("id") or events[-1].get("session") or "")
            say(f"{len(events)} found. More about one: staffetta trace {safe(name)}")


def _wanted(names: tuple[str, ...]) -> Wanted | None:
    """The addresses to search for; None when one name is given, of a message or a session."""
    if len(names) == 1 and not names[0].startswith(("from:", "to:")):
        return None
    try:
        chosen = parse_filter(names)
    except FilterError as error:
        raise click.UsageError(safe(str(error))) from error
    if chosen != Filter(sender=chosen.sender, recipient=chosen.recipient):
        raise click.UsageError("a search of the journal takes from: and to:")
    return Wanted(chosen.sender, chosen.recipient)
