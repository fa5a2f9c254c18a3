"""Who exists in our domains, and where mail for a name of ours goes.

RFC 5321 section 4.5.1 (postmaster), RFC 2142 section 5 (abuse), RFC 5233 (sub-addressing). Local parts of our domains
are compared without regard to ASCII case. An alias that names itself keeps a copy for the account of that name; other
circles are walked once. This module asks whether an account exists; everything else is configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from staffetta.mail.address import ForwardPath, Mailbox, Postmaster, fold_local_part
from staffetta.mail.domain import Domain, Host
from staffetta.policy.alignment import Rights
from staffetta.policy.relay import Place
from staffetta.policy.route import held_key, local_key
from staffetta.policy.srs import looks_rewritten

ALIAS_DEPTH: Final = 16
"""How deep aliases may lead to aliases."""

ALIAS_TARGETS: Final = 1000
"""How many recipients one name may stand for."""

ROLES: Final = frozenset({"postmaster", "abuse"})
"""Local parts that exist in every local domain."""

AliasTarget = str | Mailbox
"""A local part of the same domain, or an address anywhere."""


class LocalDomain(msgspec.Struct, frozen=True):
    """`[domain."D"]` as the directory needs it. `aliases` maps folded local parts.

    `any_recipient`: every local part exists. `separator` empty: no sub-addressing.
    """

    name: Domain
    any_recipient: bool = False
    aliases: dict[str, tuple[AliasTarget, ...]] = {}
    catch_all: str | None = None
    separator: str = "+"


class Target(msgspec.Struct, frozen=True, gc=False):
    """One recipient that a name stands for. `destination` is the key of a local one, "" where a route decides.

    The mailbox of a sub-address keeps its detail; `Directory.owner` says in whose folder it ends.
    """

    mailbox: Mailbox
    destination: str = ""


class Resolution(msgspec.Struct, frozen=True):
    """What became of a name. `targets` is empty unless `place` is LOCAL. `rule` says how it was found.

    `missing` are local names that an alias leads to and nobody has.
    """

    place: Place
    targets: tuple[Target, ...] = ()
    rule: str = ""
    missing: tuple[Mailbox, ...] = ()


RETURNING: Final = "returning_bounce"
"""The rule of a resolution that a rewritten sender of ours led to: it is for bounces, and nothing else."""

OUTSIDE: Final = Resolution(Place.OUTSIDE, (), "outside")
UNKNOWN: Final = Resolution(Place.UNKNOWN, (), "unknown")


class _Walk:
    """What an expansion has met. `begun` are names whose expansion has begun, `done` those that are through."""

    __slots__ = ("begun", "done", "missing", "targets")

    def __init__(self) -> None:
        self.begun: set[Mailbox] = set()
        self.done: set[Mailbox] = set()
        self.targets: dict[Mailbox, Target] = {}
        self.missing: list[Mailbox] = []

    def add(self, mailbox: Mailbox, destination: str) -> None:
        key = mailbox.folded() if destination else mailbox
        if key not in self.targets and len(self.targets) < ALIAS_TARGETS:
            self.targets[key] = Target(mailbox, destination)


class Directory:
    """The names of all local domains. `has_account` is asked with folded mailboxes and must be quick.

    `postmaster` gets what is for a role of a local domain that nobody has; None: a mailbox `postmaster` of that domain
    under the data directory. The first domain answers for `<postmaster>` without a domain; without any domain,
    `hostname` does. `returning` says for whom a bounce to a rewritten sender of ours is (policy/srs), None for others.
    """

    __slots__ = ("_domains", "_has_account", "_hostname", "_keys", "_parents", "_postmaster", "_returning")

    def __init__(
        self,
        domains: Iterable[LocalDomain],
        has_account: Callable[[Mailbox], bool],
        postmaster: Mailbox | None = None,
        hostname: Domain | None = None,
        returning: Callable[[str], Mailbox | None] = lambda local_part: None,
    ) -> None:
        self._returning = returning
        self._domains: dict[Host, LocalDomain] = {domain.name: domain for domain in domains}
        self._keys = {name: local_key(name) for name in self._domains}
        self._has_account = has_account
        self._postmaster = postmaster
        self._hostname = hostname
        self._parents = _parents(self._domains)

    def is_local(self, host: Host) -> bool:
        """True for our own domains."""
        return host in self._domains

    def resolve(self, path: ForwardPath) -> Resolution:
        """Who gets what is sent to `path`."""
        if isinstance(path, Postmaster):
            return self._bare_postmaster()
        domain = self._domains.get(path.domain)
        if domain is None:
            return OUTSIDE
        local = fold_local_part(path.local_part)
        if not domain.aliases and self._has_account(Mailbox(local, domain.name)):
            return Resolution(Place.LOCAL, (Target(path, self._keys[domain.name]),), "account")
        walk = _Walk()
        if looks_rewritten(local) and (sender := self._returning(path.local_part)) is not None:
            self._follow(sender, walk, 0)
            return Resolution(Place.LOCAL, tuple(walk.targets.values()), RETURNING) if walk.targets else UNKNOWN
        rule = self._expand(path, local, domain, walk, 0)
        if not walk.targets:
            return UNKNOWN if not walk.missing else Resolution(Place.UNKNOWN, (), "unknown", tuple(walk.missing))
        return Resolution(Place.LOCAL, tuple(walk.targets.values()), rule, tuple(walk.missing))

    def owner(self, mailbox: Mailbox) -> Mailbox:
        """Whose folder takes what is delivered to this local mailbox: itself, or without its detail. Folded."""
        folded = mailbox.folded()
        domain = self._domains.get(mailbox.domain)
        if domain is None or self._has_account(folded):
            return folded
        base = _base(folded.local_part, domain.separator)
        return folded if base is None else Mailbox(base, folded.domain)

    def rights(self, login: Mailbox, may_send: Iterable[Mailbox | Domain] = ()) -> Rights:
        """What a login may send as: its own name, the aliases that lead to it, and what it was granted."""
        own = login.folded()
        granted = tuple(may_send)
        addresses = _ancestors(own, self._parents)
        local = self._domains.get(own.domain)
        separator = local.separator if local is not None else ""
        if not granted:
            return Rights(own, addresses, frozenset(), separator)
        addresses |= {grant.folded() for grant in granted if isinstance(grant, Mailbox)}
        domains = frozenset([grant for grant in granted if isinstance(grant, Domain)])
        return Rights(own, addresses, domains, separator)

    def _expand(self, path: Mailbox, local: str, domain: LocalDomain, walk: _Walk, depth: int) -> str:
        """Add what `path` stands for to the walk; the rule that found it, "" when nobody has it."""
        key = Mailbox(local, domain.name)
        if key in walk.done:
            return ""
        again = key in walk.begun
        walk.begun.add(key)
        rule = self._find(path, key, domain, walk, depth, again=again)
        if not again:
            walk.done.add(key)
        return rule

    def _find(self, path: Mailbox, key: Mailbox, domain: LocalDomain, walk: _Walk, depth: int, *, again: bool) -> str:
        local = key.local_part
        base = _base(local, domain.separator)
        for name in (local,) if base is None else (local, base):
            if name in domain.aliases and not again:
                # The alias's own name counts as begun, whatever detail it was asked with.
                walk.begun.add(Mailbox(name, domain.name))
                for target in domain.aliases[name]:
                    self._follow(target if isinstance(target, Mailbox) else Mailbox(target, domain.name), walk, depth)
                return "alias"
            if self._has_account(Mailbox(name, domain.name)):
                walk.add(path, self._keys[domain.name])
                return "account"
        if domain.any_recipient:
            walk.add(path, self._keys[domain.name])
            return "any"
        if again:
            return ""  # a circle, and nobody on it by this name
        if local in ROLES:
            return self._expand_role(domain, walk, depth)
        if domain.catch_all is not None and local != fold_local_part(domain.catch_all):
            return self._follow(Mailbox(domain.catch_all, domain.name), walk, depth) and "catch_all"
        if depth:
            walk.missing.append(path)
        return ""

    def _follow(self, mailbox: Mailbox, walk: _Walk, depth: int) -> str:
        domain = self._domains.get(mailbox.domain)
        if domain is None:
            walk.add(mailbox, "")
            return "outside"
        if depth >= ALIAS_DEPTH or len(walk.targets) >= ALIAS_TARGETS:
            return ""
        return self._expand(mailbox, fold_local_part(mailbox.local_part), domain, walk, depth + 1)

    def _expand_role(self, domain: LocalDomain, walk: _Walk, depth: int) -> str:
        """Nobody has this role of the domain: the configured postmaster does, or a mailbox of that name."""
        before = len(walk.targets)
        if self._postmaster is not None:
            self._follow(self._postmaster, walk, depth)
        if len(walk.targets) == before:
            own = Mailbox("postmaster", domain.name)
            self._follow(own, walk, depth)
            if len(walk.targets) == before:
                walk.add(own, held_key(domain.name))
        return "postmaster"

    def _bare_postmaster(self) -> Resolution:
        for name in self._domains:
            return self.resolve(Mailbox("postmaster", name))
        walk = _Walk()
        if self._postmaster is not None:
            walk.add(self._postmaster, "")
        elif self._hostname is not None:
            walk.add(Mailbox("postmaster", self._hostname), held_key(self._hostname))
        return Resolution(Place.LOCAL, tuple(walk.targets.values()), "postmaster") if walk.targets else UNKNOWN


def _base(local: str, separator: str) -> str | None:
    """The local part without its detail; None where it has none."""
    if not separator:
        return None
    base, found, _ = local.partition(separator)
    return base if found and base else None


def _parents(domains: dict[Host, LocalDomain]) -> dict[Mailbox, set[Mailbox]]:
    """For every name that an alias has as its target, with and without its detail: those aliases."""
    parents: dict[Mailbox, set[Mailbox]] = {}
    for domain in domains.values():
        for local, targets in domain.aliases.items():
            alias = Mailbox(local, domain.name)
            for target in targets:
                mailbox = (target if isinstance(target, Mailbox) else Mailbox(target, domain.name)).folded()
                parents.setdefault(mailbox, set()).add(alias)
                home = domains.get(mailbox.domain)
                base = _base(mailbox.local_part, home.separator) if home is not None else None
                if base is not None:
                    parents.setdefault(Mailbox(base, mailbox.domain), set()).add(alias)
    return parents


def _ancestors(name: Mailbox, parents: dict[Mailbox, set[Mailbox]]) -> frozenset[Mailbox]:
    """All aliases that lead to a name, through other aliases too."""
    found: set[Mailbox] = set()
    waiting = [name]
    while waiting:
        for alias in parents.get(waiting.pop(), ()):
            if alias not in found:
                found.add(alias)
                waiting.append(alias)
    return frozenset(found)
