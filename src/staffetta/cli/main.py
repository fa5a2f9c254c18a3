"""The command `staffetta`. Verbs are imported when they are called, so that each starts fast."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final, cast

import click
from click.shell_completion import CompletionItem

from staffetta import __version__
from staffetta.cli import output
from staffetta.cli.options import config_option

VERBS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("staffetta.cli.serve", "Try it: a small internet on loopback, and five messages."),
    "init": ("staffetta.cli.init", "Write a working file: for a smarthost, or for a domain of your own."),
    "run": ("staffetta.cli.serve", "Serve."),
    "reload": ("staffetta.cli.reload", "Let the running relay read its configuration again."),
    "status": ("staffetta.cli.status", "One screen of health."),
    "health": ("staffetta.cli.status", "Does the relay answer? For machines that ask."),
    "config": ("staffetta.cli.config", "Check and show the configuration."),
    "account": ("staffetta.cli.account", "Logins and mailboxes."),
    "queue": ("staffetta.cli.queue", "What waits, and what to do with it."),
    "send": ("staffetta.cli.send", "Send a message through the queue, and follow it."),
    "trace": ("staffetta.cli.trace", "The journey of a message, accepted or refused."),
    "explain": ("staffetta.cli.explain", "Decisions, without sending: where mail goes, what a client is answered."),
    "check": ("staffetta.cli.check", "Are we an open relay? Can we deliver to a route?"),
    "lookup": ("staffetta.cli.lookup", "Ask DNS as the relay does."),
    "dkim": ("staffetta.cli.dkim", "Signing keys, and the DNS records to publish."),
    "client-settings": ("staffetta.cli.client_settings", "What to type into a mail program, and what to publish."),
    "service": ("staffetta.cli.service", "Hand the relay to systemd."),
    "completion": ("staffetta.cli.completion", "Let the shell complete verbs and options."),
    "manual": ("staffetta.cli.manual", "The manual pages."),
    "help": ("staffetta.cli.help", "Explain a code such as C103, or a rule."),
}


class Verbs(click.Group):
    """A group whose commands live in modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people need them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module."""
        if cmd_name not in VERBS:
            return None
        name = "help_" if cmd_name == "help" else cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(VERBS[cmd_name][0]), name)
        return cast(click.Command, command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What a shell may offer, without importing every verb."""
        verbs = [CompletionItem(name, help=text) for name, (_, text) in VERBS.items() if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help without importing every verb."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="staffetta %(version)s")
@config_option
def cli(config: Path | None) -> None:
    """Staffetta: an SMTP relay that loses nothing, cannot be used to forge, and explains itself."""


def main() -> None:
    """Run the command line; exit statuses are those of `cli.exits`."""
    try:
        cli.main(prog_name="staffetta", standalone_mode=True)
    finally:
        output.finish()
