"""What a benchmark says: figures as measured, each beside its target where it has one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


class Missing(Exception):
    """Something of the machine that a benchmark needs is not there; the message says what and how to get it."""


class Failed(Exception):
    """What was to be measured did not do its work, so that a figure would mean nothing."""


@dataclass(frozen=True)
class Figure:
    """One line of the table. `met` is None where there is no target."""

    name: str
    value: str
    target: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        return "" if self.met is None else "yes" if self.met else "NO"


@dataclass
class Outcome:
    """One benchmark. `problem` says why figures are missing."""

    name: str
    title: str
    method: str
    figures: list[Figure] = field(default_factory=list)
    problem: str = ""
    seconds: float = 0.0


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Median with least and greatest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what a busy machine does to one it does to its neighbour."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def ratio_figure(name: str, ours: Sequence[float], theirs: Sequence[float], least: float | None = None) -> Figure:
    """The median of the rounds' ratios, against a lower bound where there is one."""
    each = ratios(ours, theirs)
    middle = statistics.median(each)
    if least is None:
        return Figure(name, spread(each, ".2f"))
    return Figure(name, spread(each, ".2f"), f"at least {least:g}", middle >= least)
