"""The verdict over a complete message, as a table."""

from __future__ import annotations

import pytest

from staffetta.mail.reply import reply
from staffetta.message.header import HeaderProblem
from staffetta.policy.acceptance import AcceptanceSettings, ContentFacts, may_accept
from staffetta.policy.verdict import Allowed, Refusal
from staffetta.protocol.framing import ContentProblem

FORGED = Refusal(reply(550, "5.7.1", "not yours"), "header_not_owned", "forged")

ROWS = [
    (ContentFacts(None, 100, 50), "accepted", ""),
    (ContentFacts(None, 1000, 0), "accepted", ""),
    (ContentFacts(ContentProblem.BARE_LINE_ENDING, 100, 0), "bare_line_ending", "554 5.6.0"),
    (ContentFacts(ContentProblem.NUL, 100, 0), "nul", "554 5.6.0"),
    (ContentFacts(ContentProblem.LINE_TOO_LONG, 100, 0), "line_too_long", "554 5.6.0"),
    (ContentFacts(ContentProblem.TOO_BIG, 100, 0), "too_big", "552 5.3.4"),
    (ContentFacts(None, 1001, 0), "too_big", "552 5.3.4"),
    (ContentFacts(None, 100, 0, header_problem=HeaderProblem.TOO_BIG), "header_too_big", "552 5.3.4"),
    (ContentFacts(None, 100, 0, begins_with_space=True), "header_begins_with_space", "554 5.6.0"),
    (ContentFacts(None, 100, 0, FORGED, begins_with_space=True), "header_begins_with_space", "554 5.6.0"),
    (ContentFacts(None, 100, 51), "too_many_hops", "554 5.4.6"),
    (ContentFacts(None, 100, 0, FORGED), "header_not_owned", "550 5.7.1"),
    (ContentFacts(None, 100, 0, returned="anna@example.org"), "delivered_to", "554 5.4.6"),
    # the order: line ends, size, loop, author
    (ContentFacts(ContentProblem.BARE_LINE_ENDING, 1001, 51, FORGED), "bare_line_ending", "554 5.6.0"),
    (ContentFacts(None, 1001, 51, FORGED), "too_big", "552 5.3.4"),
    (ContentFacts(None, 100, 51, FORGED), "too_many_hops", "554 5.4.6"),
]


@pytest.mark.parametrize(("facts", "rule", "status"), ROWS)
def test_acceptance(facts: ContentFacts, rule: str, status: str) -> None:
    verdict = may_accept(facts, AcceptanceSettings(message_octets=1000, hops=50))
    assert verdict.rule == rule
    assert isinstance(verdict, Allowed) == (not status)
    if isinstance(verdict, Refusal):
        assert f"{verdict.reply.code} {verdict.reply.enhanced}" == status


@pytest.mark.parametrize("problem", ContentProblem)
def test_every_problem_of_the_content_has_a_rule(problem: ContentProblem) -> None:
    assert isinstance(may_accept(ContentFacts(problem, 1, 0), AcceptanceSettings()), Refusal)
