"""A relay that does not run, with a configuration and a queue, and the command line over it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from staffetta.cli.main import cli
from staffetta.mail.identity import IdentitySource
from staffetta.observe.events import Accept, Deliver, Refuse, encode, moment
from staffetta.spool.contract import DestinationState, JournalEntry, State, Step
from staffetta.spool.recovery import STORE_NAME, RelayLock
from staffetta.spool.sqlite import SqliteSettings, SqliteSpool
from staffetta.testing.spooled import Letter, new_message

CONFIG = """\
version = 1
hostname = "mx.example.org"
data_dir = "data"

[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"

[domain."example.org"]

[route.partner]
to = ["partner.example"]
via = "smart.example:2525"
tls = "off"
"""

NOW = time.time()
IDS = IdentitySource(bytes)
FRESH, TRIED, HELD, NULL, EVIL, GONE, SESSION = (IDS.new(NOW) for _ in range(7))
HOSTILE = "451 4.7.1 \x1b]0;owned\x07\x1b[2J \u202egpj.exe\u2066 \u200b\x9b31m \r next"
"""What a server may say: terminal commands, direction overrides, an invisible character, a C1 control, a line end."""

HOSTILE_HEADER = b"Subject: \x1b[31mred\x1b[0m\r\n folded\r\nX-Odd: \xff\xfe\xe2\x80\xae\r\n\r\nbody\r\n"


class Place:
    """A folder with a configuration, and commands in it."""

    FRESH, TRIED, HELD, NULL, EVIL, GONE, SESSION = FRESH, TRIED, HELD, NULL, EVIL, GONE, SESSION

    def __init__(self, folder: Path) -> None:
        self.file = folder / "staffetta.toml"
        self.data_dir = folder / "data"
        self.file.write_text(CONFIG)

    def run(self, *words: str, stdin: str | None = None) -> Result:
        """The command with this configuration."""
        return CliRunner().invoke(cli, [*words, "-c", str(self.file)], input=stdin)

    def lines(self, *words: str) -> list[dict[str, Any]]:
        """The JSON lines of a command that ends well."""
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout_bytes.split(b"\n")[:-1]]

    def ids(self, *words: str) -> list[str]:
        """The ids of `queue list`, once per waiting recipient."""
        result = self.run("queue", "list", *words, "--json")
        assert result.exit_code in {0, 3}, result.output
        return [json.loads(line)["id"] for line in result.stdout.split("\n")[:-1]]

    def fill(self, story: Callable[[SqliteSpool], Awaitable[None]], settings: SqliteSettings | None = None) -> None:
        """Let a relay work on the store for a moment."""

        async def whole() -> None:
            spool = await SqliteSpool.open(self.data_dir / STORE_NAME, time.time, settings)
            await story(spool)
            await spool.close()

        self.data_dir.mkdir(exist_ok=True)
        asyncio.run(whole())


async def a_queue(spool: SqliteSpool) -> None:
    """FRESH waits for two, one of them local; TRIED is in doubt; HELD is held; NULL has no sender; EVIL has text."""
    fresh = ["ben@x.example", "anna@example.org local:example.org"]
    letter = Letter(FRESH, fresh, received_at=NOW - 7200, session=SESSION, message_id="fresh@x")
    await spool.commit(new_message(letter))
    await spool.commit(new_message(Letter(TRIED, ["cara@partner.example route:partner"], claim=True, received_at=NOW)))
    step = Step(0, next_attempt_at=NOW + 600, attempts=2, last_reply="451 4.7.28 Greylisted", in_doubt=True)
    await spool.record(TRIED, [step], [])
    await spool.commit(new_message(Letter(HELD, ["hal@x.example"], "eve@other.example", claim=True, received_at=NOW)))
    await spool.record(HELD, [Step(0, state=State.HELD)], [])
    await spool.commit(new_message(Letter(NULL, ["anna@y.example mx:slow/y.example"], "", received_at=NOW)))
    evil = Letter(EVIL, ["dan@evil.example"], received_at=NOW, claim=True, body=HOSTILE_HEADER)
    await spool.commit(new_message(evil))
    down = DestinationState("mx:evil.example", NOW - 1, 1, HOSTILE)
    await spool.record(EVIL, [Step(0, last_reply=HOSTILE, attempts=1)], [], destination=down)


async def a_journal(spool: SqliteSpool) -> None:
    """GONE was accepted and delivered; in the same session a recipient was refused with hostile text."""
    accept = Accept(
        time=moment(NOW),
        session=SESSION,
        id=GONE,
        sender="",
        recipients=("ben@x.example",),
        size=2048,
        message_id="gone@x",
        client="192.0.2.1",
        login="",
        checks={"spf": "pass"},
    )
    refuse = Refuse(
        time=moment(NOW - 1),
        session=SESSION,
        stage="rcpt",
        client="192.0.2.1",
        sender="mal@x.example",
        recipient="who@example.org",
        reply=HOSTILE,
        rule="unknown recipient",
        reason="no such\u202e account",
    )
    end = Deliver(time=moment(NOW + 1), id=GONE, recipient="ben@x.example", reply="250 ok")
    await spool.append_journal(
        [
            JournalEntry(encode(refuse), NOW - 1, session=SESSION),
            JournalEntry(encode(accept), NOW, GONE, SESSION, "gone@x"),
            JournalEntry(encode(end), NOW + 1, GONE),
        ]
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def relay(place: Place) -> Place:
    place.fill(a_queue)
    place.fill(a_journal)
    return place


@pytest.fixture
def running(relay: Place) -> Iterator[Place]:
    """A relay is alive and works on FRESH's first recipient."""
    lock = RelayLock.acquire(relay.data_dir)

    async def claim() -> SqliteSpool:
        spool = await SqliteSpool.open(relay.data_dir / STORE_NAME, time.time)
        claimed = await spool.due(NOW, frozenset({"local:example.org", "mx:slow/y.example", "mx:evil.example"}), 1, 1)
        assert [one.message.id for one in claimed] == [FRESH]
        return spool

    with asyncio.Runner() as runner:
        spool = runner.run(claim())
        yield relay
        runner.run(spool.close())
    lock.release()
