"""`explain route`: where mail for an address goes, and what decided it, without sending. The directory, the route table
and the roads that answer are the ones a relay uses; hosts come from the same questions to the DNS.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from staffetta.accounts.directory import Directory, Resolution, Target
from staffetta.config.schema import Config
from staffetta.control.answer import Answer, moment
from staffetta.control.filters import route_of
from staffetta.control.places import Places
from staffetta.control.route_hosts import Found, RouteHost, hosts_by_mx, hosts_by_name
from staffetta.control.rule_places import Subject, alias_name, local_domain, place_of_name
from staffetta.delivery.road import Road
from staffetta.dns.resolver import Resolver
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.policy.relay import Place
from staffetta.policy.route import DEFAULT_ROUTE_NAME, RouteTable
from staffetta.spool.operator_destinations import Destination

TARGETS: Final = 10
"""So many recipients behind one name are followed to their hosts; the rest is only named."""

DELIVERED: Final = "delivered here"
SENT_ON: Final = "sent on"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"


class RouteStep(msgspec.Struct, frozen=True, gc=False):
    """One decision: `about` names its kind, `where` the place that decided it, "" where nothing is written."""

    number: int
    about: str
    text: str
    where: str


class RouteTarget(msgspec.Struct, frozen=True):
    """One recipient in the end. `error` is why mail to it cannot go, None when it can; `temporary`: not now.

    `down_until` is there while its destination counts as down; `waiting` is what waits for it now, None without a
    store.
    """

    recipient: str
    destination: str
    route: str
    hosts: tuple[RouteHost, ...]
    tls: str
    error: str | None
    temporary: bool
    down_until: datetime | None
    last_reply: str
    waiting: int | None


class RouteReport(Answer, frozen=True):
    """`explain route`. `verdict` is `delivered here`, `sent on`, `refused` or `unknown` (the DNS does not answer).

    `forecast` says what receivers will find in SPF, DKIM and DMARC; empty where nobody looked.
    """

    address: str
    sender: str
    verdict: str
    steps: tuple[RouteStep, ...]
    targets: tuple[RouteTarget, ...]
    forecast: tuple[str, ...] = ()


class Ways(msgspec.Struct, frozen=True):
    """What knows the way: parts of a relay, made from the configuration. `queue` tells of a destination in the store;
    None where there is none."""

    config: Config
    places: Places
    directory: Directory
    table: RouteTable
    destination: Callable[[Mailbox, ReversePath], str]
    road: Callable[[str], Road | None]
    resolver: Resolver
    queue: Callable[[str], Destination | None] = lambda _: None


async def explain_route(ways: Ways, address: Mailbox, sender: ReversePath) -> RouteReport:
    """Follow one address to its hosts."""
    return await _Walk(ways, sender).report(address)


class _Walk:
    def __init__(self, ways: Ways, sender: ReversePath) -> None:
        self._ways = ways
        self._sender = sender
        self._steps: list[RouteStep] = []
        self._targets: list[RouteTarget] = []

    async def report(self, address: Mailbox) -> RouteReport:
        resolution = self._ways.directory.resolve(address)
        self._name(address, resolution)
        targets = resolution.targets
        if resolution.place is Place.OUTSIDE:
            targets = (Target(address),)
        for target in targets[:TARGETS]:
            await self._follow(target, several=len(targets) > 1)
        if len(targets) > TARGETS:
            self._say("recipient", f"and {len(targets) - TARGETS} more recipients, not followed here")
        sender = str(self._sender)
        return RouteReport(str(address), sender, self._verdict(resolution), tuple(self._steps), tuple(self._targets))

    def _say(self, about: str, text: str, where: str = "") -> None:
        self._steps.append(RouteStep(len(self._steps) + 1, about, text, where))

    def _verdict(self, resolution: Resolution) -> str:
        if resolution.place is Place.UNKNOWN or any(one.error and not one.temporary for one in self._targets):
            return REFUSED
        if any(one.error for one in self._targets):
            return UNKNOWN
        inside = resolution.place is Place.LOCAL and all(route_of(one.destination) == "local" for one in self._targets)
        return DELIVERED if inside else SENT_ON

    # Who it is.

    def _name(self, address: Mailbox, resolution: Resolution) -> None:
        ways = self._ways
        domain = local_domain(ways.config, address.domain)
        if domain is None:
            self._say("domain", f"{address.domain} is not a domain of ours: a route decides")
            return
        self._say("domain", f"{address.domain} is a domain of ours", ways.places.at(*ways.places.domain(domain.domain)))
        where = place_of_name(ways.config, ways.places, Subject("", address, resolution.rule))
        targets = ", ".join(str(target.mailbox) for target in resolution.targets) or "nobody"
        owner = ways.directory.owner(address)
        detail = "" if owner == address.folded() else f", without its detail: {owner}"
        words = {
            "account": f"{address} is an account{detail}",
            "alias": f"alias {alias_name(domain, address)} stands for {targets}",
            "catch_all": f"nobody has it, so the catch-all takes it: {targets}",
            "any": "every local part of this domain exists",
            "postmaster": f"nobody has this role, so mail for it goes to {targets}",
            "unknown": "no account, alias or catch-all has it: refused with 550 5.1.1",
        }
        self._say("recipient", words.get(resolution.rule, resolution.rule), where)
        for missing in resolution.missing:
            self._say("recipient", f"{missing}, to which an alias leads, does not exist and gets nothing", where)

    # Which way.

    async def _follow(self, target: Target, *, several: bool) -> None:
        ways = self._ways
        mailbox = target.mailbox
        destination = target.destination or ways.destination(mailbox, self._sender)
        road = ways.road(destination)
        if several:
            self._say("recipient", f"for {mailbox}:")
        if route_of(destination) == "local":
            found = await self._inside(mailbox, road)
        else:
            self._route(mailbox)
            found = await self._outside(mailbox, road)
        for note in found.notes:
            self._say("hosts", note)
        if found.hosts:
            self._say("tls", _tls_words(found.tls), self._tls_place(destination))
        state = ways.queue(destination)
        self._queue(destination, state)
        if found.error is not None:
            end = "mail waits and is tried again" if found.temporary else "mail is returned to its sender at once"
            self._say("outcome", f"{found.error}: {end}")
        down = state is not None and state.not_before > 0
        self._targets.append(
            RouteTarget(
                str(mailbox),
                destination,
                route_of(destination),
                found.hosts,
                found.tls,
                found.error,
                found.temporary,
                moment(state.not_before) if state is not None and down else None,
                state.last_reply if state is not None else "",
                state.waiting if state is not None else None,
            )
        )

    async def _inside(self, mailbox: Mailbox, road: Road | None) -> Found:
        ways = self._ways
        ours = local_domain(ways.config, mailbox.domain) is not None
        where = ways.places.at(*ways.places.domain(mailbox.domain), "deliver") if ours else ways.places.at("postmaster")
        if road is None:
            self._say("delivery", f"into the mailbox of {ways.directory.owner(mailbox)}", where)
            return Found()
        self._say("delivery", "by LMTP" if road.lmtp else "to the inner server", where)
        return await hosts_by_name(ways.resolver, road.hops)

    def _route(self, mailbox: Mailbox) -> None:
        """Which route takes it, and why none before it does."""
        ways = self._ways
        sender = self._sender.domain if isinstance(self._sender, Mailbox) else None
        chosen = ways.table.choose(mailbox.domain, sender).route
        for route in ways.table.routes:
            if route.name == chosen.name:
                break
            if any(pattern.matches(mailbox.domain) for pattern in route.to):
                senders = f"only mail from {', '.join(str(pattern.domain) for pattern in route.senders)}"
                self._say("route", f"[route.{route.name}] takes {senders}", ways.places.at("route", route.name, "from"))
        if chosen.name == DEFAULT_ROUTE_NAME and not ways.places.written("route", DEFAULT_ROUTE_NAME):
            self._say("route", "no route that is written takes it: [route.default], by MX", "default (implied)")
            return
        written = next((one.to for one in ways.config.routes if one.name == chosen.name), ())
        both = zip(chosen.to, written, strict=True)
        matched = next(str(text) for pattern, text in both if pattern.matches(mailbox.domain))
        key = "to" if ways.places.written("route", chosen.name, "to") else ""
        where = ways.places.at("route", chosen.name, *([key] if key else []))
        senders = " and its sender" if chosen.senders else ""
        self._say("route", f'[route.{chosen.name}] is the first that takes it, by "{matched}"{senders}', where)

    async def _outside(self, mailbox: Mailbox, road: Road | None) -> Found:
        ways = self._ways
        if road is None:
            return Found(error="there is no road to it")
        if road.hops:
            return await hosts_by_name(ways.resolver, road.hops)
        return await hosts_by_mx(ways.resolver, mailbox.domain, road, ways.config)

    # What is found there.

    def _tls_place(self, destination: str) -> str:
        name = route_of(destination)
        return "" if name == "local" else self._ways.places.at("route", name, "tls")

    def _queue(self, destination: str, state: Destination | None) -> None:
        words = f"destination {destination}"
        if state is None:
            self._say("queue", words)
            return
        words += f": {state.waiting} waiting" if state.waiting else ": nothing waits"
        if state.held:
            words += f", {state.held} of them held"
        if state.not_before:
            until = moment(state.not_before).strftime("%Y-%m-%d %H:%M:%S UTC")
            words += f"; down until {until} after {state.failures} failures: {state.last_reply}"
        self._say("queue", words)


def _tls_words(level: str) -> str:
    return {
        "opportunistic": "opportunistic: STARTTLS where offered, the certificate is not looked at, else in clear",
        "require": "require: never in clear, the certificate is not looked at",
        "verify": "verify: never in clear, and the certificate must be right",
        "implicit": "implicit: TLS from the first octet, and the certificate must be right",
        "off": "off: in clear",
    }.get(level, level)
