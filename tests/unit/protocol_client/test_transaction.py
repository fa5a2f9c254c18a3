"""What each reply means for each recipient: rows of replies in, one letter per recipient out.

`+` delivered, `d` deferred, `f` failed; then scope (s m r), stage; `?` in doubt.
"""

from __future__ import annotations

import pytest

from staffetta.mail.outcome import Outcome, Result
from staffetta.mail.reply import Reply, reply
from staffetta.protocol.client_commands import Commands
from staffetta.protocol.transaction import CONTENT, DONE, Manner, Transaction
from staffetta.protocol.verdict import LOST

STEPWISE = Manner()
PIPELINED = Manner(pipelining=True)
LMTP = Manner(pipelining=True, lmtp=True)
BDAT = Manner(pipelining=True, chunking=True)
BDAT_STEPWISE = Manner(chunking=True)

MARK = {Result.DELIVERED: "+", Result.DEFERRED: "d", Result.FAILED: "f"}


def commands(count: int) -> Commands:
    return Commands("MAIL FROM:<a@b>\r\n", [f"RCPT TO:<r{number}@c>\r\n" for number in range(count)], "ascii")


def short(outcome: Outcome) -> str:
    return f"{MARK[outcome.result]}{outcome.scope.value[0]}.{outcome.stage}{'?' if outcome.in_doubt else ''}"


def walk(manner: Manner, replies: list[Reply], count: int, chunks: int = 1) -> tuple[Transaction, list[bytes]]:
    """Drive to the end; when the replies are used up, the connection is lost."""
    transaction = Transaction(commands(count), manner)
    wrote = [transaction.begin()]
    left = list(replies)
    while transaction.phase != DONE:
        if transaction.phase == CONTENT:
            chunks -= 1
            wrote.append(b"<content>")
            transaction.content_sent(last=chunks <= 0)
        elif not left:
            transaction.fail(LOST)
        else:
            wrote.append(transaction.receive(left.pop(0)))
    assert not left, "a reply too many in the row"
    return transaction, wrote


def codes(text: str) -> list[Reply]:
    return [reply(int(word[:3]), word[4:], "x") if "/" in word else reply(int(word), "", "x") for word in text.split()]


ROWS = [
    # two recipients, pipelined
    (PIPELINED, "250 250 250 354 250", "+m.dot +m.dot", "open"),
    (PIPELINED, "250 251 252 354 250", "+m.dot +m.dot", "open"),
    (PIPELINED, "250 250 550 354 250", "+m.dot fr.rcpt", "open"),
    (PIPELINED, "250 450 550 354 250", "dr.rcpt fr.rcpt", "open"),
    (PIPELINED, "250 450 550 503", "dr.rcpt fr.rcpt", "reset"),
    (PIPELINED, "250 250 452 354 250", "+m.dot dr.rcpt", "open"),
    (PIPELINED, "250 250 552 354 250", "+m.dot dr.rcpt", "open"),
    (PIPELINED, "250 250 552/5.5.3 354 250", "+m.dot dr.rcpt", "open"),
    (PIPELINED, "250 250 552/5.2.2 354 250", "+m.dot fr.rcpt", "open"),
    (PIPELINED, "550 503 503 503", "fm.mail fm.mail", "open"),
    (PIPELINED, "451 503 503 503", "dm.mail dm.mail", "open"),
    (PIPELINED, "550 250 250 354 250", "fm.mail fm.mail", "open"),
    (PIPELINED, "250 250 250 451", "dm.data dm.data", "reset"),
    (PIPELINED, "250 250 550 554", "fm.data fr.rcpt", "reset"),
    (PIPELINED, "250 250 250 354 451", "dm.dot dm.dot", "open"),
    (PIPELINED, "250 250 250 354 554", "fm.dot fm.dot", "open"),
    (PIPELINED, "250 250 550 354 552", "fm.dot fr.rcpt", "open"),
    # 421 anywhere
    (PIPELINED, "421", "ds.mail ds.mail", "closed"),
    (PIPELINED, "250 421", "ds.rcpt ds.rcpt", "closed"),
    (PIPELINED, "250 550 421", "fr.rcpt ds.rcpt", "closed"),
    (PIPELINED, "250 250 250 421", "ds.data ds.data", "closed"),
    (PIPELINED, "250 250 550 354 421", "ds.dot fr.rcpt", "closed"),
    (PIPELINED, "550 421", "fm.mail fm.mail", "closed"),
    # the connection is lost
    (PIPELINED, "", "ds.mail ds.mail", "closed"),
    (PIPELINED, "250", "ds.rcpt ds.rcpt", "closed"),
    (PIPELINED, "250 550", "fr.rcpt ds.rcpt", "closed"),
    (PIPELINED, "250 250 250", "ds.data ds.data", "closed"),
    (PIPELINED, "250 250 550 354", "ds.dot? fr.rcpt", "closed"),
    (PIPELINED, "250 550 550 354", "fr.rcpt fr.rcpt", "closed"),
    (PIPELINED, "550", "fm.mail fm.mail", "closed"),
    # replies that fit nothing
    (PIPELINED, "354", "ds.mail ds.mail", "closed"),
    (PIPELINED, "250 354", "ds.rcpt ds.rcpt", "closed"),
    (PIPELINED, "250 250 250 250", "ds.data ds.data", "closed"),
    (PIPELINED, "250 250 250 354 354", "ds.dot? ds.dot?", "closed"),
    # stepwise
    (STEPWISE, "250 250 250 354 250", "+m.dot +m.dot", "open"),
    (STEPWISE, "250 550 250 354 250", "fr.rcpt +m.dot", "open"),
    (STEPWISE, "250 550 450", "fr.rcpt dr.rcpt", "reset"),
    (STEPWISE, "550", "fm.mail fm.mail", "open"),
    (STEPWISE, "250 250 250 554", "fm.data fm.data", "reset"),
    (STEPWISE, "250 250 421", "ds.rcpt ds.rcpt", "closed"),
    # LMTP
    (LMTP, "250 250 250 354 250 250", "+r.dot +r.dot", "open"),
    (LMTP, "250 250 250 354 250 550", "+r.dot fr.dot", "open"),
    (LMTP, "250 250 250 354 450 250", "dr.dot +r.dot", "open"),
    (LMTP, "250 550 250 354 250", "fr.rcpt +r.dot", "open"),
    (LMTP, "250 550 250 354 552", "fr.rcpt fr.dot", "open"),
    (LMTP, "250 250 250 354 250", "+r.dot ds.dot?", "closed"),
    (LMTP, "250 250 250 354", "ds.dot? ds.dot?", "closed"),
    (LMTP, "250 250 250 354 421", "ds.dot ds.dot?", "closed"),
    (LMTP, "250 250 250 354 250 421", "+r.dot ds.dot", "closed"),
    (LMTP, "250 250 250 354 250 354", "+r.dot ds.dot?", "closed"),
    (LMTP, "250 550 550 503", "fr.rcpt fr.rcpt", "reset"),
    (LMTP, "250 550 550 354", "fr.rcpt fr.rcpt", "closed"),
    (LMTP, "250 250 250 451", "dm.data dm.data", "reset"),
    # BDAT, two chunks
    (BDAT, "250 250 250 250 250", "+m.dot +m.dot", "open"),
    (BDAT, "250 250 550 250 250", "+m.dot fr.rcpt", "open"),
    (BDAT, "250 250 250 552", "fm.content fm.content", "reset"),
    (BDAT, "250 250 250 250 451", "dm.dot dm.dot", "open"),
    (BDAT, "250 250 250 421", "ds.content ds.content", "closed"),
    (BDAT, "250 250 250", "ds.content ds.content", "closed"),
    (BDAT, "250 250 250 250", "ds.dot? ds.dot?", "closed"),
    (BDAT, "250 250 250 354", "ds.content ds.content", "closed"),
    (BDAT, "250 550 550", "fr.rcpt fr.rcpt", "reset"),
    (BDAT, "550 503 503", "fm.mail fm.mail", "open"),
    (BDAT_STEPWISE, "250 250 250 250 250", "+m.dot +m.dot", "open"),
]


@pytest.mark.parametrize(("manner", "replies", "expected", "state"), ROWS)
def test_row(manner: Manner, replies: str, expected: str, state: str) -> None:
    transaction, _ = walk(manner, codes(replies), 2, chunks=2 if manner.chunking else 1)
    assert " ".join([short(outcome) for outcome in transaction.outcomes]) == expected
    assert ("closed" if transaction.closed else "reset" if transaction.reset_needed else "open") == state


def test_pipelined_commands_leave_together() -> None:
    _, wrote = walk(PIPELINED, codes("250 250 250 354 250"), 2)
    group = b"MAIL FROM:<a@b>\r\nRCPT TO:<r0@c>\r\nRCPT TO:<r1@c>\r\nDATA\r\n"
    assert wrote == [group, b"", b"", b"", b"", b"<content>", b""]


def test_stepwise_commands_wait() -> None:
    _, wrote = walk(STEPWISE, codes("250 250 250 354 250"), 2)
    assert [one for one in wrote if one] == [
        b"MAIL FROM:<a@b>\r\n",
        b"RCPT TO:<r0@c>\r\n",
        b"RCPT TO:<r1@c>\r\n",
        b"DATA\r\n",
        b"<content>",
    ]


def test_no_content_without_a_recipient() -> None:
    _, wrote = walk(PIPELINED, codes("250 550 550 354 554"), 2)
    assert b"<content>" not in wrote
    assert wrote[-2] == b".\r\n"


@pytest.mark.parametrize("manner", [PIPELINED, STEPWISE])
def test_reset_comes_first(manner: Manner) -> None:
    transaction = Transaction(commands(1), manner, reset=True)
    first = transaction.begin()
    assert first.startswith(b"RSET\r\n")
    rest = transaction.receive(reply(250, "", "ok"))
    assert (first + rest).startswith(b"RSET\r\nMAIL FROM:<a@b>\r\n")
    assert not transaction.heard
    transaction.receive(reply(250, "", "ok"))
    assert transaction.heard
    assert transaction.stage == "rcpt"


def test_reset_refused() -> None:
    transaction = Transaction(commands(1), PIPELINED, reset=True)
    transaction.begin()
    transaction.receive(reply(500, "", "what"))
    assert transaction.closed
    assert short(transaction.outcomes[0]) == "ds.mail"


@pytest.mark.parametrize("text", ["RCPT TO:<a\r\nDATA\r\n@c>\r\n", "RCPT TO:<a\n@c>\r\n", "RCPT TO:<a\0@c>\r\n"])
@pytest.mark.parametrize("manner", [PIPELINED, STEPWISE])
def test_a_line_end_in_an_address_is_our_bug(text: str, manner: Manner) -> None:
    transaction = Transaction(Commands("MAIL FROM:<>\r\n", [text], "ascii"), manner)
    with pytest.raises(ValueError, match="line end"):  # noqa: PT012
        transaction.begin()
        transaction.receive(reply(250, "", "ok"))


def test_outcomes_only_at_the_end() -> None:
    with pytest.raises(RuntimeError):
        _ = Transaction(commands(1), PIPELINED).outcomes
