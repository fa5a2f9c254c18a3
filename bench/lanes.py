"""Several relays measured in turn, so that what a busy machine does to one it does to its neighbour."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from bench.peers import Relay, Server, Sink
from bench.processes import Neighbours
from bench.results import Figure, spread

Load = Callable[[int, int], object]
"""Sends that many messages to a port: `load(port, messages)`."""


class Lane:
    """One thing to measure: rate and CPU of each round. Without a `target` a message counts when the load is sent."""

    def __init__(self, server: Server | Relay, load: Load, target: Sink | None = None) -> None:
        self.server = server
        self.load = load
        self.target = target
        self.rates: list[float] = []
        self.cpu_microseconds: list[float] = []

    def round(self, messages: int) -> None:
        """Messages a second from the first connection to the last message in the sink."""
        cpu = self.server.cpu_seconds()
        before = self.target.messages if self.target else 0
        begin = time.monotonic()
        self.load(self.server.port, messages)
        end = self.target.wait_until(before + messages, 60) if self.target else time.monotonic()
        self.rates.append(messages / (end - begin))
        self.server.settle()
        os.sync()  # what this one left to the system to write later is not to be written in the next one's time
        self.cpu_microseconds.append((self.server.cpu_seconds() - cpu) / messages * 1e6)

    def forget(self) -> None:
        """What was measured until now was practice."""
        self.rates.clear()
        self.cpu_microseconds.clear()


def alternate(lanes: Mapping[str, Lane], messages: int, rounds: int) -> Figure:
    """All lanes in turn; a first, shorter round that does not count warms everybody up.

    Returns what others did on the machine meanwhile.
    """
    for lane in lanes.values():
        lane.round(max(messages // 4, 1))
        lane.forget()
    neighbours = Neighbours()
    for _ in range(rounds):
        for lane in lanes.values():
            lane.round(messages)
    return Figure("share of the machine that other processes took", f"{neighbours.share():.0%}")


def rate_figures(lanes: Mapping[str, Lane], suffix: str = "") -> list[Figure]:
    """Rate and CPU of each lane."""
    figures = [Figure(f"{name}, messages/s{suffix}", spread(lane.rates)) for name, lane in lanes.items()]
    figures += [
        Figure(f"{name}, CPU per message, µs{suffix}", spread(lane.cpu_microseconds)) for name, lane in lanes.items()
    ]
    return figures
