"""Relays on a virtual clock, with sinks on loopback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from staffetta.delivery import dispatch
from staffetta.testing import clock as virtual
from staffetta.testing.rehearsal import Rehearsal

GRACE_SECONDS = 0.003
"""How long a socket on loopback may really take before virtual time jumps."""

TOML = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[listen.relay]
bind = ["127.0.0.9:{port}"]
role = "relay"
tls = "off"
auth = false
[outbound]
port = {port}
allow = ["127.0.0.0/8", "::1"]
"""

Play = Callable[[Rehearsal], Awaitable[None]]
Names = Mapping[str, Mapping[str, list[str]]]


class Stage:
    """Plays scenarios."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = virtual.VirtualClock()

    def __call__(self, play: Play, names: Names | None = None, toml: str = "", **more: Any) -> None:
        """Run `play` with a relay whose configuration is TOML and `toml`."""

        async def main() -> None:
            whole = more.pop("whole", None) or TOML + toml
            async with Rehearsal(self.folder, whole, names or {}, clock=self.clock, **more) as relay:
                await play(relay)

        virtual.run(main, self.clock, grace_seconds=GRACE_SECONDS)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    # Nobody else can change a store in memory, and every look costs GRACE_SECONDS of real time.
    monkeypatch.setattr(dispatch, "POLL_SECONDS", dispatch.SWEEP_SECONDS)
    return Stage(tmp_path)


def mx(*hosts: str, domain: str = "far.example") -> dict[str, dict[str, list[str]]]:
    """`10 127.0.0.11` and so on: the MX hosts of a domain, by preference and address."""
    names: dict[str, dict[str, list[str]]] = {domain: {"MX": []}}
    for host in hosts:
        preference, address = host.split(" ")
        name = f"mx-{address.replace('.', '-').replace(':', '-')}.{domain}"
        names[domain]["MX"].append(f"{preference} {name}")
        names[name] = {"AAAA" if ":" in address else "A": [address]}
    return names


@pytest.fixture(name="mx")
def _mx() -> Callable[..., dict[str, dict[str, list[str]]]]:
    return mx
