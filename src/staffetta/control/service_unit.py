"""Units for systemd, made for one configuration: service, sockets, and the account to serve as. Pure text.

The service is told by the relay itself when it is ready, reloading, stopping and alive (`net/notify`), is never root,
and may write nothing but what the configuration says has to survive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from staffetta.config.schema import Config, Maildir
from staffetta.control.place import SERVICE_ACCOUNT, drop_of
from staffetta.net.endpoint import Bind

STATE_DIRECTORY: Final = Path("/var/lib/staffetta")
"""What `StateDirectory=` makes and gives to the account."""

_PRIVILEGED: Final = 1024
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))

_SANDBOX: Final = """\
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
RestrictNamespaces=yes"""
"""What only the system's own service manager can take away."""

_PROCESS: Final = """\
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM"""
"""What any service manager can."""


class Unit(msgspec.Struct, frozen=True, gc=False):
    """One file: its path below the root of the system, or of a home, and its text."""

    path: str
    text: str


class Service(msgspec.Struct, frozen=True):
    """What the units depend on. `command` starts the program; `paths` is what it reads: program, file, certificate."""

    config: Config
    file: Path
    command: tuple[str, ...]
    paths: tuple[Path, ...]
    sockets: bool = False
    of_user: bool = False

    @property
    def account(self) -> str:
        """Who serves."""
        return self.config.user or SERVICE_ACCOUNT

    def binds(self) -> list[Bind]:
        """Every address of a door."""
        return [where for door in self.config.listeners for where in door.bind]


def units(service: Service) -> list[Unit]:
    """Every file to install."""
    if service.of_user:
        return [Unit(".config/systemd/user/staffetta.service", _text(_service(service)))]
    found = [Unit("etc/systemd/system/staffetta.service", _text(_service(service)))]
    if service.sockets:
        found.append(Unit("etc/systemd/system/staffetta.socket", _text(_socket(service.binds()))))
    account = f'u {service.account} - "Staffetta mail relay" {STATE_DIRECTORY}\n'
    return [*found, Unit("etc/sysusers.d/staffetta.conf", account)]


def writable(config: Config) -> list[Path]:
    """The folders, besides the state directory and its drop directory, that the relay writes to."""
    wanted = [config.data_dir, drop_of(config.data_dir)]
    wanted += [d.deliver.path for d in config.domains if isinstance(d.deliver, Maildir) and d.deliver.path is not None]
    made = (STATE_DIRECTORY, drop_of(STATE_DIRECTORY))
    return sorted({path for path in wanted if not any(map(path.is_relative_to, made))})


def word(text: str) -> str:
    """A word of a command or path as a unit has it: no specifier, no variable, no blank is left to be understood."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(c in " \t'\"\\;" for c in text) else escaped


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _service(service: Service) -> Iterator[str]:
    command = " ".join(map(word, service.command))
    file = word(str(service.file))
    yield "# Written by: staffetta service install. Changes of yours belong into: systemctl edit staffetta"
    yield "[Unit]"
    yield "Description=Staffetta mail relay"
    yield "Documentation=man:staffetta(1)"
    if not service.of_user:
        yield "Wants=network-online.target"
        yield "After=network-online.target nss-lookup.target"
    if service.sockets:
        yield "Requires=staffetta.socket"
        yield "After=staffetta.socket"
    yield "# A port may be free again in a moment; a file that is wrong stays wrong, and then somebody has to look."
    yield "StartLimitIntervalSec=600"
    yield "StartLimitBurst=20"
    yield ""
    yield "[Service]"
    yield "# The relay says itself when it is ready; a loop that hangs gives no sign of life and is started anew."
    yield "Type=notify"
    yield "NotifyAccess=main"
    yield f"ExecStart={command} run -c {file}"
    yield f"ExecReload={command} reload -c {file}"
    yield "WatchdogSec=30"
    yield "TimeoutStartSec=120"
    yield "# Longer than sessions and deliveries may take to come to their end."
    yield "TimeoutStopSec=60"
    yield "Restart=on-failure"
    yield "RestartSec=5"
    yield "LimitNOFILE=65536"
    yield ""
    if not service.of_user:
        yield from _confined(service)
    yield _PROCESS
    yield ""
    yield "[Install]"
    yield f"WantedBy={'default' if service.of_user else 'multi-user'}.target"
    if service.sockets:
        yield "Also=staffetta.socket"


def _confined(service: Service) -> Iterator[str]:
    """The account and what it may reach."""
    yield f"User={service.account}"
    yield f"Group={service.account}"
    if service.config.data_dir.is_relative_to(STATE_DIRECTORY):
        yield f"StateDirectory={STATE_DIRECTORY.name} {drop_of(STATE_DIRECTORY).name}"
        yield "StateDirectoryMode=0700"
    for path in writable(service.config):
        yield f"ReadWritePaths={word(str(path))}"
    low = any(where.port < _PRIVILEGED for where in service.binds()) and not service.sockets
    if low:
        yield "# Ports below 1024, and nothing else of root."
        yield "AmbientCapabilities=CAP_NET_BIND_SERVICE"
        yield "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"
    else:
        # Not PrivateUsers: the owner of a file that sendmail left is who sends it, and would be nobody.
        yield "CapabilityBoundingSet="
    used = [*service.paths, *writable(service.config)]
    if any(path.is_relative_to(home) for path in used for home in _HOMES):
        yield "# Program or files are in a home. Better places are /opt, /etc/staffetta and /var/lib/staffetta."
        yield "ProtectHome=read-only"
    else:
        yield "ProtectHome=yes"
    yield _SANDBOX


def _socket(binds: Sequence[Bind]) -> Iterator[str]:
    yield "# Written by: staffetta service install --sockets. Anew when a bind changes: each socket is a door's."
    yield "[Unit]"
    yield "Description=Doors of Staffetta"
    yield ""
    yield "[Socket]"
    yield "# Mail that comes while the relay starts anew waits here, and the relay needs no right to low ports."
    for where in binds:
        yield from (f"ListenStream={place}" for place in _places(where))
    yield "BindIPv6Only=both"
    yield "Backlog=1024"
    yield "NoDelay=yes"
    yield ""
    yield "[Install]"
    yield "WantedBy=sockets.target"


def _places(where: Bind) -> list[str]:
    if where.path:
        return [where.path]
    if where.host == "localhost":
        return [f"127.0.0.1:{where.port}", f"[::1]:{where.port}"]
    return [str(where.port) if where.host == "*" else str(where)]
