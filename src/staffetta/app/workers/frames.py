"""What the main process and a door worker say to each other (app/workers/wire).

Arrays, not maps: names would cost more than what they name. Numbers that come back in an answer belong to who asked.
This module refuses to know sockets, and who does what about a frame.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from staffetta.mail.envelope import Body, Notify, Return

Address = tuple[str, str]
"""Local part and domain, or address literal in brackets."""


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One frame, or a part of one."""


class Heading(Frame, frozen=True):
    """`spool.contract.Message`, flat. `sender` None: the null path."""

    id: str
    sender: Address | None
    size: int
    received_at: float
    message_id: str
    session: str
    login: str
    client: str
    hops: int
    body: Body
    smtputf8: bool
    declared_size: int | None
    ret: Return | None
    envid: str | None
    quarantine: tuple[str, str] | None


class Target(Frame, frozen=True):
    """What `spool.contract.WaitingRecipient` says of one that has just come, flat."""

    local_part: str
    domain: str
    destination: str
    notify: tuple[Notify, ...]
    orcpt: str | None
    original: Address | None


# From a worker: mail.


class Arrival(Frame, frozen=True, tag=1):
    """A message to be made durable: `head`, what was stored of `draft` (0: nothing), `rest`.

    `lines` is for the journal. `log` is for the log: None for nothing, b"" where it is the same line. `senders` are
    clients that are connected to the worker now.
    """

    number: int
    draft: int
    heading: Heading
    targets: tuple[Target, ...]
    head: bytes
    rest: bytes
    lines: bytes
    log: bytes | None
    senders: int = 1


class Chunk(Frame, frozen=True, tag=2):
    """Content of a draft, to be stored."""

    number: int
    draft: int
    data: bytes


class Discard(Frame, frozen=True, tag=3):
    """Nobody wants this draft."""

    draft: int


class Entry(Frame, frozen=True):
    """`spool.contract.JournalEntry`."""

    lines: bytes
    time: float
    id: str
    session: str
    message_id: str


class Append(Frame, frozen=True, tag=4):
    """Events for the journal."""

    number: int
    entries: tuple[Entry, ...]


class LogLines(Frame, frozen=True, tag=5):
    """`count` lines for the log, ready to be written; `dropped` more were left out before them."""

    lines: bytes
    count: int
    dropped: int = 0


# From a worker: how it is.


class Hello(Frame, frozen=True, tag=10):
    """It lives."""

    pid: int


class Prepared(Frame, frozen=True, tag=11):
    """Everything for a configuration is made, or not: then `fault` says why."""

    generation: int
    fault: str


class Adopted(Frame, frozen=True, tag=12):
    """A configuration is in force."""

    generation: int


class Tally(Frame, frozen=True, tag=13):
    """Every second: clients by the number of their door, and all that was counted since the start of the worker."""

    clients: tuple[tuple[int, int], ...]
    counts: tuple[tuple[str, tuple[str, ...], int], ...]


class AlarmTold(Frame, frozen=True, tag=14):
    """Something is wrong; with an empty text it is not any more."""

    name: str
    text: str


class Expected(Frame, frozen=True, tag=16):
    """A probe will be known when it comes."""

    number: int


class Arrived(Frame, frozen=True, tag=17):
    """A probe has come to a door: its connection travels with this frame."""

    door: int


class Greeted(Frame, frozen=True, tag=18):
    """See intake.door.Masks: what is looked at of a greeting."""

    client: str
    name: str


class Asked(Frame, frozen=True, tag=19):
    """See intake.door.Masks: what is looked at of a recipient."""

    client: str
    name: str
    sender: str
    outside: bool


class Finished(Frame, frozen=True, tag=15):
    """All sessions have ended, and nothing follows."""


# Both ways.


class LoginTold(Frame, frozen=True, tag=20):
    """A login failed or succeeded at another door."""

    succeeded: bool
    client: str
    account: str
    time: float


# To a worker: answers.


class Stored(Frame, frozen=True, tag=30):
    """What was asked is durable, and so is what `others` asked."""

    number: int
    others: tuple[int, ...] = ()


class NotStored(Frame, frozen=True, tag=31):
    """What was asked is not durable: `full` when space ran out, `bug` when it is our own fault."""

    number: int
    reason: str
    full: bool = False
    bug: bool = False


# To a worker: orders.


class Prepare(Frame, frozen=True, tag=40):
    """Make everything for a configuration, without putting it in force.

    `config` is pickled. `certificate` and key in PEM, b"" for none. `doors` are its addresses in order: the number of
    the door there, and how many sockets for it come with this frame. `renewed`: make a new resolver. `failures`,
    pickled, is what is known of failed logins, for a worker that knows nothing.
    """

    generation: int
    config: bytes
    certificate: bytes
    key: bytes
    doors: tuple[tuple[int, int], ...]
    connections: int
    renewed: bool
    failures: bytes


class Adopt(Frame, frozen=True, tag=41):
    """Put it in force."""

    generation: int


class Forget(Frame, frozen=True, tag=42):
    """Undo it: it will not come into force."""

    generation: int


class Show(Frame, frozen=True, tag=43):
    """The files of the certificate changed."""

    certificate: bytes
    key: bytes


class ReadKeys(Frame, frozen=True, tag=44):
    """Signing keys may have changed."""


class Count(Frame, frozen=True, tag=46):
    """Say Tally now."""


class Expect(Frame, frozen=True, tag=47):
    """A probe of ours will come from one end to another, which are address and port; say Expected."""

    number: int
    near: tuple[str, int]
    far: tuple[str, int]


class Withdrawn(Frame, frozen=True, tag=48):
    """Addresses that are not to be trusted, whatever the file says."""

    clients: tuple[str, ...]


class Stop(Frame, frozen=True, tag=45):
    """Let nobody in, end sessions at a command boundary, say Finished."""


FROM_WORKER: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(
    Arrival
    | Chunk
    | Discard
    | Append
    | LogLines
    | Hello
    | Prepared
    | Adopted
    | Tally
    | AlarmTold
    | Expected
    | Arrived
    | Greeted
    | Asked
    | Finished
    | LoginTold
)
TO_WORKER: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(
    Stored | NotStored | Prepare | Adopt | Forget | Show | ReadKeys | Count | Expect | Withdrawn | Stop | LoginTold
)
