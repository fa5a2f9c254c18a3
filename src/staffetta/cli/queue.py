"""`queue`: what waits, and what to do with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, TypeVar

import click

from staffetta.cli import exits
from staffetta.cli.meaning import Meanings
from staffetta.cli.options import config_option, json_option, load_or_exit
from staffetta.cli.output import Stop, line, octets, on_terminal, print_json, raw, record, safe, say, span, table
from staffetta.cli.storing import store_errors
from staffetta.control import queue as control
from staffetta.control.filters import FilterError, parse_filter
from staffetta.control.place import who_asks
from staffetta.control.queue import QueueEntry, QueueMessage
from staffetta.spool.contract import State
from staffetta.spool.operator import Filter, content

FILTER_HELP = "A FILTER is an id, or id: from: to: state: route: older: reply: with a value; all must hold together."
_NEEDS_CHOICE = frozenset({"hold", "drop", "bounce"})
"""With no FILTER these do not mean the whole queue: an empty variable in a script must not stop or lose all mail."""

WIDE_COLUMNS = 160
"""A terminal at least this wide gets a table."""

TERMINAL_ROWS = 500
"""Rows that a terminal shows."""

_COLUMNS = ("id", "sender", "recipient", "state", "age", "size", "tries", "next", "last reply")

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
@config_option
def queue(config: Path | None) -> None:
    """What waits, and what to do with it."""


def _filters(ctx: click.Context, _: click.Parameter, words: tuple[str, ...]) -> Filter:
    try:
        return parse_filter(words)
    except FilterError as error:
        raise click.UsageError(safe(str(error)), ctx) from error


def _filter_argument(function: Command) -> Command:
    return click.argument("chosen", metavar="[FILTER]...", nargs=-1, callback=_filters)(function)


@queue.command("list", epilog=FILTER_HELP)
@_filter_argument
@config_option
@json_option
def list_(chosen: Filter, config: Path | None, as_json: bool) -> None:
    """List waiting recipients, in order of arrival."""
    loaded = load_or_exit(config, files=False)
    with store_errors(), control.open_queue(loaded.config.data_dir) as store:
        found = control.entries(store, chosen, time.time())
        count = _print_json(found) if as_json else _print_rows(found)
    if not count and chosen != Filter():
        raise Stop("nothing in the queue matches", exits.NOTHING_MATCHED)
    if not count:
        say("The queue is empty.")


def _print_json(entries: Iterator[QueueEntry]) -> int:
    count = 0
    for entry in entries:
        print_json(entry)
        count += 1
    return count


def _print_rows(entries: Iterator[QueueEntry]) -> int:
    """Rows flow to a program; a table for a person is measured before it is drawn, so it has an end."""
    now = time.time()
    count = 0
    if on_terminal():
        shown = list(islice(entries, TERMINAL_ROWS))
        count = len(shown)
        if shown and get_terminal_size().columns >= WIDE_COLUMNS:
            table(_COLUMNS, [_row(entry, now) for entry in shown])
        else:
            for entry in shown:
                _stack(entry, now)
        more = sum(1 for _ in entries)
        if more:
            say(f"{count} of {count + more}; --json lists all.")
    else:
        for entry in entries:
            record(_row(entry, now))
            count += 1
    if count:
        say("More about one: staffetta queue show ID")
    return count


@queue.command()
@click.argument("message_id", metavar="ID")
@click.option("--content", "whole", is_flag=True, help="Print the message itself, octet by octet.")
@config_option
@json_option
def show(message_id: str, config: Path | None, whole: bool, as_json: bool) -> None:
    """Show one message: envelope, what waits of it, header."""
    loaded = load_or_exit(config, files=False)
    message_id = _plain_id(message_id)
    now = time.time()
    with store_errors(), control.open_queue(loaded.config.data_dir) as store:
        found = control.message(store, message_id, now)
        if found is not None and whole:
            for chunk in content(store, message_id):
                raw(chunk)
            return
    if found is None:
        raise Stop(f"{message_id} is not in the queue; staffetta trace may know it", exits.NOTHING_MATCHED)
    if as_json:
        print_json(found)
    else:
        _show(found, now, Meanings(loaded.config))


@queue.command()
@config_option
@json_option
def age(config: Path | None, as_json: bool) -> None:
    """How long what waits has waited: a row for each destination, columns of ages that double."""
    from staffetta.cli.queue_age import print_ages  # noqa: PLC0415 - not for the other verbs
    from staffetta.control.queue_age import queue_ages  # noqa: PLC0415

    loaded = load_or_exit(config, files=False)
    now = time.time()
    with store_errors(), control.open_queue(loaded.config.data_dir) as store:
        rows = queue_ages(store, now)
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        print_ages(rows, now)
    else:
        say("The queue is empty.")


def _act(word: str, help_text: str) -> None:
    @queue.command(word, help=help_text, epilog=FILTER_HELP)
    @_filter_argument
    @click.option("--all", "everything", is_flag=True, help="The whole queue, when no FILTER is given.")
    @click.option("--reason", default="", metavar="TEXT", help="Why; stands in the journal.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @click.option("--dry-run", is_flag=True, help="Show what would be touched, and do nothing.")
    @config_option
    @json_option
    def command(chosen: Filter, config: Path | None, **options: Any) -> None:
        from staffetta.cli.queue_acts import Act, Wish, act  # noqa: PLC0415 - not for the reading verbs

        if chosen == Filter() and word in _NEEDS_CHOICE and not options["everything"]:
            raise click.UsageError("name what with a FILTER, or say --all")
        loaded = load_or_exit(config, files=False)
        wish = Wish(Act(word), chosen, who_asks(), _text(options["reason"]))
        act(
            loaded.config.data_dir,
            wish,
            yes=options["yes"],
            dry_run=options["dry_run"],
            as_json=options["as_json"],
        )


_act("retry", "Try again now, without waiting for the next time.")
_act("hold", "Stop until released.")
_act("release", "Let what is held go on.")
_act("drop", "Remove for good; nobody is told.")
_act("bounce", "Give up now: return it to its sender, who is told.")


def _stack(entry: QueueEntry, now: float) -> None:
    """One entry on a terminal that has no room for a table: addresses and replies stay whole."""
    age = span(now - entry.received_at.timestamp())
    line(f"{entry.id}  {_state(entry)}, {_tries(entry)}, next {_next(entry, now)}, {octets(entry.size)}, {age} old")
    line(f"    {safe(entry.sender or '<>')} -> {safe(entry.recipient)}")
    if entry.last_reply:
        line(f"    {safe(entry.last_reply)}")


def _tries(entry: QueueEntry) -> str:
    return "1 try" if entry.attempts == 1 else f"{entry.attempts} tries"


def _row(entry: QueueEntry, now: float) -> tuple[str, ...]:
    return (
        entry.id,
        entry.sender or "<>",
        entry.recipient,
        _state(entry),
        span(now - entry.received_at.timestamp()),
        octets(entry.size),
        str(entry.attempts),
        _next(entry, now),
        entry.last_reply,
    )


def _state(entry: QueueEntry) -> str:
    return f"{entry.state.value}, in doubt" if entry.in_doubt else entry.state.value


def _next(entry: QueueEntry, now: float) -> str:
    if entry.next_attempt_at is None or entry.state is State.ACTIVE:
        return "-"
    wait = entry.next_attempt_at.timestamp() - now
    return f"in {span(wait)}" if wait > 0 else "now"


def _show(found: QueueMessage, now: float, meanings: Meanings) -> None:
    facts = (
        ("id", found.id),
        ("sender", found.sender or "<>"),
        ("received", f"{_moment(found.received_at)} ({span(now - found.received_at.timestamp())} ago)"),
        ("size", octets(found.size)),
        ("message-id", found.message_id),
        ("client", found.client),
        ("login", found.login),
        ("session", found.session),
    )
    for name, value in facts:
        if value:
            line(f"{name:<11} {safe(value)}")
    for entry in found.recipients:
        line(f"{'recipient':<11} {safe(entry.recipient)}")
        line(f"{'':<11}   {_state(entry)}, {_tries(entry)}, next {_next(entry, now)}, {safe(entry.destination)}")
        if entry.last_reply:
            line(f"{'':<11}   {safe(entry.last_reply)}")
            for text in meanings.lines(entry.last_reply):
                line(f"{'':<11}   {text}")
    line("")
    for field in found.header.split("\n"):
        if field.strip():
            line(safe(field.removesuffix("\r").replace("\t", "    ")))
    say(f"The journey so far: staffetta trace {found.id}")


def _plain_id(text: str) -> str:
    text = _text(text).removeprefix("id:")
    return text.upper() if text.isascii() else text


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")


def _text(text: str) -> str:
    """An argument as text; octets that are not UTF-8 become visible."""
    return text.encode("utf-8", "backslashreplace").decode()
