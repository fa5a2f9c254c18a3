"""`staffetta run`: one relay, until a signal says stop. SIGHUP and the control socket reload it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from staffetta.app.console_port import ConsolePort
from staffetta.app.control_socket import ControlSocket, ControlSocketError
from staffetta.app.privileges import PrivilegeError
from staffetta.app.relay import Relay
from staffetta.app.reload import Reloads
from staffetta.app.sentinel import Sentinel
from staffetta.app.standing import Standing
from staffetta.app.workers.crew import crew_for
from staffetta.config.load import Loaded, Problems, load
from staffetta.net.listener import BindFailed
from staffetta.net.loop import Signals, run
from staffetta.net.notify import Notify
from staffetta.net.tls import CertificateFault
from staffetta.spool.database import StoreError
from staffetta.spool.recovery import AlreadyRunning

NOT_ALLOWED: Final = 5
CANNOT_START: Final = 8

CONTROL_ALARM: Final = "control socket"


def serve(loaded: Loaded, file: Path | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status (0 when it stopped in order). `file` is what a reload reads."""
    path = (file or Path(loaded.file)).absolute()

    def read(files: bool) -> Loaded | Problems:
        return load(path, os.environ, files=files)

    try:
        crew = crew_for(loaded.config)
    except (PrivilegeError, OSError) as error:
        return _cannot_start(error)

    async def main(signals: Signals) -> int:
        relay = Relay(loaded.config, loaded.digest, crew)
        relay.on_failure = signals.ask_to_stop
        console = relay.console = ConsolePort(relay, insist=loaded.written("console", "bind"))
        notify = Notify(os.environ)
        try:
            console.bind()
            await relay.start()
        except (
            BindFailed,
            CertificateFault,
            PrivilegeError,
            AlreadyRunning,
            StoreError,
            OSError,
        ) as error:
            return _cannot_start(error)
        reloads = Reloads(relay, read, notify)
        sentinel = Sentinel(relay)
        reloads.followers.append(sentinel.reloaded)
        await _open_control(relay, Standing(relay, reloads, path), sentinel)
        await console.open(reloads)
        relay.closing += (console.drain, reloads.close, sentinel.close)
        sentinel.begin()
        signals.on_reload = reloads.ask
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
        await console.close()
        return int(relay.failed)

    try:
        return run(main)
    finally:
        if crew is not None:
            crew.nursery.close()


async def _open_control(relay: Relay, *answering: Standing | Sentinel) -> None:
    """Mail flows without it, so a relay whose socket cannot be made runs, and says so."""
    control = ControlSocket(relay.config.data_dir, relay.parts.house.report)
    for one in answering:
        one.register(control)
    try:
        await control.open()
    except ControlSocketError as error:
        text = f"commands cannot ask this relay, SIGHUP still reloads it: {error}"
        relay.parts.alarms.sound(CONTROL_ALARM, text)
        sys.stderr.write(f"staffetta: {text}\n")
    else:
        relay.closing.append(control.close)


def _cannot_start(error: Exception) -> int:
    sys.stderr.write(f"staffetta: cannot start: {error}\n")
    return NOT_ALLOWED if _not_allowed(error) else CANNOT_START


def _not_allowed(error: Exception) -> bool:
    """True when the system forbids it, as it does a port below 1024 to all but root."""
    return any(isinstance(one, PermissionError | PrivilegeError) for one in (error, error.__cause__))
