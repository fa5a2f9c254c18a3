"""The DNS as one check may use it: together no longer than somebody waits at a terminal.

What is late is Unavailable like any silence, so that a check ends with what it has, and says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from staffetta.dns.resolver import Resolver
from staffetta.mailauth.asking import Asker

CHECK_SECONDS: Final = 20.0
"""How long all questions of one check may take together."""

CHECK_QUERIES: Final = 2000
"""How many there may be: a domain with a hundred mail hosts needs some hundreds."""


def patience(resolver: Resolver, clock: Callable[[], float], seconds: float = CHECK_SECONDS) -> Asker:
    """A Resolver for one check. `clock` gives seconds of any origin."""
    return Asker(resolver, clock, CHECK_QUERIES, seconds)
