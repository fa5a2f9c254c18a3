"""Any walk of operations leaves both engines with the same answers: a state machine drives them side by side."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from staffetta.spool.contract import (
    CHUNK_OCTETS,
    Claim,
    DestinationState,
    Final,
    JournalEntry,
    Spool,
    State,
    Step,
    WaitingRecipient,
)
from staffetta.spool.memory import MemorySpool
from staffetta.spool.sqlite import SqliteSpool
from staffetta.testing.spooled import START, Letter, new_message

DESTINATIONS = ("x", "y", "z")
ADDRESSES = st.sampled_from([f"{who}@{where}.example {where}" for who in "abc" for where in DESTINATIONS])
MOMENTS = st.integers(-5, 5).map(lambda offset: START + offset)
BUSY = st.frozensets(st.sampled_from(DESTINATIONS))
SIZES = st.sampled_from([0, 10, 4000, CHUNK_OCTETS, CHUNK_OCTETS + 100])
LIMITS = st.integers(1, 6)


class Engines(RuleBasedStateMachine):
    """`claims` are what both engines have handed out and not been told the end of."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.memory: Spool = MemorySpool(lambda: START)
        self.sqlite: Spool = self.runner.run(SqliteSpool.open(self.folder / "spool.db", lambda: START))
        self.claims: dict[tuple[str, int], WaitingRecipient] = {}
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.sqlite.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    @rule(
        recipients=st.lists(ADDRESSES, min_size=1, max_size=4),
        when=MOMENTS,
        received_at=MOMENTS,
        null=st.booleans(),
        claim=st.booleans(),
        size=SIZES,
    )
    def commit(
        self, recipients: list[str], when: float, received_at: float, null: bool, claim: bool, size: int
    ) -> None:
        self.count += 1
        sender = "" if null else "anna@example.org"
        letter = Letter(
            f"M{self.count:04}", recipients, sender, b"", received_at=received_at, next_attempt_at=when, claim=claim
        )
        for spool in (self.memory, self.sqlite):
            self.runner.run(self._commit(spool, letter, size))
        if claim:
            for one in new_message(letter).recipients:
                self.claims[one.message_id, one.index] = one

    async def _commit(self, spool: Spool, letter: Letter, size: int) -> None:
        draft = spool.draft()
        await spool.write(draft, b"x" * size)
        await spool.commit(new_message(letter, draft))

    @rule(now=MOMENTS, busy=BUSY, limit=LIMITS, per_destination=LIMITS)
    def due(self, now: float, busy: frozenset[str], limit: int, per_destination: int) -> None:
        self._same([self.runner.run(s.due(now, busy, limit, per_destination)) for s in (self.memory, self.sqlite)])

    @rule(before=MOMENTS, null_before=MOMENTS)
    def overdue(self, before: float, null_before: float) -> None:
        self._same([self.runner.run(s.overdue(before, null_before, 1000)) for s in (self.memory, self.sqlite)])

    @rule(before=MOMENTS)
    def undelayed(self, before: float) -> None:
        self._same([self.runner.run(s.undelayed(before, 1000)) for s in (self.memory, self.sqlite)])

    def _same(self, answers: list[list[Claim]]) -> None:
        ours, theirs = answers
        assert ours == theirs
        for claim in ours:
            assert not {(one.message_id, one.index) for one in claim.recipients} & self.claims.keys()
            for one in claim.recipients:
                self.claims[one.message_id, one.index] = one

    @precondition(lambda self: getattr(self, "claims", None))
    @rule(
        data=st.data(),
        end=st.sampled_from([None, *Final]),
        state=st.sampled_from([State.QUEUED, State.DEFERRED, State.HELD]),
        when=MOMENTS,
        down=st.none() | MOMENTS,
        noticed=st.booleans(),
    )
    def record(
        self, data: st.DataObject, end: Final | None, state: State, when: float, down: float | None, noticed: bool
    ) -> None:
        message_id, index = data.draw(st.sampled_from(sorted(self.claims)))
        group = [key for key in sorted(self.claims) if key[0] == message_id and key[1] >= index]
        steps = [
            Step(place, end, state, when, 1, "451 x", "", False, noticed)
            if place == index
            else Step(place, state=State.QUEUED)
            for _, place in group
        ]
        name = self.claims[message_id, index].destination
        destination = None if down is None else DestinationState(name, down, 1, "no answer")
        for spool in (self.memory, self.sqlite):
            entries = [JournalEntry(b"{}", START, message_id)]
            self.runner.run(spool.record(message_id, steps, entries, destination=destination))
        for key in group:
            del self.claims[key]

    @rule(name=st.sampled_from(DESTINATIONS))
    def up(self, name: str) -> None:
        for spool in (self.memory, self.sqlite):
            self.runner.run(spool.destination_up(name))

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.sqlite.close())
        self.runner.run(self.memory.close())
        self.claims.clear()
        self.sqlite = self.runner.run(SqliteSpool.open(self.folder / "spool.db", lambda: START))

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "runner"):
            return
        memory = self.runner.run(self.memory.ledger())
        assert memory == self.runner.run(self.sqlite.ledger())
        assert memory.unaccounted == 0
        for busy in (frozenset[str](), frozenset({"x"})):
            ours, theirs = (self.runner.run(s.next_due(START, busy)) for s in (self.memory, self.sqlite))
            assert ours == theirs


Engines.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEngines = Engines.TestCase


def test_claims_compare_by_value() -> None:
    """The machine rests on it."""
    one = new_message(Letter("A")).recipients[0]
    assert msgspec.structs.replace(one, attempts=1) != one
