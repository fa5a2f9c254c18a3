"""The users of this machine as senders and recipients: which names are theirs, and where mail for them goes.

`anna` without a domain is `anna@HOSTNAME`. That is no mail domain of ours, so what is for such a name goes to the
account or alias of that name in one of our domains; failing that, mail for a user whom the system knows goes to the
postmaster, so that what cron says about itself is read by somebody.

Who may send as whom. The superuser and the relay's own account could change everything anyway: as anybody. Others may
do what they could do by talking to a `relay` door that trusts loopback, with its `from` and `from_fixed`; where there
is no such door, they send as themselves. So `sendmail` lends nobody a name that the configuration does not, and signs
nothing for them that such a door would not.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from typing import Final

import msgspec

from staffetta.accounts.directory import Directory
from staffetta.config.schema import Config, Listen
from staffetta.config.schema import Role as DoorRole
from staffetta.mail.address import (
    NULL_PATH,
    POSTMASTER,
    AddressError,
    ForwardPath,
    Mailbox,
    ReversePath,
    fold_local_part,
    parse_mailbox,
)
from staffetta.mail.network import NetworkSet
from staffetta.policy.alignment import Rights
from staffetta.policy.door import Door, Role
from staffetta.policy.relay import Place

DOOR_NAME: Final = "local"
"""How this door is called in events."""

NOBODY: Final = "nobody"
_LOOPBACK: Final = ("127.0.0.1", "::1")


class User(msgspec.Struct, frozen=True):
    """A user of the system. `full_name` as the system says it, "" where it says nothing."""

    uid: int
    name: str
    full_name: str = ""

    @property
    def is_master(self) -> bool:
        """The superuser, or the account that the relay runs as."""
        return self.uid in {0, os.geteuid()}


def user_of(uid: int) -> User:
    """Who that is. A number without a name stands for itself."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return User(uid, f"uid{uid}")
    name = entry.pw_name if entry.pw_name.isascii() and entry.pw_name.isprintable() else f"uid{uid}"
    return User(uid, name, entry.pw_gecos.partition(",")[0].replace("&", name.capitalize()))


def is_system_user(name: str) -> bool:
    """True when the system has a user of that name."""
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        return False
    return True


class People:
    """The names of this machine, by one configuration."""

    def __init__(self, config: Config, directory: Directory, known: Callable[[str], bool] = is_system_user) -> None:
        self._config = config
        self._directory = directory
        self._known = known
        self._door = next(filter(_trusts_loopback, config.listeners), None)

    def mailbox(self, text: str) -> Mailbox:
        """The address that the text of an envelope names. Raises AddressError."""
        try:
            return parse_mailbox(text, smtputf8=True)
        except AddressError:
            return parse_mailbox(f"{text}@{self._config.hostname}", smtputf8=True)

    def recipient(self, text: str) -> ForwardPath:
        """Where mail for that name goes. Raises AddressError."""
        return self._home(self.mailbox(text))

    def sender(self, text: str | None, user: User) -> ReversePath:
        """The reverse path: what was asked for, else the user; one that reports reach. Raises AddressError."""
        if text == "":
            return NULL_PATH
        mailbox = self.mailbox(text) if text is not None else self.own(user)
        home = self._home(mailbox)
        return home if isinstance(home, Mailbox) else self._postmaster(mailbox)

    def own(self, user: User) -> Mailbox:
        """The user's name on this machine. Raises AddressError."""
        return Mailbox(parse_mailbox(f"{user.name}@localhost").local_part, self._config.hostname)

    def door(self, user: User) -> Door:
        """The door that this user comes in by."""
        door = self._door
        if door is None:
            return Door(DOOR_NAME, Role.RELAY, auth=False, local=True, any_name=user.is_master)
        senders = frozenset(one.folded() if isinstance(one, Mailbox) else one for one in door.from_)
        senders = frozenset() if user.is_master else senders
        return Door(
            DOOR_NAME,
            Role.RELAY,
            auth=False,
            senders=senders,
            sender_fixed=door.from_fixed,
            local=True,
            any_name=user.is_master,
        )

    def rights(self, user: User) -> Rights | None:
        """The names that a user is held to; None where the door decides alone."""
        if user.is_master or self._door is not None:
            return None
        # Of several domains only the one that this user's mail goes to: the others may belong to somebody else.
        path = self.sender(None, user)
        return Rights(self.own(user).folded(), frozenset({path.folded()} if isinstance(path, Mailbox) else ()))

    def _home(self, mailbox: Mailbox) -> ForwardPath:
        config = self._config
        if mailbox.domain != config.hostname or self._directory.is_local(mailbox.domain):
            return mailbox
        local = fold_local_part(mailbox.local_part)
        for domain in config.domains:
            name = Mailbox(mailbox.local_part, domain.domain)
            if self._directory.resolve(name).place is Place.LOCAL:
                return name
        if (config.domains or config.postmaster) and (local == "postmaster" or self._known(local)):
            return POSTMASTER
        return mailbox

    def _postmaster(self, instead_of: Mailbox) -> Mailbox:
        """An address for the postmaster, who gets the mail of `instead_of`."""
        for domain in self._config.domains:
            return Mailbox("postmaster", domain.domain)
        return self._config.postmaster or instead_of


def _trusts_loopback(listen: Listen) -> bool:
    return listen.role is DoorRole.RELAY and any(map(NetworkSet(listen.trust).contains, _LOOPBACK))
