"""The local domains of the configuration as the directory knows them, and what an account may send as."""

from __future__ import annotations

from collections.abc import Callable

from staffetta.accounts.directory import Directory, LocalDomain
from staffetta.config.schema import Config, Recipients
from staffetta.mail.address import Mailbox, fold_local_part


def build_directory(
    config: Config,
    has_account: Callable[[Mailbox], bool],
    returning: Callable[[str], Mailbox | None] = lambda local_part: None,
) -> Directory:
    """Who exists, by this configuration and the store."""
    domains = [
        LocalDomain(
            domain.domain,
            domain.recipients is Recipients.ANY,
            {fold_local_part(local): targets for local, targets in domain.aliases},
            domain.catch_all,
            domain.separator,
        )
        for domain in config.domains
    ]
    return Directory(domains, has_account, config.postmaster, config.hostname, returning)
