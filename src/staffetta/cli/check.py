"""`check`: what could be wrong with this relay, and with those it talks to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from staffetta.cli.lazy import LazyGroup
from staffetta.cli.options import config_option

VERBS: Final = {
    "relay": ("staffetta.cli.check_relay", "Could strangers send through us?"),
    "domain": ("staffetta.cli.check_domain", "Can others send as a domain? Can it be reached safely?"),
    "ip": ("staffetta.cli.check_ip", "Which name has an address, and is it on a list?"),
    "upstream": ("staffetta.cli.check_upstream", "Can we deliver to a route: step by step, without sending."),
}


@click.group(cls=LazyGroup, verbs=VERBS)
@config_option
def check(config: Path | None) -> None:
    """What could be wrong with this relay, and with those it talks to. Exit status 0 when a check passed."""
