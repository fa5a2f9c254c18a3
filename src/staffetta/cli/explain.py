"""`explain`: decisions of the relay, without sending anything."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from staffetta.cli.lazy import LazyGroup
from staffetta.cli.options import config_option

VERBS: Final = {
    "route": ("staffetta.cli.explain_route", "Where mail for an address goes, and what decides it."),
    "session": ("staffetta.cli.explain_session", "What a client would be answered, and by which rule."),
    "headers": ("staffetta.cli.explain_headers", "Where a message came from, and what of its header is proven."),
    "reply": ("staffetta.cli.explain_reply", "What a server's reply means, and who has to act."),
}


@click.group(cls=LazyGroup, verbs=VERBS)
@config_option
def explain(config: Path | None) -> None:
    """Decisions of the relay, without sending anything: the same code answers that a running relay uses."""
