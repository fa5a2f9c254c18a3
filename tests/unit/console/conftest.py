"""Configurations as they would be loaded, without files behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from staffetta.config.load import Loaded, load
from staffetta.config.schema import Config

HEAD = """\
version = 1
hostname = "mail.example.org"
[tls]
certificate = "mail.pem"
key = "mail.key"
"""

Configured = Callable[[str], Config]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """The configuration that a text makes."""

    def make(text: str) -> Config:
        file = tmp_path / "staffetta.toml"
        file.write_text(HEAD + text)
        loaded = load(file, {}, files=False)
        assert isinstance(loaded, Loaded), loaded
        return loaded.config

    return make
