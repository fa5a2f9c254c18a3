"""`status`: one screen of health. `health`: does the relay answer, for machines that ask every few seconds."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, json_option
from staffetta.cli.output import Stop, line, octets, on_terminal, print_json, safe, say, span, table
from staffetta.cli.reaching import data_dir_of
from staffetta.cli.storing import store_errors
from staffetta.control.channel import NotReachable, Ping, Pong, RequestFailed, ask
from staffetta.control.place import NotAllowed, NothingThere

if TYPE_CHECKING:
    from staffetta.control.status import StatusAnswer

HEALTH_SECONDS = 3.0
"""How long one question of `health` may take."""

_PAUSE_SECONDS = 0.1
"""Between two questions of `health --wait`."""


@click.command()
@config_option
@json_option
def status(config: Path | None, as_json: bool) -> None:
    """Show doors, queue, destinations in trouble, certificates, disk, books and alarms.

    Exit status 0 when all is well, 1 when something is not, 4 when no relay answers: then the store tells its half.
    """
    from staffetta.control import status as control  # noqa: PLC0415
    from staffetta.control.queue import open_queue  # noqa: PLC0415

    data_dir, found = data_dir_of(config)
    now = time.time()
    with store_errors():
        try:
            live = control.running(data_dir)
            known = control.Known("", ())
            if found is not None and isinstance(live, NotReachable):
                known = control.known_from(found, now)
            with open_queue(data_dir) as store:
                answer = control.status(store, None if isinstance(live, NotReachable) else live, known, now)
        except NothingThere as error:
            raise Stop(f"no relay answers, and {error}", exits.NOT_REACHABLE) from error
        except RequestFailed as error:
            raise Stop(f"the relay could not tell: {error}", exits.TEMPORARY) from error
    if as_json:
        print_json(answer)
    else:
        _show(answer, now)
    if isinstance(live, NotReachable):
        say(f"staffetta: {safe(str(live))}")
        click.get_current_context().exit(exits.NOT_REACHABLE)
    if answer.problems:
        click.get_current_context().exit(exits.PROBLEM)


class Span(click.ParamType[float]):
    """A duration as the configuration writes them."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`30s`, `5m`; a bare number is seconds."""
        text = str(value)
        units = {"s": 1, "m": 60, "h": 3600}
        number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
        if number.isascii() and number.isdigit() and len(number) <= 6:
            return float(int(number) * units[unit])
        self.fail(f"{safe(text)!r} is no duration such as 30s or 5m", param, ctx)


@click.command()
@config_option
@json_option
@click.option("--wait", type=Span(), default="0s", metavar="TIME", help="Wait until it answers, at most so long (30s).")
def health(config: Path | None, as_json: bool, wait: float) -> None:
    """Exit with 0 when the relay answers and its doors are open, else with 4."""
    data_dir, _ = data_dir_of(config)
    end = time.monotonic() + wait
    while True:
        try:
            pong = ask(data_dir, Ping(), Pong, HEALTH_SECONDS)
            break
        except NotAllowed as error:
            raise Stop(str(error), exits.NOT_ALLOWED) from error
        except (NotReachable, RequestFailed) as error:
            if time.monotonic() >= end:
                raise Stop(str(error), exits.NOT_REACHABLE) from error
        time.sleep(min(_PAUSE_SECONDS, max(0.0, end - time.monotonic())))
    if as_json:
        print_json({"schema": 1, **{name: getattr(pong, name) for name in pong.__struct_fields__}})
    else:
        line(f"{safe(pong.hostname)} answers, at {', '.join(map(safe, pong.listeners)) or 'no doors'}")


def _show(answer: StatusAnswer, now: float) -> None:
    """The worst first, then what people look for, each on a line of its own; tables on a terminal only."""
    up = f"up {_ago(answer.started_at, now)}" if answer.started_at is not None else "not running"
    line(f"{safe(answer.hostname) or 'the relay'}: {up}, Staffetta {answer.version}")
    for problem in answer.problems:
        line(f"PROBLEM  {safe(problem)}")
    if answer.configuration:
        line(f"{'file':<9}{safe(answer.file)}, {answer.configuration}{_reload(answer, now)}")
    _doors(answer)
    if answer.workers:
        told = (f"{one.pid} with {one.sessions} sessions" for one in answer.workers)
        line(f"{'workers':<9}{', '.join(told)}")
    queue, oldest = answer.queue, answer.oldest
    states = (
        f"{getattr(queue, state)} {state}{_oldest(getattr(oldest, state), now)}"
        for state in ("queued", "active", "deferred", "held")
    )
    line(f"{'queue':<9}{', '.join(states)}")
    books = answer.ledger
    line(
        f"{'books':<9}{books.accepted} accepted = {books.delivered} delivered + {books.bounced} bounced"
        f" + {books.dropped} dropped + {books.queued} queued"
        + (f" + {books.unaccounted} UNACCOUNTED" if books.unaccounted else "")
    )
    for one in answer.certificates:
        left = "cannot be read" if one.days_left is None else f"{one.days_left} days left"
        line(f"{'tls':<9}{safe(one.subject)}, {left}")
    disk = answer.disk
    line(f"{'disk':<9}{octets(disk.free)} of {octets(disk.total)} free, the queue takes {octets(disk.queue)}")
    _destinations(answer, now)


def _doors(answer: StatusAnswer) -> None:
    rows = [(one.name, one.address, one.role, one.tls, str(one.sessions)) for one in answer.listeners]
    if rows and on_terminal():
        line("")
        table(("door", "address", "role", "tls", "sessions"), rows)
        line("")
        return
    for name, address, *rest, sessions in rows:
        line(f"{'door':<9}{safe(name)} {safe(address)}, {', '.join(rest)}, {sessions} sessions")


def _destinations(answer: StatusAnswer, now: float) -> None:
    rows = [
        (
            one.destination,
            str(one.waiting),
            f"in {span(one.down_until.timestamp() - now)}",
            str(one.failures),
            one.last_reply,
        )
        for one in answer.destinations
    ]
    if rows and not on_terminal():
        for destination, waiting, again, failures, reply in rows:
            line(
                f"{'trouble':<9}{safe(destination)}: {waiting} waiting, {failures} failures in a row,"
                f" tried again {again}: {safe(reply)}"
            )
    elif rows:
        line("")
        table(("destination in trouble", "waiting", "tried again", "failures", "last reply"), rows)


def _reload(answer: StatusAnswer, now: float) -> str:
    report = answer.reload
    if report is None:
        return ""
    word = "reloaded" if report.done else "reload REFUSED"
    return f", {word} {_ago(report.at, now)} ago by {safe(report.by)}"


def _ago(when: datetime, now: float) -> str:
    return span(now - when.timestamp())


def _oldest(when: datetime | None, now: float) -> str:
    return "" if when is None else f" (oldest {_ago(when, now)})"
