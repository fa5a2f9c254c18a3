"""Groups whose verbs live in modules of their own, imported when a verb is called: `explain`, `check`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

import click


class LazyGroup(click.Group):
    """`verbs` maps a name to its module and its one line of help. The command in the module is called as the verb."""

    def __init__(self, *args: Any, verbs: Mapping[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are given."""
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module."""
        if cmd_name not in self._verbs:
            return None
        return cast(click.Command, getattr(importlib.import_module(self._verbs[cmd_name][0]), cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help without importing every verb."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in self._verbs.items()])
