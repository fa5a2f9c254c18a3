"""The one vocabulary of events. Log lines, `trace`, console and API use these words and fields and no others.

An event is a frozen value. `encode` makes its JSON line: `event` first, then `time`, `session`, `id`, then its own
fields. Fields of the contract are always there; session, id and a few extras only where they hold something.
The sentence for the peer is `reply`; the operator's is `reason`.
Secrets are in neither. Control characters cannot break a line: JSON escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="event", tag=str.lower):
    """What every event has. `session` is the id of a connection, `id` that of a message."""

    time: datetime
    session: str = ""
    id: str = ""


class Ready(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The relay serves."""

    listeners: tuple[str, ...]


class Stopping(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The relay drains and will exit."""

    reason: str


class Reloaded(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A new configuration is in force: which, and what changed, says `reason`."""

    listeners: tuple[str, ...]
    reason: str = ""


class ReloadRefused(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="reload_refused"):
    """A new configuration was wrong; the old one stays in force."""

    reason: str


class AlarmRaised(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="alarm"):
    """Something is wrong that somebody has to see; `name` is that of the alarm in `status`."""

    name: str
    reason: str


class AlarmCleared(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="alarm_cleared"):
    """It is not wrong any more."""

    name: str


class Connect(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A client came."""

    listener: str
    client: str
    tls: str


class Disconnect(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A client went. `bytes` is what it sent."""

    listener: str
    client: str
    tls: str
    bytes: int
    reason: str


class Login(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """SMTP AUTH succeeded."""

    login: str
    mechanism: str
    listener: str = ""
    client: str = ""
    reason: str = ""


class LoginRefused(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="login_refused"):
    """SMTP AUTH failed."""

    login: str
    mechanism: str
    listener: str = ""
    client: str = ""
    reason: str


class Refuse(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A command or message was refused or put off at the door. `rule` names what decided. `dmarc` as in Accept."""

    stage: str
    client: str
    sender: str | None
    recipient: str
    reply: str
    rule: str
    reason: str
    listener: str = ""
    login: str = ""
    message_id: str = ""
    checks: dict[str, str] = {}
    dmarc: msgspec.Struct | None = None


class Accept(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """On disk, 250 said. `sender` is "" for the null path. `rule` names what allowed it.

    `dmarc` is what an aggregate report needs of this message (RFC 9990), where a policy was looked up.
    """

    sender: str
    recipients: tuple[str, ...]
    size: int
    message_id: str
    client: str
    login: str
    listener: str = ""
    tls: str = ""
    helo: str = ""
    checks: dict[str, str]
    rule: str = ""
    dmarc: msgspec.Struct | None = None


class Forecast(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What receivers will conclude of mail of this kind; `id` is the first message of it. `verdict` is `pass`, `fail`
    or `unknown`, `policy` what the author's domain asks for when it fails."""

    author_domain: str
    envelope_domain: str
    signed_as: str
    spf: str
    dkim: str
    dmarc: str
    policy: str
    verdict: str
    reason: str


class Attempt(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One try for one recipient ended: `outcome` is `delivered`, `deferred` or `failed`; `seconds` how long it took."""

    recipient: str
    route: str
    destination: str
    host: str
    address: str
    tls: str
    stage: str
    reply: str
    outcome: str
    seconds: float


class Deliver(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A recipient has the message."""

    recipient: str
    reply: str
    reason: str = ""


class Defer(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A recipient waits for the next attempt."""

    recipient: str
    reply: str
    next_attempt_at: datetime
    reason: str
    in_doubt: bool


class Bounce(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A recipient failed for good."""

    recipient: str
    reply: str
    reason: str
    in_doubt: bool


class Expire(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A recipient waited its whole lifetime."""

    recipient: str
    reply: str
    reason: str
    in_doubt: bool


class Junk(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Delivered to the junk folder, and why."""

    recipient: str
    rule: str
    reason: str


class Hold(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An operator stopped a recipient."""

    recipient: str = ""
    by: str
    reason: str


class Release(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An operator let a held recipient go on."""

    recipient: str = ""
    by: str
    reason: str


class Drop(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An operator removed a recipient from the queue; no notice was made."""

    recipient: str = ""
    by: str
    reason: str


class Retry(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An operator asked for an attempt now."""

    recipient: str = ""
    by: str
    reason: str


class Notice(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A DSN was made; `id` is its own, `for_id` the message it speaks about. `kind`: failed, delayed or delivered."""

    kind: str
    for_id: str
    recipient: str = ""


_encoder = msgspec.json.Encoder()

encode: Final[Callable[[Event], bytes]] = _encoder.encode
"""The event as one JSON line, without its line end."""


def encode_all(events: Sequence[Event]) -> bytes:
    """Events as JSON lines with LF between them, none behind the last."""
    return _encoder.encode_lines(events)[:-1]


def moment(now: float) -> datetime:
    """Seconds since the epoch as the `time` of an event (RFC 3339 UTC when encoded)."""
    return datetime.fromtimestamp(now, UTC)
