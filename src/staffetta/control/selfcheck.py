"""The self check of a running relay: what is asked over the control socket, and what it answers.

One request starts a check or only asks how far it is: a check takes longer than an answer may, so whoever wants its
end asks again. The check itself is `app.sentinel`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from staffetta.control.answer import Answer
from staffetta.control.channel import Request
from staffetta.control.check_relay import Said


class SelfCheck(Request, frozen=True, gc=False):
    """How does the self check stand? With `start`, one begins unless one runs. Answered by SelfCheckState."""

    start: bool = False


class DoorAsked(msgspec.Struct, frozen=True, gc=False):
    """One address of a door. `way`: `tcp`, over the network; `proxy`, the same as a proxy that the door believes;
    `memory`, a session without a connection, because every address of this machine is trusted there. `client` is who
    the door saw. `note` says why it was not asked, or not to the end; "" else."""

    door: str
    role: str
    address: str
    way: str
    client: str
    tried: int
    failed: int
    note: str = ""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """A shape by which a stranger got a recipient outside accepted; `rule` let it in, `went_to` is who would get it."""

    door: str
    address: str
    client: str
    shape: str
    dialogue: tuple[Said, ...]
    went_to: tuple[str, ...]
    rule: str


class SelfCheckReport(Answer, frozen=True, gc=False):
    """`check relay --live`. `complete`: every door was asked everything in the time there was."""

    at: datetime
    seconds: float
    passed: bool
    complete: bool
    tried: int
    failed: int
    doors: tuple[DoorAsked, ...]
    failures: tuple[Taken, ...]


class SelfCheckState(msgspec.Struct, frozen=True, gc=False):
    """`done` of `total` shapes of the check that runs; `last` is the latest that ended, in this process."""

    running: bool
    done: int
    total: int
    last: SelfCheckReport | None
