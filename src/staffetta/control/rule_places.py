"""From the rule that decided, as events name it, to the place in the file where it can be changed."""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.config.schema import Config, LocalDomain
from staffetta.control.places import Places
from staffetta.mail.address import ForwardPath, Mailbox, fold_local_part
from staffetta.mail.domain import Host

ACCOUNTS: Final = "accounts"
"""The place of what the store of accounts decides; `staffetta account list` shows it."""

_DOOR_KEYS: Final = {
    "mx": "role",
    "login": "auth",
    "login_required": "role",
    "relaying_denied": "role",
    "trusted_network": "trust",
    "client_not_trusted": "trust",
    "trust_withdrawn": "trust",
    "sender_not_at_this_door": "from",
    "door_sender_list": "from",
    "door_without_sender_list": "from",
    "from_fixed": "from_fixed",
    "header_unclear": "role",
    "bare_line_ending": "role",
    "nul": "role",
    "proxy_header": "proxy_protocol",
    "auth_mechanism": "auth",
}
_LIMITS: Final = {
    "message_size": "message_size",
    "too_big": "message_size",
    "recipients": "recipients",
    "too_many_hops": "hops",
    "commands_per_session": "commands_per_session",
    "connections": "connections",
    "connections_per_client": "connections_per_client",
    "login_failures_network": "login_failures",
    "login_failures_account": "login_failures",
}
_CHECKS: Final = ("spf", "dkim", "dmarc", "arc", "reverse", "helo", "domain_blocklist", "blocklist")
_OF_ACCOUNTS: Final = frozenset({"own_name", "sender_not_owned", "header_not_owned", "accounts", "login_put_off"})
_OF_RECIPIENTS: Final = frozenset({"unknown_recipient", "local_recipient"})


class Subject(msgspec.Struct, frozen=True, gc=False):
    """Whom a rule judged: at which door, about which path, found how (`found`: the rule of the directory)."""

    door: str
    path: ForwardPath | None = None
    found: str = ""


def place_of_rule(config: Config, places: Places, rule: str, subject: Subject) -> str:
    """`staffetta.toml:12`, `default`, ACCOUNTS; "" for a rule of the protocol, which no key changes."""
    if rule in _OF_RECIPIENTS:
        return place_of_name(config, places, subject)
    if rule == "local_sender_from_outside" and isinstance(subject.path, Mailbox):
        return places.at(*places.domain(subject.path.domain))
    if rule in _OF_ACCOUNTS:
        return ACCOUNTS
    if rule in _DOOR_KEYS:
        return places.at("listen", subject.door, _DOOR_KEYS[rule])
    if rule in _LIMITS:
        return places.at("limits", _LIMITS[rule])
    for check in _CHECKS:
        if rule == check or rule.startswith(f"{check}_"):
            return places.at("checks", check)
    return ""


def place_of_name(config: Config, places: Places, subject: Subject) -> str:
    """Where it stands that a name of ours exists, or does not."""
    path = subject.path
    if subject.found == "postmaster" or not isinstance(path, Mailbox):
        return places.at("postmaster")
    domain = local_domain(config, path.domain)
    if domain is None:
        return ""
    table = places.domain(domain.domain)
    if subject.found == "alias" and (name := alias_name(domain, path)):
        return places.alias(domain.domain, name)
    if subject.found == "account":
        return ACCOUNTS
    key = {"catch_all": "catch_all", "any": "recipients"}.get(subject.found)
    return places.at(*table, key) if key else places.at(*table)


def alias_name(domain: LocalDomain, mailbox: Mailbox) -> str:
    """The alias that takes a mailbox, by its whole local part or without its detail; "" when none does."""
    local = fold_local_part(mailbox.local_part)
    names = {fold_local_part(name) for name, _ in domain.aliases}
    base = local.partition(domain.separator)[0] if domain.separator else local
    return next((name for name in (local, base) if name in names), "")


def local_domain(config: Config, host: Host) -> LocalDomain | None:
    """The `[domain."D"]` of a host; None for somebody else's."""
    return next((domain for domain in config.domains if domain.domain == host), None)
