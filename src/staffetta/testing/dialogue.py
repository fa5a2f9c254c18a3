r"""Dialogues in `.smtp` files: one script, played against the core, the app over a memory wire, or an installed daemon.

A script is lines; `#` begins a comment line. First what it needs:

    door mx                    the role it is played against (mx, submission, relay); tls on: TLS from the start
    limit message_size 1000    a setting of the door; a wire that cannot provide it skips the script

then the dialogue. Client lines that follow one another are sent together:

    C: EHLO client.example     sends the line and CRLF
    R: a\rb\x00\r\n            sends exactly these octets (escapes \r \n \t \\ \xHH, and \# for N times: \#1000{x})
    S: 250 2.1.0               a reply with this code (and enhanced status; and this text in one of its lines)
    S: 250 + SIZE 1000         the reply has this line
    S: 250 - STARTTLS          the reply has no line that begins so
    starttls                   a handshake, after 220
    quiet                      the server says nothing
    closed                     the server has closed
    accepted 1                 so many messages were accepted since the script began
    content a\r\n              the last message accepted consists of these octets (a server may put trace fields before)

The interpreter does no IO: it yields what is to be done, and is sent what was received. `play` drives a
synchronous wire, `play_async` an asynchronous one.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

import msgspec

_ESCAPE = re.compile(r"\\(?:([rnt\\])|x([0-9A-Fa-f]{2})|#([0-9]+)\{([^{}]*)\})")
_NAMED: Final = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}
_EXPECTED = re.compile(r"([2-5][0-9][0-9])(?: ([245]\.[0-9]+\.[0-9]+))?(?: ([+-]) (.*)| (.*))?")
WORDS: Final = frozenset({"C:", "R:", "S:", "starttls", "quiet", "closed", "accepted", "content"})


class DialogueError(AssertionError):
    """The server did not keep to the script, or the script is none."""


class Step(msgspec.Struct, frozen=True):
    """One line of a script."""

    line: int
    word: str
    text: str


class Dialogue(msgspec.Struct, frozen=True):
    """A script. `needs` holds its first part, such as `{"door": "mx", "message_size": "1000"}`."""

    name: str
    needs: dict[str, str]
    steps: tuple[Step, ...]


class Send(msgspec.Struct, frozen=True):
    """Send these octets."""

    octets: bytes


class Ask(Enum):
    """Things to do that send nothing; what is to be returned."""

    RECEIVE = "receive"
    """What the server sent next, b"" when it is silent or gone."""
    OVERHEAR = "overhear"
    """What the server says although nobody waits for it, b"" as it should be."""
    START_TLS = "start_tls"
    """b""."""
    IS_CLOSED = "is_closed"
    """b"1" when the server has closed, else b""."""
    ACCEPTED = "accepted"
    """The number of messages, in digits."""
    CONTENT = "content"
    """The last message accepted."""


Play = Generator[Send | Ask, bytes, None]


class Wire(Protocol):
    """A server to talk to. `accepted` holds the messages that it took."""

    def send(self, octets: bytes) -> None:
        """Send."""

    def receive_until_quiet(self) -> bytes:
        """What the server sends until it waits for the client; b"" when that is nothing."""

    def start_tls(self) -> None:
        """Shake hands."""

    def is_closed(self) -> bool:
        """True when the server has closed."""

    def accepted(self) -> list[bytes]:
        """The messages that were accepted so far, oldest first."""


class AsyncWire(Protocol):
    """The same for servers that are awaited. In real time `receive_until_quiet` waits long for the first octet."""

    async def send(self, octets: bytes) -> None:
        """Send."""

    async def receive_until_quiet(self) -> bytes:
        """What the server sends until it waits for the client; b"" when that is nothing."""

    async def overhear(self) -> bytes:
        """What the server says although nothing is expected; waits no longer than an answer would take to come."""

    async def start_tls(self) -> None:
        """Shake hands."""

    async def is_closed(self) -> bool:
        """True when the server has closed."""

    async def accepted(self) -> list[bytes]:
        """The messages that were accepted so far, oldest first."""


def read_dialogue(path: Path) -> Dialogue:
    """The script in a file. Raises DialogueError."""
    return parse_dialogue(path.read_text(), path.stem)


def parse_dialogue(text: str, name: str) -> Dialogue:
    """The script in `text`. Raises DialogueError."""
    needs: dict[str, str] = {}
    steps: list[Step] = []
    for number, line in enumerate(text.split("\n"), 1):
        word, _, rest = line.partition(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if word in WORDS:
            steps.append(Step(number, word, rest))
        elif word == "limit" and not steps:
            key, _, value = rest.partition(" ")
            needs[key] = value
        elif word in {"door", "tls"} and not steps:
            needs[word] = rest
        else:
            raise DialogueError(f"{name}:{number}: not a line of a dialogue: {line}")
    return Dialogue(name, needs, tuple(steps))


def unescape(text: str) -> bytes:
    """Octets written with escapes; other characters are UTF-8."""

    def replacement(match: re.Match[str]) -> str:
        named, hexadecimal, times, repeated = match.groups()
        if named:
            return _NAMED[named]
        if hexadecimal:
            return bytes([int(hexadecimal, 16)]).decode("utf-8", "surrogateescape")
        return repeated * int(times)

    return _ESCAPE.sub(replacement, text).encode("utf-8", "surrogateescape")


def interpret(dialogue: Dialogue, split: int = 0) -> Play:
    """What to do, step by step. `split`: send at most so many octets at once (0: as written)."""
    received = b""
    outgoing = b""
    for step in dialogue.steps:
        if step.word in {"C:", "R:"}:
            outgoing += unescape(step.text) if step.word == "R:" else step.text.encode() + b"\r\n"
            continue
        width = split or len(outgoing) or 1
        for at in range(0, len(outgoing), width):
            yield Send(outgoing[at : at + width])
        outgoing = b""
        where = f"{dialogue.name}:{step.line}: {step.word} {step.text}"
        if step.word == "S:":
            received = yield from _expect_reply(step.text, received, where)
        else:
            if received:
                raise DialogueError(f"{where}: the server said more than was expected: {received!r}")
            yield from _check(step, where)
    if received:
        raise DialogueError(f"{dialogue.name}: the server said more than was expected: {received!r}")


def _expect_reply(text: str, received: bytes, where: str) -> Generator[Send | Ask, bytes, bytes]:
    expected = _EXPECTED.fullmatch(text)
    if expected is None:
        raise DialogueError(f"{where}: not a reply")
    lines: list[bytes] = []
    while not lines or lines[-1][3:4] == b"-":
        line, ended, rest = received.partition(b"\r\n")
        if ended:
            lines.append(line)
            received = rest
            continue
        more = yield Ask.RECEIVE
        if not more:
            raise DialogueError(f"{where}: the server is silent after {lines} {received!r}")
        received += more
    problem = _compare(expected, [line.decode("ascii") for line in lines])
    if problem:
        raise DialogueError(f"{where}: {problem}: {lines}")
    return received


def _compare(expected: re.Match[str], lines: list[str]) -> str:
    code, enhanced, sign, wanted, some_text = expected.groups()
    if any(line[:3] != code for line in lines):
        return "another code"
    texts = [line[4:] for line in lines]
    if enhanced and not all(text == enhanced or text.startswith(f"{enhanced} ") for text in texts):
        return "another enhanced status"
    if sign == "+" and wanted not in texts:
        return "the line is missing"
    if sign == "-" and any(text == wanted or text.startswith(f"{wanted} ") for text in texts):
        return "the line is there"
    if some_text and not any(some_text in text for text in texts):
        return "another text"
    return ""


def _check(step: Step, where: str) -> Play:
    if step.word == "starttls":
        yield Ask.START_TLS
    elif step.word == "quiet":
        more = yield Ask.OVERHEAR
        if more:
            raise DialogueError(f"{where}: the server said {more!r}")
    elif step.word == "closed":
        more = yield Ask.RECEIVE
        closed = yield Ask.IS_CLOSED
        if more or not closed:
            raise DialogueError(f"{where}: the server did not close; it said {more!r}")
    elif step.word == "accepted":
        count = yield Ask.ACCEPTED
        if count != step.text.encode():
            raise DialogueError(f"{where}: {count.decode()} were accepted")
    else:
        content = yield Ask.CONTENT
        if not content.endswith(unescape(step.text)):
            raise DialogueError(f"{where}: it is {content!r}")


def play(dialogue: Dialogue, wire: Wire, split: int = 0) -> None:
    """Play it. Raises DialogueError when the server does not keep to it."""
    steps = interpret(dialogue, split)
    answer: bytes | None = None
    while True:
        try:
            action = next(steps) if answer is None else steps.send(answer)
        except StopIteration:
            return
        answer = b""
        if isinstance(action, Send):
            wire.send(action.octets)
        elif action in {Ask.RECEIVE, Ask.OVERHEAR}:
            answer = wire.receive_until_quiet()
        elif action is Ask.START_TLS:
            wire.start_tls()
        elif action is Ask.IS_CLOSED:
            answer = b"1" if wire.is_closed() else b""
        else:
            answer = _about_messages(action, wire.accepted())


async def play_async(dialogue: Dialogue, wire: AsyncWire, split: int = 0) -> None:
    """Play it. Raises DialogueError when the server does not keep to it."""
    steps = interpret(dialogue, split)
    answer: bytes | None = None
    while True:
        try:
            action = next(steps) if answer is None else steps.send(answer)
        except StopIteration:
            return
        answer = b""
        if isinstance(action, Send):
            await wire.send(action.octets)
        elif action is Ask.RECEIVE:
            answer = await wire.receive_until_quiet()
        elif action is Ask.OVERHEAR:
            answer = await wire.overhear()
        elif action is Ask.START_TLS:
            await wire.start_tls()
        elif action is Ask.IS_CLOSED:
            answer = b"1" if await wire.is_closed() else b""
        else:
            answer = _about_messages(action, await wire.accepted())


def _about_messages(action: Ask, messages: list[bytes]) -> bytes:
    if action is Ask.ACCEPTED:
        return b"%d" % len(messages)
    return messages[-1] if messages else b""
