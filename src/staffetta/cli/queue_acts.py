"""The verbs that change the queue: show what would be touched, ask, do it, say what was done."""

from __future__ import annotations

import time
from pathlib import Path

import click

from staffetta.cli import exits
from staffetta.cli.output import Stop, print_json, safe, say, span
from staffetta.cli.progress import Progress
from staffetta.cli.storing import confirm, store_errors
from staffetta.control.filters import is_one_message
from staffetta.control.queue import open_queue
from staffetta.control.queue_acts import Acted, Preview, Wish, carry_out, preview
from staffetta.spool.operator_acts import Act
from staffetta.spool.recovery import relay_alive

_DONE = {
    Act.RETRY: "to be tried now",
    Act.HOLD: "held",
    Act.RELEASE: "released",
    Act.DROP: "dropped",
    Act.BOUNCE: "to be returned to their senders",
}
_ASKS_ALWAYS = frozenset({Act.DROP, Act.BOUNCE})
"""These cannot be undone."""


def act(data_dir: Path, wish: Wish, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Carry a wish out. One message may be held, released and retried unasked: that can be undone."""
    now, total = time.time(), 0
    with store_errors():
        if dry_run:
            with open_queue(data_dir) as store:
                before = preview(store, wish, now)
            _announce(wish, before, now)
            if as_json:
                print_json(before)
            say("Nothing was done: this is a dry run.")
            return
        if not yes and (wish.act in _ASKS_ALWAYS or not is_one_message(wish.chosen)):
            # Asking may take long: the store is not kept open meanwhile.
            with open_queue(data_dir) as store:
                before = preview(store, wish, now)
            _announce(wish, before, now)
            confirm(f"{wish.act.value.capitalize()} {before.recipients}?")
            now, total = time.time(), before.recipients
        done = _do(data_dir, wish, now, total)
    if as_json:
        print_json(done)
    _say_done(wish, done, running=relay_alive(data_dir))


def _do(data_dir: Path, wish: Wish, now: float, total: int) -> Acted:
    progress = Progress(total)
    try:
        with open_queue(data_dir) as store:
            return carry_out(store, wish, now, progress)
    finally:
        progress.finish()


def _say_done(wish: Wish, done: Acted, *, running: bool) -> None:
    if done.active:
        later = "they are returned if this try fails" if wish.act is Act.BOUNCE else "ask again"
        say(f"{done.active} left alone: the relay is working on them now; {later}")
    if not done.touched and not done.active:
        raise _nothing(wish)
    say(f"{done.touched} {_DONE[wish.act]}.")
    if wish.act is Act.BOUNCE and not running:
        say("No relay is running on this store: they are returned when one is started.")
    if not done.touched:
        click.get_current_context().exit(exits.TEMPORARY)


def _announce(wish: Wish, before: Preview, now: float) -> None:
    if before.oldest is None:
        raise _nothing(wish)
    say(f"{before.recipients} to {wish.act.value}, the oldest {span(now - before.oldest.timestamp())} old:")
    for one in before.samples:
        say(f"  {one.id}  {safe(one.sender) or '<>'} -> {safe(one.recipient)}  {one.state.value}")
    if before.recipients > len(before.samples):
        say(f"  and {before.recipients - len(before.samples)} more")


def _nothing(wish: Wish) -> Stop:
    return Stop(f"nothing to {wish.act.value} matches", exits.NOTHING_MATCHED)


__all__ = ["Act", "Wish", "act"]
