"""Metrics as Prometheus reads them: the text format, version 0.0.4.

A family is a name, a kind, a sentence, names of labels, and samples. This module refuses to know what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]


class Family(msgspec.Struct, frozen=True):
    """One metric. `kind` is `counter` or `gauge`; `samples` maps the values of `labels` to the value."""

    name: str
    kind: str
    help: str
    samples: Mapping[Labels, float]
    labels: Labels = ()


def counter(name: str, text: str, samples: Mapping[Labels, float] | float, labels: Labels = ()) -> Family:
    """What only grows; the name gets the end that all counters have."""
    return Family(f"staffetta_{name}_total", "counter", text, _samples(samples), labels)


def gauge(name: str, text: str, samples: Mapping[Labels, float] | float, labels: Labels = ()) -> Family:
    """What goes up and down."""
    return Family(f"staffetta_{name}", "gauge", text, _samples(samples), labels)


def exposition(families: Iterable[Family]) -> bytes:
    """The page."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escape(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for values, value in sorted(family.samples.items()):
            lines.append(f"{family.name}{_labels(family.labels, values)} {_number(value)}")
    lines.append("")
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def _samples(samples: Mapping[Labels, float] | float) -> Mapping[Labels, float]:
    return samples if isinstance(samples, Mapping) else {(): samples}


def _labels(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = [f'{name}="{_quoted(value)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escape(text).replace('"', '\\"')


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
