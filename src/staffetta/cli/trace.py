"""`trace`: the journey of a message."""

from __future__ import annotations

from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, json_option, load_or_exit
from staffetta.cli.output import Stop, line, print_json
from staffetta.cli.storing import store_errors
from staffetta.cli.timeline import timeline
from staffetta.control.answer import versioned
from staffetta.control.journey import journey


@click.command()
@click.argument("name", metavar="ID-or-Message-ID")
@config_option
@json_option
def trace(name: str, config: Path | None, as_json: bool) -> None:
    """The journey of a message, accepted or refused: all that is known of it, oldest first."""
    loaded = load_or_exit(config, files=False)
    with store_errors():
        events = journey(loaded.config.data_dir, name)
    if not events:
        days = round(loaded.config.journal.keep_seconds / 86400)
        raise Stop(f"the journal of the last {days} days knows nothing of {name}", exits.NOTHING_MATCHED)
    for event in events:
        if as_json:
            print_json(versioned(event))
    if not as_json:
        for text in timeline(events):
            line(text)
