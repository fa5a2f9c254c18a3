"""What `[checks]` and `dkim` of the configuration mean for those who examine and those who sign."""

from __future__ import annotations

from collections.abc import Callable

from staffetta.config.schema import Config, DkimKey, DkimMode
from staffetta.mailauth.dkim.keystore import KeyStore
from staffetta.mailauth.dkim.signers import OwnKey, Signers


def signers_of(config: Config, clock: Callable[[], float]) -> Signers:
    """Who signs for the domains of a configuration. Reads nothing yet."""
    sources: dict[str, OwnKey | None] = {}
    for one in config.domains:
        if isinstance(one.dkim, DkimKey):
            sources[one.domain.ascii] = OwnKey(one.dkim.selector, one.dkim.key)
        elif one.dkim is DkimMode.AUTO:
            sources[one.domain.ascii] = None
    return Signers(KeyStore(config.data_dir), sources, clock)
