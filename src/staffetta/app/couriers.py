"""Which courier serves which destination."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from staffetta.app.roads import Roads
from staffetta.config.schema import Config
from staffetta.config.schema import Maildir as MaildirSpec
from staffetta.delivery.attempt import NetworkCourier, Tools
from staffetta.delivery.courier import Courier
from staffetta.delivery.transports.mailbox import MailboxCourier, MailboxTools
from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.mailbox.maildir import Maildir, MaildirSettings


class Couriers:
    """Makes couriers for destination keys."""

    def __init__(
        self,
        config: Config,
        roads: Roads,
        tools: Tools,
        owner: Callable[[Mailbox], Mailbox],
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._roads = roads
        self._tools = tools
        self._maildirs: dict[str, Maildir] = {}
        self._counter = itertools.count(1)
        junk = config.checks.junk
        self._mailboxes = MailboxTools(tools.spool, self._maildir, owner, clock, junk_folder=junk)
        self._held = MailboxTools(tools.spool, self._held_maildir, owner, clock, junk_folder=junk)

    def courier(self, destination: str) -> Courier:
        """The courier of a destination."""
        road = self._roads.road(destination)
        if road is not None:
            return NetworkCourier(road, self._tools)
        held = destination.startswith("held:")
        return MailboxCourier(self._held if held else self._mailboxes, destination)

    def _maildir(self, owner: Mailbox) -> Maildir:
        """The Maildirs of the owner's domain: under `data_dir/mail/D`, or where `deliver` says."""
        if isinstance(owner.domain, Domain):
            domain = self._roads.maildir_of(owner.domain)
            if domain is not None and isinstance(domain.deliver, MaildirSpec) and domain.deliver.path is not None:
                return self._at(domain.deliver.path)
        return self._held_maildir(owner)

    def _held_maildir(self, owner: Mailbox) -> Maildir:
        return self._at(self._config.data_dir / "mail" / str(owner.domain))

    def _at(self, root: Path) -> Maildir:
        maildir = self._maildirs.get(str(root))
        if maildir is None:
            settings = MaildirSettings(root, self._config.hostname.ascii)
            maildir = self._maildirs[str(root)] = Maildir(settings, os.getpid(), self._counter)
        return maildir
