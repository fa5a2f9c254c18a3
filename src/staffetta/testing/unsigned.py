"""Configurations of tests sign nothing unless they speak of DKIM: keys take long to make, and most tests know every
octet that leaves."""

from __future__ import annotations

import msgspec

from staffetta.config.schema import Config, DkimMode


def unsigned(config: Config, text: str) -> Config:
    """The configuration without signing, if its `text` does not say otherwise."""
    if "dkim" in text:
        return config
    domains = tuple(msgspec.structs.replace(one, dkim=DkimMode.OFF) for one in config.domains)
    return msgspec.structs.replace(config, domains=domains)
