"""`help`: what a code or a rule means, without a network; with neither, all verbs."""

from __future__ import annotations

import click

from staffetta.cli import exits
from staffetta.cli.output import Stop, line
from staffetta.config.codes import CODES
from staffetta.control.rule_words import RULES
from staffetta.policy.posture import codes as posture


@click.command("help")
@click.argument("code", required=False)
@click.pass_context
def help_(ctx: click.Context, code: str | None) -> None:
    """Explain a code such as C103 or D401, or a rule such as relaying_denied; or list the verbs."""
    if code is None:
        line(ctx.find_root().get_help())
        return
    if code[:1] in {"D", "d"} and code.upper() in posture.CODES:
        line(f"{code.upper()}  {posture.CODES[code.upper()]}")
        return
    if code.lower() in RULES:
        line(f"{code.lower()}  {RULES[code.lower()]}")
        return
    found = CODES.get(code.upper())
    if found is None:
        raise Stop(
            f"there is no code or rule {code}; codes stand in what config check and check domain print, rules behind"
            " `because` in trace and explain session",
            exits.NOTHING_MATCHED,
        )
    line(f"{code.upper()}  {found.level.value}: {found.title}\n\n{found.explanation}")
