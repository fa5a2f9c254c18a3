"""Questions of `init`: asked on a terminal, answered by flags, or listed as missing; judged when they are typed."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from staffetta.cli import exits
from staffetta.cli.output import Stop, safe
from staffetta.config.values import Wrong

Judge = Callable[[str], str]


class Asking:
    """Where answers come from. `enabled` when there is somebody to ask."""

    def __init__(self, *, no_input: bool) -> None:
        self.enabled = not no_input and sys.stdin.isatty()
        self._missing: list[str] = []

    def text(self, given: str | None, question: str, judge: Judge, default: str = "", *, flag: str = "") -> str:
        """What was given, else what a person says, else the default. Without any it is missing if there is a flag."""
        if given is not None:
            return given
        if self.enabled:
            return str(
                click.prompt(question, default=default, show_default=bool(default), value_proc=_judged(judge), err=True)
            )
        if not default and flag:
            self.miss(flag)
        return default

    def yes(self, question: str, *, otherwise: bool, default: bool = True) -> bool:
        """What a person says; `otherwise` when nobody is asked."""
        return click.confirm(question, default=default, err=True) if self.enabled else otherwise

    def secret(self, question: str) -> str:
        """A secret that is not shown."""
        return str(click.prompt(question, hide_input=True, err=True))

    def miss(self, what: str) -> None:
        """Note that something is needed that nobody said."""
        self._missing.append(what)

    def finish(self) -> None:
        """Return when nothing is missing. Raises Stop with a list of all that is."""
        if self._missing:
            why = "there is no terminal to ask on" if not self.enabled else "nothing was asked"
            listed = "\n".join(f"  {safe(what)}" for what in self._missing)
            raise MissingAnswers(f"nothing was written: {why}, and this is missing:", listed)


class MissingAnswers(Stop):
    """The list keeps its lines."""

    def __init__(self, message: str, listed: str) -> None:
        super().__init__(message, exits.USAGE)
        self._listed = listed

    def show(self, file: object = None) -> None:
        """The sentence and the list."""
        super().show()
        click.echo(self._listed, err=True)


def option_judge(judge: Judge) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """A judge as the callback of an option."""

    def callback(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
        return None if text is None else _judged(judge)(text)

    return callback


def options_judge(judge: Judge) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[str, ...]]:
    """A judge as the callback of an option that may come again."""

    def callback(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_judged(judge), texts))

    return callback


def _judged(judge: Judge) -> Judge:
    def checked(text: str) -> str:
        try:
            text.encode()
            return judge(text)
        except Wrong as fault:
            raise click.BadParameter(safe(f"{fault}; {fault.cure}" if fault.cure else str(fault))) from fault
        except UnicodeEncodeError as error:
            raise click.BadParameter("it is not UTF-8 text") from error

    return checked
