"""Accept on disk, deliver to smtp-sink, events recorded: 4 KB, 20 connections, a new connection per message, no TLS."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from bench.peers import Sink, postfix, sink, source, staffetta

MESSAGES = 4000
ROUNDS = 5


def rate(target: Sink, port: int, messages: int) -> float:
    """Messages a second from the first connection to the last message in the sink."""
    before = target.messages
    begin = time.monotonic()
    source(port, messages)
    end = target.wait_until(before + messages, 120)
    return messages / (end - begin)


def compare(messages: int = MESSAGES, rounds: int = ROUNDS, peer: bool = True) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {"null": [], "staffetta": [], "postfix": []}
    with sink() as target, staffetta(target.port) as ours:
        runners: dict[str, Callable[[], float]] = {
            "null": lambda: rate(target, target.port, messages),
            "staffetta": lambda: rate(target, ours.port, messages),
        }
        if peer:
            with postfix(target.port) as port:
                runners["postfix"] = lambda: rate(target, port, messages)
                _alternate(runners, rates, rounds)
        else:
            _alternate(runners, rates, rounds)
    return rates


def _alternate(runners: dict[str, Callable[[], float]], rates: dict[str, list[float]], rounds: int) -> None:
    for number in range(rounds + 1):
        for name, run in runners.items():
            value = run()
            if number:  # the first round warms everybody up
                rates[name].append(value)


def report(rates: dict[str, list[float]]) -> list[str]:
    lines = [f"{name}: {statistics.median(values):,.0f} messages/s" for name, values in rates.items() if values]
    for other in ("postfix", "null"):
        if rates[other]:
            ratios = [a / b for a, b in zip(rates["staffetta"], rates[other], strict=True)]
            lines.append(f"staffetta / {other}: {statistics.median(ratios):.2f} (median of {len(ratios)} ratios)")
    return lines


def main() -> list[str]:
    return report(compare())


if __name__ == "__main__":
    print("\n".join(main()))
