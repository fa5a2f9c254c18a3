"""`service`: hand the relay to the service manager of the system."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, find_file, load_or_exit
from staffetta.cli.output import Stop, raw, safe, say

if TYPE_CHECKING:
    from staffetta.config.load import Loaded
    from staffetta.control.service_unit import Service, Unit


@click.group()
@config_option
def service(config: Path | None) -> None:
    """Hand the relay to systemd."""


@service.command()
@click.option("--print", "only_print", is_flag=True, help="Write nothing, print the units.")
@click.option("--user", "of_user", is_flag=True, help="A unit of yours, without root: ports above 1024 only.")
@click.option("--sockets", is_flag=True, help="Let systemd hold the ports: a restart refuses nobody.")
@click.option("--prefix", metavar="DIR", type=click.Path(path_type=Path), help="Another root, for packages and images.")
@click.option("--force", is_flag=True, help="Replace units that were changed.")
@config_option
def install(
    *, only_print: bool, of_user: bool, sockets: bool, prefix: Path | None, force: bool, config: Path | None
) -> None:
    """Write a sandboxed unit for this configuration, and say how to start it. Starts nothing itself."""
    from staffetta.control.service_unit import units  # noqa: PLC0415

    loaded = load_or_exit(config)
    found = find_file(config)
    if found is None:
        raise Stop("there is no configuration", exits.CONFIGURATION)
    if of_user and sockets:
        raise Stop("--sockets is for the system's service manager, not for --user", exits.USAGE)
    wanted = _service(loaded, found.absolute(), sockets=sockets, of_user=of_user)
    _judge(wanted)
    made = units(wanted)
    if only_print:
        for unit in made:
            raw(f"# /{unit.path}\n{unit.text}\n".encode() if len(made) > 1 else unit.text.encode())
        return
    root = prefix or (Path.home() if of_user else Path("/"))
    _write(made, root, force=force)
    if prefix is None:
        _next(wanted)


def _service(loaded: Loaded, file: Path, *, sockets: bool, of_user: bool) -> Service:
    from staffetta.control.service_unit import Service  # noqa: PLC0415

    config = loaded.config
    beside = Path(sys.executable).parent / "staffetta"
    command = (str(beside),) if os.access(beside, os.X_OK) else (sys.executable, "-m", "staffetta")
    paths = [Path(sys.prefix), file]
    if config.tls is not None:
        paths += [config.tls.certificate, config.tls.key]
    for route in config.routes:
        if route.ca is not None:
            paths.append(route.ca)
        if route.password is not None and route.password.origin.startswith("file:"):
            paths.append(file.parent / route.password.origin.removeprefix("file:"))
    return Service(config, file, command, tuple(paths), sockets, of_user)


def _judge(wanted: Service) -> None:
    """Raises Stop for what could not work."""
    binds = wanted.binds()
    if wanted.of_user and any(0 < where.port < 1024 for where in binds):
        raise Stop("a unit of a user cannot have ports below 1024: use others, or leave --user out", exits.USAGE)
    if wanted.sockets and any(where.port == 0 and not where.path for where in binds):
        raise Stop("--sockets: a door with port 0 has no address that a socket unit could name", exits.USAGE)


def _write(made: list[Unit], root: Path, *, force: bool) -> None:
    changed = [path for unit in made if _differs(path := root / unit.path, unit.text)]
    if changed and not force:
        there = ", ".join(map(str, changed))
        raise Stop(f"nothing was written: {there} is there and says something else; --force replaces it", exits.PROBLEM)
    try:
        for unit in made:
            path = root / unit.path
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.new")
            draft.write_text(unit.text, encoding="utf-8")
            draft.chmod(0o644)
            draft.replace(path)
            say(f"Wrote {safe(str(path))}")
    except OSError as error:
        raise Stop(f"cannot write {error.filename}: {error.strerror}", exits.NOT_ALLOWED) from error


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8", errors="replace") != text
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _next(wanted: Service) -> None:
    """The commands that are left to do, for a person to read first."""
    from staffetta.control.service_unit import writable  # noqa: PLC0415

    say("\nNext:")
    if wanted.of_user:
        say("  systemctl --user daemon-reload && systemctl --user enable --now staffetta")
        say("  loginctl enable-linger    so that it runs while you are not logged in")
        return
    say("  systemd-sysusers")
    closed = [shlex.quote(str(path)) for path in wanted.paths[1:] if _closed(path, wanted.account)]
    account = shlex.quote(wanted.account)
    if closed:
        say(f"  chgrp {account} {' '.join(closed)} && chmod g+r,o= {' '.join(closed)}")
    for path in writable(wanted.config):
        say(f"  install -d -o {account} -g {account} -m 700 {shlex.quote(str(path))}")
    say("  systemctl daemon-reload && systemctl enable --now staffetta")
    say("\nHow it is: systemctl status staffetta. Its log: journalctl -u staffetta")
    shut = sorted({str(folder) for path in wanted.paths for folder in path.parents if _shut(folder)})
    if shut:
        say(f"The account {wanted.account} cannot pass through {safe(', '.join(shut))}: move what is in there.")


def _closed(path: Path, account: str) -> bool:
    """True for a file that the account will not be able to read: neither everybody nor its group may."""
    try:
        status = path.stat()
        group = pwd.getpwnam(account).pw_gid if os.geteuid() == 0 else -1
    except KeyError:
        group = -1
    except OSError:
        return False
    return not status.st_mode & stat.S_IROTH and not (status.st_mode & stat.S_IRGRP and status.st_gid == group)


def _shut(folder: Path) -> bool:
    try:
        return not folder.stat().st_mode & stat.S_IXOTH
    except OSError:
        return False
