"""Strangers behind trusted addresses, noticed while they ask (policy/masking): their trust is withdrawn, and said so.

A withdrawal holds until the relay is restarted, or reloaded with other doors: with the same ones it would be as wrong
as before. Mail that was accepted stays accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from staffetta.app.sentinel_alarms import clear_alarm, raise_alarm
from staffetta.app.wiring import Parts
from staffetta.config.schema import Config
from staffetta.mail.address import Mailbox
from staffetta.mail.network import Network
from staffetta.policy.door import MX
from staffetta.policy.masking import Ask, Facts, Masking, Standing, Suspicion, judge, standing_of

if TYPE_CHECKING:
    from staffetta.intake.session import Session
    from staffetta.intake.transaction import Transaction

STANDINGS_REMEMBERED: Final = 4096
"""Addresses whose standing is remembered before all are looked at again."""

_WORDS: Final = {
    Standing.LOOPBACK: "this machine itself",
    Standing.GATEWAY: "the gateway of this machine",
    Standing.NAMED: "an address that trust names",
    Standing.INSIDE: "an address inside a trusted network",
}
_CURE: Final = (
    "name the real clients in trust, let what stands in front say who they are (proxy_protocol), ask for a login"
    " (auth), or limit the senders of the door (from)"
)


class MaskWatch:
    """See intake.door.Masks. `gateways` are addresses by which this machine reaches others. `tell` is given the
    addresses whose trust is withdrawn, whenever that changes."""

    def __init__(
        self,
        parts: Parts,
        config: Config,
        gateways: frozenset[str],
        tell: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        self._tell = tell
        self._parts = parts
        self._gateways = gateways
        self._masking = Masking()
        self._withdrawn: set[str] = set()
        self._raised: set[str] = set()
        self._standings: dict[str, Standing | None] = {}
        self._doors = config.listeners
        self._trust = _trust_of(config)

    def reloaded(self, config: Config) -> None:
        """Other doors mean that somebody thought about whom to trust."""
        if config.listeners == self._doors:
            return
        self._doors, self._trust = config.listeners, _trust_of(config)
        self._masking.forget()
        self._withdrawn.clear()
        self._tell(frozenset())
        self._standings.clear()
        for name in self._raised:
            clear_alarm(self._parts, name)
        self._raised.clear()

    def greeted(self, session: Session) -> None:
        """See Masks."""
        self.note_greeting(session.client, greeted_as(session))

    def note_greeting(self, client: str, name: str) -> None:
        """A client said EHLO; `name` as `greeted_as` says."""
        self._look_at(client, self._masking.greeted(client, self._standing(client), name, self._now()))

    def withdrawn(self, client: str) -> bool:
        """See Masks."""
        return client in self._withdrawn

    def asked(self, session: Session, transaction: Transaction, *, outside: bool) -> None:
        """See Masks."""
        standing = self._standing(session.client)
        if standing is None or standing is Standing.LOOPBACK:
            return
        self.note_asking(session.client, session.helo, asked_for(session, transaction), outside=outside)

    def note_asking(self, client: str, name: str, sender: str, *, outside: bool) -> None:
        """A recipient was taken from a trusted client; `sender` as `asked_for` says."""
        standing = self._standing(client)
        if standing is not None and standing is not Standing.LOOPBACK:
            self._look_at(client, self._masking.asked(Ask(client, standing, name, sender, outside), self._now()))

    def _look_at(self, client: str, facts: Facts | None) -> None:
        if facts is None or client in self._withdrawn:
            return
        finding = judge(facts)
        if finding.suspicion is Suspicion.NONE:
            return
        who = f"strangers seem to hide behind {client}, {_WORDS[facts.standing]}: {finding.reason}"
        what = "It is still trusted; if these are not all your own"
        if finding.suspicion is Suspicion.WITHDRAW:
            self._withdrawn.add(client)
            self._tell(frozenset(self._withdrawn))
            what = "Its trust is withdrawn until a restart, or a reload with other doors"
        name = f"masked {client}"
        self._raised.add(name)
        raise_alarm(self._parts, name, f"{who}. {what}: {_CURE}")

    def _standing(self, client: str) -> Standing | None:
        try:
            return self._standings[client]
        except KeyError:
            if len(self._standings) >= STANDINGS_REMEMBERED:
                self._standings.clear()
            found = self._standings[client] = standing_of(client, self._trust, self._gateways)
            return found

    def _now(self) -> float:
        return self._parts.house.monotonic()


def _trust_of(config: Config) -> tuple[Network, ...]:
    return tuple(dict.fromkeys(network for listen in config.listeners for network in listen.trust))


def greeted_as(session: Session) -> str:
    """The name that counts: "" at a door that is not open to everybody."""
    return session.helo if session.door.door.role is MX else ""


def asked_for(session: Session, transaction: Transaction) -> str:
    """The sender's domain where neither our domains nor the door's list have it; "" else, and for the null path."""
    sender, door = transaction.claimed_sender, session.door.door
    if not isinstance(sender, Mailbox) or door.senders or door.sender_fixed is not None:
        return ""  # whom a door lists, and whom it renames, is ours
    return "" if session.house.directory.is_local(sender.domain) else str(sender.domain)
