"""Is the process alive, and may it be sent clients? For machines that ask: service managers, load balancers, clusters.

Alive is whoever answers: a loop that stands still answers nothing. Ready is a relay whose doors are open, whose store
can take a message now, and that does not drain. Why not is said, in our own words only: anybody may ask.
"""

from __future__ import annotations

import msgspec

from staffetta.console.request import Response, sentence


class Readiness(msgspec.Struct, frozen=True, gc=False):
    """What readiness rests on. `doors_wanted` of the configuration, `doors_open` now; `store_fault` is empty when a
    message could be stored."""

    draining: bool
    doors_wanted: int
    doors_open: int
    store_fault: str = ""


def live() -> Response:
    """The answer to `/livez`."""
    return sentence(200, "ok")


def ready(facts: Readiness) -> Response:
    """The answer to `/readyz`: 200, or 503 with every reason on a line of its own."""
    reasons = []
    if facts.draining:
        reasons.append("draining: the relay is about to stop")
    if facts.doors_open < facts.doors_wanted:
        reasons.append(f"doors: {facts.doors_open} of {facts.doors_wanted} are open")
    if facts.store_fault:
        reasons.append(f"store: {facts.store_fault}")
    return sentence(503, "\n".join(reasons)) if reasons else sentence(200, "ok")
