"""`staffetta run`: one relay, until a signal says stop."""

from __future__ import annotations

import asyncio
import os
import sys

from staffetta.app.privileges import PrivilegeError
from staffetta.app.relay import Relay
from staffetta.config.load import Loaded
from staffetta.net.listener import BindFailed
from staffetta.net.loop import Signals, run
from staffetta.net.notify import Notify
from staffetta.net.tls import CertificateFault
from staffetta.spool.database import StoreError
from staffetta.spool.recovery import AlreadyRunning

NOT_ALLOWED = 5
CANNOT_START = 8


def serve(loaded: Loaded) -> int:
    """Run until SIGTERM or SIGINT; the exit status (0 when it stopped in order)."""

    async def main(signals: Signals) -> int:
        relay = Relay(loaded.config)
        notify = Notify(os.environ)
        try:
            await relay.start()
        except (BindFailed, CertificateFault, PrivilegeError, AlreadyRunning, StoreError, OSError) as error:
            sys.stderr.write(f"staffetta: cannot start: {error}\n")
            return NOT_ALLOWED if _not_allowed(error) else CANNOT_START
        notify.ready(f"Serving as {loaded.config.hostname}: {', '.join(relay.addresses()) or 'no doors'}")
        notify.keep_alive(asyncio.get_running_loop())
        await signals.stop.wait()
        notify.stopping(signals.reason)
        stopping = asyncio.create_task(relay.stop(signals.reason))
        hurry = asyncio.create_task(signals.stop_now.wait())
        await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stopping.done():
            return 1
        await stopping
        return 0

    return run(main)


def _not_allowed(error: Exception) -> bool:
    """True when the system forbids it, as it does a port below 1024 to all but root."""
    return any(isinstance(one, PermissionError | PrivilegeError) for one in (error, error.__cause__))
