"""The first configuration file: what was asked for, written as TOML with a word on each part. Pure; writes nothing.

The two shapes that most people want: everything to a smarthost, and mail of a domain of their own. The budget is 16
lines that are no comment for the first, 30 for the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from staffetta.config.toml import toml_string, toml_text

LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
"""Always trusted by a relay door: programs of this machine."""

PRIVILEGED_PORTS: Final = {"relay": (25, 587), "mx": (25,), "submission": (587,), "submissions": (465,)}
HIGH_PORTS: Final = {"relay": (2525, 2587), "mx": (2525,), "submission": (2587,), "submissions": (2465,)}
"""The same doors for who may not bind ports below 1024."""

_ABOUT: Final = {
    "relay": "Who is inside `trust` may send anywhere, anybody else after login: staffetta account add ADDRESS",
    "mx": "Other servers bring mail for the domain below, and nothing else.",
    "submission": "Mail programs log in here and may send anywhere, as themselves. TLS begins with STARTTLS,",
    "submissions": "and here with the first octet.",
}


class Door(msgspec.Struct, frozen=True, gc=False):
    """One door: its name, which says what it is, and where it listens, as TOML has it."""

    name: str
    bind: tuple[str, ...]

    @property
    def role(self) -> str:
        """Its role."""
        return "submission" if self.name == "submissions" else self.name


class Upstream(msgspec.Struct, frozen=True, gc=False):
    """A smarthost. `password` is `file:PATH` or `env:NAME`, never the secret; empty for no login."""

    via: str
    login: str = ""
    password: str = ""
    tls: str = ""
    ca: str = ""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """Everything that stands in the file. Paths are as they are to be written; `domain` empty: none is local."""

    command: str
    hostname: str
    certificate: str
    key: str
    doors: tuple[Door, ...]
    self_signed: bool = True
    data_dir: str = ""
    postmaster: str = ""
    trust: tuple[str, ...] = ()
    domain: str = ""
    upstream: Upstream | None = None


def default_doors(*, domain: bool, unprivileged: bool) -> tuple[Door, ...]:
    """The doors of the two shapes."""
    ports = HIGH_PORTS if unprivileged else PRIVILEGED_PORTS
    names = ("mx", "submission", "submissions") if domain else ("relay",)
    return tuple(Door(name, tuple(f"*:{port}" for port in ports[name])) for name in names)


def render_file(plan: Plan) -> str:
    """The text of the file."""
    return "\n".join(_lines(plan)) + "\n"


def lines_of_settings(text: str) -> int:
    """How many lines are neither empty nor comments."""
    return sum(1 for line in text.split("\n") if line.strip() and not line.startswith("#"))


def _lines(plan: Plan) -> Iterator[str]:
    yield f"# Written by: {plan.command}"
    yield "# Every key: staffetta config show. Is it right? staffetta config check. Paths are relative to this file."
    yield "version = 1"
    yield from _pair("The name in greetings; its address is this machine.", "hostname", plan.hostname)
    if plan.data_dir:
        yield from _pair("Everything that must survive: queue, accounts, keys, mailboxes.", "data_dir", plan.data_dir)
    if plan.postmaster:
        yield from _pair("Gets mail for postmaster and abuse.", "postmaster", plan.postmaster)
    yield ""
    if plan.self_signed:
        yield "# Made for trying and signed by itself: nobody who verifies will believe it. Put the paths of a real"
        yield "# certificate here before others connect. It is read again when it changes."
    yield "[tls]"
    yield f"certificate = {toml_string(plan.certificate)}"
    yield f"key = {toml_string(plan.key)}"
    for door in plan.doors:
        yield from _door(door, plan.trust)
    if plan.domain:
        yield from _domain(plan.domain)
    if plan.upstream is not None:
        yield from _route(plan.upstream)


def _pair(about: str, key: str, value: str) -> Iterator[str]:
    yield f"# {about}"
    yield f"{key} = {toml_string(value)}"


def _door(door: Door, trust: Iterable[str]) -> Iterator[str]:
    yield ""
    yield f"# {_ABOUT[door.name]}"
    yield f"[listen.{door.name}]"
    yield f"bind = {toml_text(door.bind)}"
    yield f"role = {toml_string(door.role)}"
    if door.name == "submissions":
        yield 'tls = "implicit"'
    if door.role == "relay":
        yield f"trust = {toml_text([*LOOPBACK, *trust])}"


def _domain(domain: str) -> Iterator[str]:
    yield ""
    yield "# Mail for its accounts and aliases goes to Maildirs in data_dir/mail; other recipients are refused at once."
    yield f"[domain.{toml_string(domain)}]"
    yield 'deliver = "maildir"'


def _route(upstream: Upstream) -> Iterator[str]:
    yield ""
    yield "# All mail for others goes to this server."
    yield "[route.default]"
    yield f"via = {toml_string(upstream.via)}"
    if upstream.tls:
        yield f"tls = {toml_string(upstream.tls)}"
    if upstream.ca:
        yield f"ca = {toml_string(upstream.ca)}"
    if upstream.login:
        yield f"login = {toml_string(upstream.login)}"
        yield f"password = {toml_string(upstream.password)}"
