"""The process dies at every numbered point of every transition; what was acknowledged must be there, byte for byte.

A forked child plays one story and says over a pipe what was acknowledged to it; a hook of the engine ends it at
point N, for every N until the story comes to its end. Then the store is opened again and must agree with what was said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import apsw

from staffetta.spool.contract import CHUNK_OCTETS, DestinationState, Final, JournalEntry, Step
from staffetta.spool.operator import Filter, Store, audit, waiting
from staffetta.spool.recovery import STORE_NAME
from staffetta.spool.sqlite import SqliteSettings, SqliteSpool
from staffetta.testing.spooled import HEAD, START, Letter, new_message

Say = Callable[[str], None]
NONE_BUSY: frozenset[str] = frozenset()
LARGE = 17 * CHUNK_OCTETS + 3


def body_of(name: str) -> bytes:
    size = {"L": LARGE, "M": 2 * CHUNK_OCTETS + 9}.get(name[0], 4000)
    return (name.encode() * 64)[:64] * (size // 64) + b"\r\n" * ((size % 64) // 2)


def entry(kind: str, message_id: str) -> JournalEntry:
    return JournalEntry(kind.encode(), START, message_id)


async def tell(spool: SqliteSpool, say: Say) -> None:
    async def accept(letter: Letter) -> None:
        draft = spool.draft()
        body = body_of(letter.id)
        for start in range(0, len(body), 100_000):
            await spool.write(draft, body[start : start + 100_000])
        new = new_message(letter, draft)
        await spool.commit(new)
        say(f"accepted {letter.id}")

    async def end(message_id: str, *steps: Step, **more: object) -> None:
        say(f"ending {message_id}")
        journal = [entry(step.final.value if step.final else "deferred", message_id) for step in steps]
        await spool.record(message_id, steps, journal, **more)  # type: ignore[arg-type]
        say(f"ended {message_id}")

    await accept(Letter("A", claim=True))
    await end("A", Step(0, Final.DELIVERED))
    await asyncio.gather(*[accept(Letter(name)) for name in ("B", "C", "D")])
    await accept(Letter("M", ["a@x.example", "b@y.example"]))
    await accept(Letter("L", ["a@z.example"]))
    abandoned = spool.draft()
    await spool.write(abandoned, b"x" * (3 * CHUNK_OCTETS))
    claims = await spool.due(START, NONE_BUSY, 100, 100)
    assert sum(len(claim.recipients) for claim in claims) == 6
    down = DestinationState("mx:example.net", START + 60, 1, "no answer")
    await spool.record(
        "B", [Step(0, next_attempt_at=START + 9, attempts=1)], [entry("deferred", "B")], destination=down
    )
    await spool.destination_up("mx:example.net")
    await end("C", Step(0, Final.BOUNCED), notices=[new_message(Letter("N", ["anna@example.org"], sender=""))])
    await end("L", Step(0, Final.DELIVERED))
    await spool.record("M", [Step(0, Final.DELIVERED), Step(1)], [entry("delivered", "M"), entry("deferred", "M")])
    await spool.append_journal([entry("refuse", "")])
    await spool.discard(abandoned)
    await end("D", Step(0, Final.DELIVERED))


def play(path: Path, die_at: int, said: int) -> None:
    """In the child: never returns."""
    count = 0

    def hook(_: str) -> None:
        nonlocal count
        count += 1
        if count == die_at:
            os._exit(9)

    async def whole() -> None:
        spool = await SqliteSpool.open(path, lambda: START, SqliteSettings(hook=hook))
        await tell(spool, lambda text: os.write(said, text.encode() + b"\n") and None)
        await spool.close()

    try:
        asyncio.run(whole())
    except BaseException as error:
        os.write(said, f"failed {error!r}\n".encode())
        os._exit(1)
    os._exit(0)


def run_child(path: Path, die_at: int) -> tuple[int, list[str]]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        play(path, die_at, writing)
    os.close(writing)
    with os.fdopen(reading) as stream:
        lines = stream.read().split("\n")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), [line for line in lines if line]


async def look(path: Path, said: list[str]) -> None:
    accepted = {line.split()[1] for line in said if line.startswith("accepted")}
    ending = {line.split()[1] for line in said if line.startswith("ending")}
    ended = {line.split()[1] for line in said if line.startswith("ended")}
    spool = await SqliteSpool.open(path, lambda: START)
    try:
        claims = await spool.due(START + 1e6, NONE_BUSY, 1000, 1000)
        there = {claim.message.id for claim in claims}
        assert accepted - ending <= there, "an acknowledged message is lost"
        assert not ended & there, "a finished message came back"
        for message_id in sorted(there):
            content = b"".join([chunk async for chunk in spool.content(message_id)])
            if message_id != "N":
                assert content == HEAD + body_of(message_id)
        sweeping = spool._sweeping
        if sweeping is not None:
            await sweeping
    finally:
        await spool.close()


def check_books(path: Path) -> None:
    connection = apsw.Connection(str(path))
    store = Store(connection, path.parent)
    books = audit(store)
    assert books.unaccounted == 0
    lines = [bytes(row[0]) for row in connection.execute("SELECT lines FROM journal")]  # type: ignore[arg-type]
    accepts = sum(b'"accept"' in line for line in lines)
    two_recipients = sum(b'"accept"' in line and b'"id":"M"' in line for line in lines)
    assert books.accepted == accepts + two_recipients
    assert books.delivered == lines.count(b"delivered")
    assert books.bounced == lines.count(b"bounced")
    assert len(list(waiting(store, Filter(), START))) == books.queued
    strays = connection.execute(
        "SELECT count(*) FROM chunks WHERE key >> 16 NOT IN (SELECT seq FROM messages)"
    ).fetchall()
    assert strays[0][0] == 0, "content without a message was left behind"
    assert connection.execute("SELECT count(*) FROM loose").fetchall()[0][0] == 0
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_death_at_every_step(tmp_path: Path) -> None:
    die_at = 1
    while True:
        folder = tmp_path / str(die_at)
        folder.mkdir()
        code, said = run_child(folder / STORE_NAME, die_at)
        assert code in {0, 9}, said
        asyncio.run(look(folder / STORE_NAME, said))
        check_books(folder / STORE_NAME)
        if code == 0:
            break
        for path in folder.iterdir():
            path.unlink()
        die_at += 1
    assert die_at > 80, "the hook lost its points"
