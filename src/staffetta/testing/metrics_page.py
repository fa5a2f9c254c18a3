"""A strict reader of the Prometheus text format 0.0.4, written from its description."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL: Final = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"'
_SAMPLE: Final = re.compile(
    rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (NaN|[+-]Inf|-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
)
_ESCAPES: Final = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by name and labels."""


class PageFault(ValueError):
    """What a strict reader refuses; the message says what."""


class MetricsPage:
    """A page that was read: kinds by name, and all series."""

    def __init__(self, page: bytes) -> None:
        """Raises PageFault."""
        self.kinds: dict[str, str] = {}
        self.series: Series = {}
        self._helped: set[str] = set()
        self._current = ""
        lines = page.decode().split("\n")
        _insist(lines.pop() == "", "the page does not end with a line end")
        for line in lines:
            words = line.split(" ")
            if words[:2] == ["#", "HELP"]:
                self._help(words[2])
            elif words[:2] == ["#", "TYPE"]:
                self._type(*words[2:])
            else:
                self._sample(line)

    def value(self, name: str, /, **labels: str) -> float:
        """One series. Raises KeyError."""
        return self.series[name, frozenset(labels.items())]

    def _help(self, name: str) -> None:
        _insist(re.fullmatch(_NAME, name) is not None, f"{name!r} is no name")
        _insist(name not in self._helped, f"{name} is explained twice")
        self._helped.add(name)
        self._current = name

    def _type(self, name: str, kind: str) -> None:
        _insist(name == self._current, f"the type of {name} stands under {self._current}")
        _insist(name not in self.kinds, f"{name} has two types")
        _insist(kind in {"counter", "gauge"}, f"{name} is a {kind}")
        _insist((kind == "counter") == name.endswith("_total"), f"{name} does not end as a {kind} does")
        self.kinds[name] = kind

    def _sample(self, line: str) -> None:
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise PageFault(f"{line!r} is no sample")
        name = match[1]
        _insist(name == self._current and name in self.kinds, f"{name} stands under {self._current}")
        pairs = re.findall(_LABEL, match[2] or "")
        labels = frozenset((label, re.sub(r"\\.", lambda found: _ESCAPES[found[0]], text)) for label, text in pairs)
        _insist(len(labels) == len({label for label, _ in pairs}), f"{line!r} has a label twice")
        _insist((name, labels) not in self.series, f"{line!r} is there twice")
        self.series[name, labels] = float(match[7])


def _insist(right: bool, fault: str) -> None:
    if not right:
        raise PageFault(fault)
