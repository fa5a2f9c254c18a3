"""A check ends in time: what is late is not known, and nothing more is asked."""

from __future__ import annotations

import asyncio

from staffetta.control.patience import patience
from staffetta.dns.resolver import Answer, Lookup, RecordKind, Unavailable
from staffetta.dns.table import TableResolver


class Silent:
    """A resolver that never answers."""

    async def query(self, _name: str, _kind: RecordKind) -> Lookup:
        await asyncio.Event().wait()
        raise AssertionError

    def cached(self, _name: str, _kind: RecordKind) -> Lookup | None:
        return None


def test_late_questions_are_not_asked() -> None:
    now = 0.0
    table = TableResolver({"a.example": {"A": ["192.0.2.1"]}})
    patient = patience(table, lambda: now, 20)
    assert isinstance(asyncio.run(patient.query("a.example", RecordKind.A)), Answer)
    now = 20.0
    assert isinstance(asyncio.run(patient.query("a.example", RecordKind.A)), Unavailable)
    assert table.asked["a.example", RecordKind.A] == 1


def test_silence_ends_with_the_time() -> None:
    patient = patience(Silent(), lambda: 0.0, 0.01)
    assert isinstance(asyncio.run(patient.query("a.example", RecordKind.A)), Unavailable)
