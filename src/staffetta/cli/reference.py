"""The reference pages, made from the program itself: `python -m staffetta.cli.reference DIR` writes all of them.

A test compares what stands in docs/reference with what is made here, so no page can go stale.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from staffetta.cli.main import cli
from staffetta.cli.manual import STATUSES, leaves
from staffetta.cli.options import DEFAULT_FILES
from staffetta.config.reference import reference as configuration_page
from staffetta.control.rule_words import page as rules_page
from staffetta.observe.event_words import page as events_page
from staffetta.policy.posture.codes import page as checks_page
from staffetta.sendmail.manual_words import FLAGS, IGNORED
from staffetta.sendmail.manual_words import STATUSES as SYSEXITS

_COMMON: Final = {"config", "as_json", "help"}
"""Options that are the same everywhere, and explained once."""

_FILES: Final = ", then ".join(f"`{path}`" for path in DEFAULT_FILES)


def commands_page() -> str:
    """`docs/reference/commands.md`."""
    return "\n".join([*_introduction(), *_verbs(), *_sendmail()]) + "\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "checks.md": checks_page,
    "commands.md": commands_page,
    "configuration.md": configuration_page,
    "events.md": events_page,
    "rules.md": rules_page,
}
"""File name and what makes its text."""


def _introduction() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "<!-- Made by staffetta.cli.reference from the commands themselves. Do not edit. -->"
    yield ""
    yield "Data goes to standard output; hints, progress and warnings to standard error. Tables are drawn on a terminal"
    yield "only; elsewhere a line is a record, with tabs between its cells. `NO_COLOR` is honoured."
    yield ""
    yield "| everywhere | |"
    yield "| --- | --- |"
    yield f"| `-c`, `--config FILE` | The configuration; else `$STAFFETTA_CONFIG`, {_FILES}. |"
    yield "| `--json` | Where a verb has it: one JSON object for one thing, a line for each of several. |"
    yield "| `-h`, `--help` | What the verb does, and its options. |"
    yield ""
    yield "## Exit status"
    yield ""
    yield "| status | meaning |"
    yield "| --- | --- |"
    for status, words in STATUSES:
        yield f"| {status} | {words} |"


def _verbs() -> Iterator[str]:
    with click.Context(cli, info_name="staffetta") as root:
        for context in leaves(root):
            yield from _verb(context)


def _verb(context: click.Context) -> Iterator[str]:
    command = context.command
    arguments = [one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)]
    yield ""
    yield f"## `{' '.join([context.command_path, *arguments])}`"
    for paragraph in (command.help or "").split("\n\n"):
        yield ""
        yield _words(paragraph)
    options = [one for one in command.params if isinstance(one, click.Option)]
    records = [one.get_help_record(context) for one in options if one.name not in _COMMON]
    shown = [record for record in records if record is not None]
    if shown:
        yield ""
        yield "| option | |"
        yield "| --- | --- |"
        for names, words in shown:
            yield f"| `{_cell(names)}` | {_cell(words)} |"
    common = [word for word, name in (("`-c`", "config"), ("`--json`", "as_json")) if name in {o.name for o in options}]
    if common:
        yield ""
        yield f"Also {' and '.join(common)}."
    if command.epilog:
        yield ""
        yield _words(command.epilog)


def _sendmail() -> Iterator[str]:
    yield ""
    yield "## `sendmail`, `mailq`, `newaliases`"
    yield ""
    yield "For programs that send by calling `sendmail`. The message is left in a drop directory, from which the relay"
    yield "takes it within a second, or when it is started. `mailq` lists the queue; `newaliases` does nothing."
    yield ""
    yield "| flag | |"
    yield "| --- | --- |"
    for flag, value, words in FLAGS:
        yield f"| `{_cell(f'{flag} {value}'.rstrip())}` | {_cell(words)} |"
    yield ""
    yield f"Ignored, because nothing needs to be done: {', '.join(f'`-{one}`' for one in IGNORED)}. So are flags that"
    yield "nobody knows."
    yield ""
    yield "| exit status | meaning |"
    yield "| --- | --- |"
    for status, words in SYSEXITS:
        yield f"| {status} | {words} |"


def _words(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _words(text).replace("|", "\\|")


def main() -> None:
    """Write every page into the folder that is named."""
    folder = Path(sys.argv[1])
    for name, make in PAGES.items():
        (folder / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
