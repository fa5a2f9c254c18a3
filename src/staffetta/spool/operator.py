"""What a command sees of the queue, in another process, with and without a running relay.

Synchronous, over a connection of its own. Lists are generators that read a page at a time, so no transaction stays open
while a terminal scrolls. `active` is what a relay that is alive has claimed; what a dead one left counts as waiting.
A recipient that was never tried but whose destination is down is shown as deferred, with the destination's last reply.
This module refuses to change anything: see operator_acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import apsw
import msgspec

from staffetta.spool.contract import Ledger, Message, State
from staffetta.spool.database import StoreError, open_database
from staffetta.spool.recovery import STORE_NAME, relay_alive
from staffetta.spool.sqlite_queries import chunk_after, ledger
from staffetta.spool.sqlite_schema import CHUNK_BITS, MESSAGE_COLUMNS, MIGRATIONS, MessageRow, mailbox_of, message_of

PAGE_ROWS: Final = 1000
"""Recipients read at a time."""

HEADER_OCTETS: Final = 256 * 1024
"""How much of a message is looked at to show its header."""

NOBODY: Final = -1
"""The epoch of the living relay when none lives."""


class Store(msgspec.Struct, frozen=True):
    """An open store, for commands."""

    connection: apsw.Connection
    data_dir: Path

    def living(self) -> int:
        """The lease of the relay that is alive, NOBODY when none is.

        Inside a transaction that stays true until its end: a relay that starts meanwhile cannot claim before it.
        """
        if not relay_alive(self.data_dir):
            return NOBODY
        return cast(int, self.connection.execute("SELECT epoch FROM store").fetchall()[0][0])

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()


class Destinations(msgspec.Struct, frozen=True, gc=False):
    """Keys of destinations that begin with `prefix`, or are it (`whole`), and do not contain `without`."""

    prefix: str
    whole: bool = False
    without: str = ""


class Filter(msgspec.Struct, frozen=True):
    """Which recipients; everything given must hold, nothing given is all.

    `sender` and `recipient` are `local@domain`, `@domain` or `local@`, `sender` also `<>`. `destination` is a whole
    key, `destination_prefix` the beginning of one; of `destinations` any may hold. `reply` is a part of the last
    reply, in any case.
    """

    id: str = ""
    sender: str = ""
    recipient: str = ""
    state: State | None = None
    destination: str = ""
    destination_prefix: str = ""
    older_than_seconds: float = 0.0
    reply: str = ""
    destinations: tuple[Destinations, ...] = ()


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """One waiting recipient as `queue list` shows it. `sender` is "" for the null path; times in seconds, UTC."""

    id: str
    index: int
    sender: str
    recipient: str
    state: State
    destination: str
    size: int
    received_at: float
    attempts: int
    next_attempt_at: float
    last_reply: str
    in_doubt: bool
    bounce_by: str


class Down(msgspec.Struct, frozen=True, gc=False):
    """A destination that is down, and how many recipients wait for it."""

    destination: str
    not_before: float
    failures: int
    last_reply: str
    waiting: int


class Standing(msgspec.Struct, frozen=True):
    """How the queue stands: recipients by state, the earliest arrival among each, octets of all messages, the books
    with the queue counted anew, and destinations that are down."""

    counts: dict[State, int]
    oldest: dict[State, float]
    octets: int
    ledger: Ledger
    down: tuple[Down, ...]


class Stored(msgspec.Struct, frozen=True):
    """One message: its envelope, what waits of it, and its header as stored."""

    message: Message
    waiting: tuple[Waiting, ...]
    header: bytes


def open_for_command(data_dir: Path) -> Store:
    """The store of a data directory. Raises StoreError, also when there is none yet; StoreTooNew."""
    path = data_dir / STORE_NAME
    if not path.exists():
        raise StoreError(f"there is no store in {data_dir}")
    return Store(open_database(path, MIGRATIONS), data_dir)


_STATE: Final = """CASE WHEN r.lease <> 0 AND r.lease = :living THEN 'active' WHEN r.state = 2 THEN 'held'
WHEN r.state = 0 AND (d.not_before IS NULL OR d.not_before <= :now) THEN 'queued' ELSE 'deferred' END"""
_REPLY: Final = "iif(r.last_reply = '' AND d.not_before > :now, d.last_reply, r.last_reply)"
_LIST: Final = f"""
SELECT r.message_seq, r.idx, m.id, m.sender_local, m.sender_domain, r.local_part, r.domain, {_STATE}, r.destination,
m.size, m.received_at, r.attempts, iif(d.not_before > r.next_attempt_at, d.not_before, r.next_attempt_at), {_REPLY},
r.in_doubt, coalesce(r.bounce_by, '')
FROM recipients AS r JOIN messages AS m ON m.seq = r.message_seq
LEFT JOIN destinations AS d ON d.destination = r.destination
WHERE (r.message_seq, r.idx) > (:seq, :idx)
"""  # noqa: S608 - put together from constants; every value is bound
_PAGE: Final = " ORDER BY r.message_seq, r.idx LIMIT :rows"

_STANDING: Final = f"""SELECT {_STATE}, count(*), min(m.received_at)
FROM recipients AS r JOIN messages AS m ON m.seq = r.message_seq
LEFT JOIN destinations AS d ON d.destination = r.destination GROUP BY 1"""  # noqa: S608
_DOWN: Final = """SELECT destination, not_before, failures, last_reply, waiting FROM (
    SELECT *, (SELECT count(*) FROM recipients AS r WHERE r.destination = d.destination AND r.lease = 0 AND r.state < 2)
    AS waiting FROM destinations AS d WHERE d.not_before > :now
) WHERE waiting > 0 ORDER BY waiting DESC, destination LIMIT :most"""

Key = tuple[int, int]
"""Message number and recipient index."""

Values = dict[str, str | int | float]


def waiting(store: Store, chosen: Filter, now: float) -> Iterator[Waiting]:
    """The waiting recipients that the filter chooses, in order of arrival."""
    for page in pages(store, chosen, now):
        for _, one in page:
            yield one


def pages(store: Store, chosen: Filter, now: float, rows: int = PAGE_ROWS) -> Iterator[list[tuple[Key, Waiting]]]:
    """The same a page at a time, with the key of each; between pages the store may change."""
    conditions, values = _conditions(chosen, now)
    sql = _LIST + conditions + _PAGE
    values |= {"now": now, "seq": 0, "idx": -1, "rows": rows}
    while True:
        values["living"] = store.living()
        found = store.connection.execute(sql, values).fetchall()
        if found:
            yield [((row[0], row[1]), _waiting(row)) for row in cast(list[_ListRow], found)]
        if len(found) < rows:
            return
        values["seq"], values["idx"] = cast(Key, found[-1][:2])


def show(store: Store, message_id: str, now: float) -> Stored | None:
    """One message of the queue; None when it is not there (any more)."""
    sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE id = ?"  # noqa: S608
    found = store.connection.execute(sql, (message_id,)).fetchall()
    if not found:
        return None
    row = cast(MessageRow, found[0])
    header = b""
    for chunk in _chunks(store, row[0]):
        header += chunk
        end = header.find(b"\r\n\r\n")
        if end >= 0:
            header = header[: end + 2]
            break
        if len(header) >= HEADER_OCTETS:
            break
    return Stored(message_of(row), tuple(waiting(store, Filter(id=message_id), now)), header[:HEADER_OCTETS])


def content(store: Store, message_id: str) -> Iterator[bytes]:
    """The stored content of a message in pieces; nothing when it is not in the queue."""
    found = store.connection.execute("SELECT seq FROM messages WHERE id = ?", (message_id,)).fetchall()
    if found:
        yield from _chunks(store, cast(int, found[0][0]))


def states(store: Store, now: float) -> dict[State, int]:
    """How many recipients wait in each state. Looks at every one: a second for some millions."""
    sql = f"""SELECT {_STATE}, count(*) FROM recipients AS r
    LEFT JOIN destinations AS d ON d.destination = r.destination GROUP BY 1"""  # noqa: S608
    found = store.connection.execute(sql, {"living": store.living(), "now": now}).fetchall()
    counts = dict.fromkeys((State.QUEUED, State.ACTIVE, State.DEFERRED, State.HELD), 0)
    counts.update({State(name): count for name, count in cast(list[tuple[str, int]], found)})
    return counts


def standing(store: Store, now: float, destinations: int = 20) -> Standing:
    """How the queue stands, all of one moment; at most so many destinations that are down, the fullest first.

    Looks at every recipient: a second or two for some millions."""
    connection = store.connection
    connection.execute("BEGIN")
    try:
        values: Values = {"living": store.living(), "now": now, "most": destinations}
        found = cast(list[tuple[str, int, float]], connection.execute(_STANDING, values).fetchall())
        down = cast(list[tuple[str, float, int, str, int]], connection.execute(_DOWN, values).fetchall())
        octets = cast(int, connection.execute("SELECT coalesce(sum(size), 0) FROM messages").fetchall()[0][0])
        counts = dict.fromkeys((State.QUEUED, State.ACTIVE, State.DEFERRED, State.HELD), 0)
        counts.update({State(name): count for name, count, _ in found})
        oldest = {State(name): received_at for name, _, received_at in found}
        return Standing(counts, oldest, octets, audit(store), tuple(Down(*row) for row in down))
    finally:
        connection.execute("COMMIT")


def books(store: Store) -> Ledger:
    """The ledger as the transactions left it."""
    return ledger(store.connection)


def audit(store: Store) -> Ledger:
    """The ledger with `queued` counted anew, so that `unaccounted` tells whether queue and books agree."""
    books_now = ledger(store.connection)
    queued = cast(int, store.connection.execute("SELECT count(*) FROM recipients").fetchall()[0][0])
    return msgspec.structs.replace(books_now, queued=queued)


_ListRow = tuple[
    int, int, str, str | None, str | None, str, str, str, str, int, float, int, float, str, int, str
]  # fmt: skip


def _waiting(row: _ListRow) -> Waiting:
    sender = "" if row[3] is None or row[4] is None else str(mailbox_of(row[3], row[4]))
    return Waiting(
        row[2],
        row[1],
        sender,
        str(mailbox_of(row[5], row[6])),
        State(row[7]),
        row[8],
        row[9],
        row[10],
        row[11],
        row[12],
        row[13],
        bool(row[14]),
        row[15],
    )


def _chunks(store: Store, seq: int) -> Iterator[bytes]:
    key = (seq << CHUNK_BITS) - 1
    while (found := chunk_after(store.connection, seq, key)) is not None:
        key, data = found
        yield data


def _conditions(chosen: Filter, now: float) -> tuple[str, Values]:
    parts: list[str] = []
    values: Values = {}
    if chosen.id:
        parts.append("m.id = :id")
        values["id"] = chosen.id
    if chosen.sender == "<>":
        parts.append("m.sender_domain IS NULL")
    elif chosen.sender:
        _address(parts, values, "m.sender_local", "m.sender_domain", chosen.sender)
    if chosen.recipient:
        _address(parts, values, "r.local_part", "r.domain", chosen.recipient)
    if chosen.state is not None:
        parts.append(f"{_STATE} = :state")
        values["state"] = chosen.state.value
    if chosen.destination:
        parts.append("r.destination = :destination")
        values["destination"] = chosen.destination
    if chosen.destination_prefix:
        parts.append("substr(r.destination, 1, length(:prefix)) = :prefix")
        values["prefix"] = chosen.destination_prefix
    if chosen.destinations:
        _any_destination(parts, values, chosen.destinations)
    if chosen.older_than_seconds:
        parts.append("m.received_at < :before")
        values["before"] = now - chosen.older_than_seconds
    if chosen.reply:
        parts.append(f"instr(lower({_REPLY}), lower(:reply)) > 0")
        values["reply"] = chosen.reply
    return "".join(f" AND {part}" for part in parts), values


def _address(parts: list[str], values: Values, local_column: str, domain_column: str, text: str) -> None:
    local_part, _, domain = text.rpartition("@")
    name = local_column[2:]
    if domain:
        parts.append(f"{domain_column} = :{name}_domain COLLATE NOCASE")
        values[f"{name}_domain"] = domain
    if local_part:
        parts.append(f"{local_column} = :{name} COLLATE NOCASE")
        values[name] = local_part


def _any_destination(parts: list[str], values: Values, destinations: tuple[Destinations, ...]) -> None:
    any_of: list[str] = []
    for number, one in enumerate(destinations):
        name = f"prefix{number}"
        values[name] = one.prefix
        test = f"substr(r.destination, 1, length(:{name})) = :{name}"
        if one.whole:
            test = f"r.destination = :{name}"
        if one.without:
            values[f"without{number}"] = one.without
            test += f" AND instr(r.destination, :without{number}) = 0"
        any_of.append(f"({test})")
    parts.append(f"({' OR '.join(any_of)})")
