"""Configurations of tests neither sign nor examine mail unless they speak of `dkim` and `[checks]`: keys take long to
make, examinations ask a DNS that most tests do not play, and most tests know every octet that leaves."""

from __future__ import annotations

import msgspec

from staffetta.config.schema import CheckMode, Checks, Config, DkimMode

OFF = Checks(CheckMode.OFF, CheckMode.OFF, CheckMode.OFF, CheckMode.OFF)


def bare(config: Config, text: str) -> Config:
    """The configuration without signing and examining, as far as its `text` does not say otherwise."""
    if "dkim" not in text:
        domains = tuple(msgspec.structs.replace(one, dkim=DkimMode.OFF) for one in config.domains)
        config = msgspec.structs.replace(config, domains=domains)
    return config if "[checks]" in text else msgspec.structs.replace(config, checks=OFF)
