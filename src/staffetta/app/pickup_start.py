"""The pickup of a running relay: its directory, its journal, and when it begins and ends."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from staffetta.app.pickup_watch import Pickup
from staffetta.control.place import drop_of
from staffetta.spool.database import open_reader
from staffetta.spool.recovery import STORE_NAME
from staffetta.spool.sqlite_journal import rows_of_session

if TYPE_CHECKING:
    from staffetta.app.relay import Relay

_ACCEPTED = b'"event":"accept"'


def watch_drop(relay: Relay, fault: str) -> None:
    """Take what programs on this machine leave, until the relay stops; with a `fault` of the directory, say so."""
    data_dir = relay.config.data_dir
    pickup = Pickup(
        drop_of(data_dir),
        lambda: relay.config,
        lambda: relay.parts.house,
        lambda identity: was_taken(data_dir / STORE_NAME, identity),
    )
    fault = fault or pickup.start()
    if fault:
        sys.stderr.write(f"staffetta: sendmail on this machine cannot leave mail: {fault}\n")
    else:
        relay.closing.append(pickup.stop)


def was_taken(store: Path, session: str) -> bool:
    """Whether the journal knows a message that came by a session of that name. Raises StoreError, apsw.Error."""
    with contextlib.closing(open_reader(store)) as connection:
        return any(_ACCEPTED in entry.lines for _, entry in rows_of_session(connection, session))
