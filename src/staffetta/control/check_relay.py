"""`check relay`: would anything be taken at our doors, from a stranger, for somebody outside? Asked of the doors
themselves, in a dry run, in every shape of control/relay_shapes. Judged by what was committed, not by replies.

This module refuses to know sockets; a check over a real one is another question.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

import msgspec

from staffetta.config.schema import Config
from staffetta.control.answer import Answer
from staffetta.control.dialogue import Dialogue, DialogueOver
from staffetta.control.dry_run import DryDoor, DryRun
from staffetta.control.places import Places
from staffetta.control.relay_shapes import Names
from staffetta.control.relay_trials import DISGUISES, Trial, proxied, shaped
from staffetta.control.rule_places import Subject, place_of_rule
from staffetta.mail.address import Mailbox
from staffetta.mail.network import NetworkSet, address_number, neighbours
from staffetta.observe.events import Accept

STRANGERS: Final = ("203.0.113.77", "2001:db8:bad::77")
"""Where strangers come from, one of each family."""

OUTSIDE: Final = ("ext.example", "ext.test", "outside.invalid")
"""Domains of nobody; the first that is not one of ours is asked for."""

FAILURES: Final = 20
"""So many failures of one door are told in full; the rest is counted."""

OWN_NETWORK: Final = {4: 1 << 24, 6: 1 << 108}
"""Addresses of the largest network that one operator may call his own, by IP version: a /8, a /20."""

TOLD_EVERY: Final = 250
"""Trials between two words of progress."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """A line of the client, or a reply of the door; the other is empty where they do not belong together."""

    said: str
    reply: str


class Failure(msgspec.Struct, frozen=True):
    """Mail that was taken. `went_to` are the recipients outside; `rule` let it in, `where` it can be changed."""

    door: str
    client: str
    shape: str
    dialogue: tuple[Said, ...]
    went_to: tuple[str, ...]
    rule: str
    where: str


class DoorChecked(msgspec.Struct, frozen=True, gc=False):
    """One door: how many messages were tried, and how many of them were taken for somebody outside."""

    door: str
    role: str
    where: str
    tried: int
    failed: int


class RelayReport(Answer, frozen=True):
    """`check relay`. `notes` are what an operator should know although nothing failed."""

    passed: bool
    tried: int
    failed: int
    seconds: float
    doors: tuple[DoorChecked, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]


Progress = Callable[[int, int], None]
"""Told how many trials are done, of how many."""


async def check_relay(config: Config, dry: DryRun, places: Places, progress: Progress) -> RelayReport:
    """Try everything at every door."""
    begun = time.monotonic()
    trials = [trial for names in names_asked(config) for trial in shaped(names)]
    plans = [(door, _plan(config, door, trials)) for door in dry.doors]
    total = sum(len(some) for _, plan in plans for _, some in plan)
    checking = _Checking(config, dry, places)
    doors: list[DoorChecked] = []
    done = 0
    for door, plan in plans:
        tried = failed = 0
        for client, some in plan:
            async for bad in checking.at(door, client, some):
                tried += 1
                failed += bad
                if not (done + tried) % TOLD_EVERY:
                    progress(done + tried, total)
        done += tried
        role = door.settings.door.role.value
        doors.append(DoorChecked(door.title, role, places.at("listen", door.name, "role"), tried, failed))
    progress(done, total)
    failed = sum(door.failed for door in doors)
    seconds = round(time.monotonic() - begun, 3)
    return RelayReport(
        not failed, done, failed, seconds, tuple(doors), tuple(checking.failures), tuple(_notes(config, places))
    )


class _Checking:
    """Plays trials and judges them."""

    def __init__(self, config: Config, dry: DryRun, places: Places) -> None:
        self._config = config
        self._dry = dry
        self._places = places
        self._named = named_targets(config)
        self.failures: list[Failure] = []

    async def at(self, door: DryDoor, client: str, trials: Sequence[Trial]) -> AsyncIterator[bool]:
        """Play them over as few sessions as will do; True for each that took mail outside."""
        dialogue: Dialogue | None = None
        told = 0
        for trial in trials:
            heard: list[Said] = []
            if dialogue is None or trial.whole:
                dialogue = self._dry.connect(door, client)
                heard.append(Said("", await _greeting(door, dialogue, trial)))
            try:
                await _play(dialogue, trial, heard)
            except DialogueOver:
                dialogue.close()
                dialogue = None
            if trial.whole and dialogue is not None:
                dialogue.close()
                dialogue = None
            failure = self._judge(door, client, trial, heard)
            if failure is not None and told < FAILURES:
                told += 1
                self.failures.append(failure)
            yield failure is not None
        if dialogue is not None:
            dialogue.close()

    def _judge(self, door: DryDoor, client: str, trial: Trial, heard: list[Said]) -> Failure | None:
        """What was committed, and whether any of it is for somebody outside whom the file does not name."""
        dry = self._dry
        taken = [recipient for new in dry.spool.accepted for recipient in new.recipients]
        outside = [one.address for one in taken if not stays_here(one.destination) and one.address not in self._named]
        rules = [event.rule for event in dry.events if isinstance(event, Accept)]
        dry.spool.forget()
        dry.events.clear()
        if not outside:
            return None
        rule = rules[-1] if rules else ""
        return Failure(
            door.title,
            client,
            trial.shape,
            tuple(heard),
            tuple(dict.fromkeys(map(str, outside))),
            rule,
            place_of_rule(self._config, self._places, rule, Subject(door.name)),
        )


def stays_here(destination: str) -> bool:
    """True for a destination of ours: the keys of policy/route."""
    return destination.startswith(("local:", "held:"))


async def _greeting(door: DryDoor, dialogue: Dialogue, trial: Trial) -> str:
    """The greeting, EHLO, and TLS where the door takes logins behind it; "" when the door has hung up."""
    if trial.at_once:
        return ""
    try:
        greeting = await dialogue.hear()
        await dialogue.say("EHLO localhost")
        if door.settings.core.starttls and door.settings.core.auth:
            await dialogue.say("STARTTLS")
            await dialogue.say("EHLO localhost")
    except DialogueOver:
        return ""
    return str(greeting)


async def _play(dialogue: Dialogue, trial: Trial, heard: list[Said]) -> None:
    """Say the lines one by one, or all at once and then listen until the door hangs up. Raises DialogueOver."""
    if trial.whole:
        heard += [Said(line, "") for line in trial.lines]
        await dialogue.write(trial.whole)
        while True:
            heard.append(Said("", str(await dialogue.hear())))
    for line in trial.lines:
        answer = await dialogue.say(line)
        heard.append(Said(line, str(answer)))
        if answer.code == 354:
            heard.append(Said("(content)", str(await dialogue.say(trial.content))))
    await dialogue.say("RSET")


def names_asked(config: Config) -> Iterator[Names]:
    """One set of names for each kind of local domain: those whose recipients are known, and those that take all."""
    ours = {str(domain.domain) for domain in config.domains}
    outside = next((name for name in OUTSIDE if name not in ours), OUTSIDE[-1])
    hosts = [where.host for listen in config.listeners for where in listen.bind]
    address = next((host for host in hosts if address_number(host) and ":" not in host), "192.0.2.25")
    kinds: dict[str, str] = {}
    for domain in config.domains:
        kinds.setdefault(domain.recipients.value, str(domain.domain))
    for name in kinds.values() or [config.hostname.ascii]:
        yield Names(outside, config.hostname.ascii, address, name, f"postmaster@{name}")


def _plan(config: Config, door: DryDoor, trials: list[Trial]) -> list[tuple[str, list[Trial]]]:
    """Who tries what: one stranger everything; others, disguises and the neighbours of whom the door trusts, a few."""
    trust = next((listen.trust for listen in config.listeners if listen.name == door.name), ())
    # Whoever trusts a part of the internet that large is tried from there too: no network of one's own is.
    trusted = NetworkSet(network for network in trust if network.last - network.first < OWN_NETWORK[network.version])
    beside = [address for network in trust for address in neighbours(network)]
    clients = [one for one in (*STRANGERS, *DISGUISES, *beside) if not trusted.contains(one)]
    few = [trial for trial in trials if trial.plain]
    plan = [(client, few if place else trials) for place, client in enumerate(dict.fromkeys(clients))]
    proxies = door.settings.proxies
    headers = [trial for name in names_asked(config) for trial in proxied(name)]
    plan += [(one, headers) for one in clients[:2] if proxies is None or not proxies.contains(one)]
    return plan


def named_targets(config: Config) -> frozenset[Mailbox]:
    """Outside addresses that the file itself sends mail to: mail for them is wanted."""
    found = {target for domain in config.domains for _, targets in domain.aliases for target in targets}
    return frozenset({one for one in (*found, config.postmaster) if isinstance(one, Mailbox)})


def _notes(config: Config, places: Places) -> Iterator[str]:
    """What is allowed, and by whom it could be used."""
    for listen in config.listeners:
        beyond = [network for network in listen.trust if str(network) not in {"127.0.0.0/8", "::1/128"}]
        if beyond:
            where = places.at("listen", listen.name, "trust")
            networks = ", ".join(map(str, beyond))
            yield f"door {listen.name} trusts {networks} ({where}): whoever is in there may send anywhere, as anybody"
        if listen.proxy_protocol:
            where = places.at("listen", listen.name, "proxy_protocol")
            peers = ", ".join(map(str, listen.proxy_protocol))
            yield f"door {listen.name} believes {peers} ({where}) about who its clients are"
