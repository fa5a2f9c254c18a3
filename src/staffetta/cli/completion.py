"""`completion`: the script by which a shell completes verbs and options, for bash, zsh and fish."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from staffetta.cli.output import line, on_terminal, say

SHELLS = ("bash", "zsh", "fish")
_WHERE = {
    "bash": "~/.local/share/bash-completion/completions/staffetta",
    "zsh": "a file _staffetta in a folder of $fpath",
    "fish": "~/.config/fish/completions/staffetta.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes verbs and options in a shell."""
    line(script(ctx.find_root().command, shell))
    if on_terminal():
        say(f"Write it to {_WHERE[shell]}: staffetta completion {shell} > FILE")


def script(command: click.Command, shell: str) -> str:
    """The script for a shell. Unlike click's own way to it, this starts no shell to ask for its version."""
    made_by = get_completion_class(shell)
    assert made_by is not None  # noqa: S101 - click knows all three
    return ShellComplete.source(made_by(command, {}, "staffetta", "_STAFFETTA_COMPLETE")).rstrip("\n")
