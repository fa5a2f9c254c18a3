"""Accept on disk, deliver to smtp-sink, events recorded: 4 KB, 20 connections, a new connection per message, no TLS."""

from __future__ import annotations

from contextlib import ExitStack

from bench.lanes import Lane, alternate, rate_figures
from bench.peers import postfix, sink, source, staffetta
from bench.results import Figure, ratio_figure

TITLE = "End to end"
METHOD = (
    "smtp-source sends 10,000 messages of 4 KB over 20 connections, a new one per message, without TLS; a message "
    "counts when smtp-sink behind the relay has it. Each round runs the null relay (smtp-source straight to "
    "smtp-sink), Staffetta and Postfix one after the other, each after its predecessor has emptied its queue and come "
    "to rest. Both relays keep their queue on the same disk, flush before 250, and log every message to a file. "
    "Postfix has the limits it comes with."
)
MESSAGES = 10_000
"""So many that a round of the fastest relay takes seconds, and that queues come to their usual length."""

ROUNDS = 5
PEER_FACTOR = 5.0
NULL_FACTOR = 0.25


def compare(messages: int = MESSAGES, rounds: int = ROUNDS, without: frozenset[str] = frozenset()) -> list[Figure]:
    """All figures. `without` leaves out `staffetta` or `postfix`."""
    with ExitStack() as stack:
        target = stack.enter_context(sink())
        lanes = {"null": Lane(target.server, source, target)}
        if "staffetta" not in without:
            lanes["staffetta"] = Lane(stack.enter_context(staffetta(target.port)), source, target)
        if "postfix" not in without:
            lanes["postfix"] = Lane(stack.enter_context(postfix(target.port)), source, target)
        neighbours = alternate(lanes, messages, rounds)
    figures = [*rate_figures(lanes), neighbours]
    ours = lanes.get("staffetta")
    if ours is not None:
        if "postfix" in lanes:
            figures.append(ratio_figure("staffetta / postfix", ours.rates, lanes["postfix"].rates, PEER_FACTOR))
        figures.append(ratio_figure("staffetta / null", ours.rates, lanes["null"].rates, NULL_FACTOR))
    return figures


def run() -> list[Figure]:
    return compare()
