"""One message of a program, brought to the running relay through a session in memory: judged, mended, stamped, signed
and committed by the code that serves the network.

RFC 6409 section 8. The outcome is final (accepted, refused) or says that it can be tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import msgspec

from staffetta.config.schema import Config
from staffetta.control.dialogue import Dialogue
from staffetta.intake.door import DoorSettings, House
from staffetta.intake.session import Session
from staffetta.mail.address import ForwardPath, Postmaster, ReversePath
from staffetta.mail.network import NetworkSet, parse_network
from staffetta.mail.reply import Reply
from staffetta.net.contract import Endpoint
from staffetta.net.memory import MemoryNetwork
from staffetta.net.stream import TcpStream
from staffetta.policy.acceptance import AcceptanceSettings
from staffetta.policy.alignment import Rights
from staffetta.policy.door import Door
from staffetta.policy.rate import Connections
from staffetta.protocol.client_commands import xtext
from staffetta.protocol.extensions import ServerSettings

RECIPIENTS: Final = 10_000
"""Recipients of one message: a program on this machine may have a long list."""

_DOOR: Final = Endpoint("127.0.0.1", 25)
_LOOPBACK: Final = NetworkSet((parse_network("127.0.0.1/32"),))


class Letter(msgspec.Struct, frozen=True):
    """What is brought, and by whom. `origin` stands in the Received field, `identity` names the session ("": as any
    other). `whole`: nothing is sent when one recipient is refused."""

    identity: str
    user: str
    origin: str
    rights: Rights | None
    sender: ReversePath
    recipients: tuple[ForwardPath, ...]
    notify: tuple[str, ...] = ()
    ret: str | None = None
    envid: str | None = None
    whole: bool = False


class Brought(msgspec.Struct, frozen=True):
    """How it went. `answer` is the last reply; `refused` are the recipients that were refused, each with its reply.

    `sender_refused`: the sender is not the user's to name.
    """

    answer: Reply
    refused: tuple[tuple[ForwardPath, Reply], ...] = ()
    sender_refused: bool = False

    @property
    def again(self) -> bool:
        """True when nothing was taken, and it may be later."""
        return self.answer.is_transient


def door_settings(config: Config, door: Door) -> DoorSettings:
    """The door of this machine's programs."""
    limits = config.limits
    core = ServerSettings(
        hostname=config.hostname.ascii,
        message_size=limits.message_size,
        recipients=RECIPIENTS,
        commands=10 * RECIPIENTS,
        errors=RECIPIENTS,
        normalise=True,
    )
    acceptance = AcceptanceSettings(limits.message_size, limits.hops)
    return DoorSettings(door=door, core=core, trust=_LOOPBACK, acceptance=acceptance)


async def bring(house: House, door: DoorSettings, letter: Letter, content: Iterator[bytes]) -> Brought:
    """Say it at the door. What `content` raises ends the session, and nothing is taken.

    Raises ChannelClosed and ChannelTimeout when the relay stops meanwhile.
    """
    # Connections from the network do not take the place of mail from this machine.
    house = msgspec.structs.replace(house, connections=Connections(2, 2))
    network = MemoryNetwork(client=_DOOR.address)
    sessions: list[Session] = []

    def greet(stream: TcpStream) -> Session:
        sessions.append(Session(stream, house, door))
        return sessions[-1]

    network.listen(_DOOR, greet)
    dialogue = Dialogue(await network.connect([_DOOR], deadline=asyncio.get_running_loop().time() + 1.0))
    try:
        await dialogue.hear()
        await dialogue.say("EHLO localhost")
        (session,) = sessions
        # Who sends is what the system says, not what is said in the dialogue.
        session.id = letter.identity or session.id
        session.login, session.rights = letter.user, letter.rights
        origin = f" ({letter.origin})\r\n\t" if letter.origin else " "
        session.opening = (f"Received: by {house.hostname}{origin}with ".encode(), b" id ")
        brought = await _say(dialogue, letter, content)
        await dialogue.say("QUIT")
        return brought
    finally:
        dialogue.close()


async def _say(dialogue: Dialogue, letter: Letter, content: Iterator[bytes]) -> Brought:
    answer = await dialogue.say(f"MAIL FROM:<{letter.sender}>{_mail_parameters(letter)}")
    if not answer.is_positive:
        return Brought(answer, sender_refused=True)
    refused: list[tuple[ForwardPath, Reply]] = []
    notify = f" NOTIFY={','.join(letter.notify)}" if letter.notify else ""
    for recipient in letter.recipients:
        answer = await dialogue.say(f"RCPT TO:<{recipient}>{notify}")
        if answer.is_transient and not letter.whole:
            return Brought(answer)
        if not answer.is_positive:
            refused.append((recipient, answer))
    if len(refused) == len(letter.recipients) or (letter.whole and refused):
        return Brought(refused[0][1], tuple(refused))
    return Brought(await _content(dialogue, content), tuple(refused))


async def _content(dialogue: Dialogue, content: Iterator[bytes]) -> Reply:
    """By BDAT, so that nothing in the content can end it."""
    while True:
        block = await asyncio.to_thread(next, content, b"")
        await dialogue.write(b"BDAT %d%b\r\n" % (len(block), b"" if block else b" LAST"))
        await dialogue.write(block)
        answer = await dialogue.hear()
        if not block or not answer.is_positive:
            return answer


def _mail_parameters(letter: Letter) -> str:
    said = " BODY=8BITMIME"
    if not all(isinstance(path, Postmaster) or path.is_ascii for path in (letter.sender, *letter.recipients)):
        said += " SMTPUTF8"
    if letter.ret is not None:
        said += f" RET={letter.ret}"
    return said + (f" ENVID={xtext(letter.envid)}" if letter.envid else "")


__all__ = ["Brought", "Letter", "bring", "door_settings"]
