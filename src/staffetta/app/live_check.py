"""`config check --live`: what a file alone cannot tell. Ports, the DNS, the way to each next hop, and the disk.

Reported to the reader of the file, so that everything comes in one run, in the order of the file, with its line.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from staffetta.app.upstream import road_by, route_named, upstream_tools
from staffetta.app.wiring import World, live_world
from staffetta.config.reader import Reader, label
from staffetta.config.schema import Config, Role
from staffetta.control.channel import NotReachable, Ping, Pong, RequestFailed, ask
from staffetta.control.check_upstream import Errand, UpstreamStep, check_upstream, default_sender
from staffetta.control.place import NotAllowed
from staffetta.control.ports import check_ports
from staffetta.control.status import Disk, disk_of, is_nearly_full
from staffetta.dns.mx import find_addresses
from staffetta.dns.resolver import Unavailable
from staffetta.spool.recovery import relay_alive

STEP_SECONDS: Final = 5.0
"""How long one step with a next hop may take."""

_AT: Final = {"auth": "login", "tls": "tls"}
"""The key that a failed step is shown at; else `via`."""


def check_live(reader: Reader, config: Config) -> None:
    """Report what is wrong around the file now. Takes seconds where others do not answer."""
    check_ports(reader, config, ours=_ours(config.data_dir))
    folder = next((one for one in (config.data_dir, *config.data_dir.parents) if one.is_dir()), None)
    with contextlib.suppress(OSError):
        if folder is not None:
            check_disk(reader, disk_of(folder, 0))
    asyncio.run(_outside(reader, config))


def check_before_start(reader: Reader, config: Config) -> None:
    """What `run` looks at before it starts: the ports only, so that a machine without a network serves.

    Not where sockets were handed over (sd_listen_fds(3)), and not where a relay runs on the same directory: that there
    is one is said better by whoever finds its lock.
    """
    if not reader.environ.get("LISTEN_FDS") and not relay_alive(config.data_dir):
        check_ports(reader, config, strict=False)


def _ours(data_dir: Path) -> frozenset[int]:
    """The ports of the relay that runs on this directory."""
    try:
        listeners = ask(data_dir, Ping(), Pong).listeners
    except (NotReachable, RequestFailed, NotAllowed):
        return frozenset()
    ports = (text.rpartition(":")[2] for text in listeners)
    return frozenset(int(port) for port in ports if port.isascii() and port.isdigit())


def check_disk(reader: Reader, disk: Disk) -> None:
    """Report a disk of data_dir that is nearly full."""
    if is_nearly_full(disk):
        message = f"the disk of data_dir has {disk.free >> 20} MiB of {disk.total >> 20} MiB left"
        reader.report("C409", ("data_dir",), message, "make room, or name another disk")


async def _outside(reader: Reader, config: Config) -> None:
    world = live_world(config)
    try:
        names = [route.name for route in config.routes if route.via]
        await asyncio.gather(_hostname(reader, config, world), *(_route(reader, config, world, one) for one in names))
    finally:
        await world.close()


async def _hostname(reader: Reader, config: Config, world: World) -> None:
    if "." not in config.hostname.ascii or not reader.sound("hostname"):
        return
    found = await find_addresses(world.resolver, config.hostname.ascii)
    if isinstance(found, Unavailable):
        message = f"no answer about {config.hostname.ascii}: {found.reason}"
        reader.report("C405", ("dns", "servers"), message, "is the network up? [dns] servers names resolvers")
    elif not found and any(listen.role is Role.MX for listen in config.listeners):
        message = f"{config.hostname.ascii} has no address in the DNS"
        reader.report("C406", ("hostname",), message, "publish A or AAAA records for it")


async def _route(reader: Reader, config: Config, world: World, name: str) -> None:
    route = route_named(config, name)
    road = None if route is None else road_by(config, route, None)
    if road is None or any(path[:2] == ("route", name) for path in reader.broken):
        return  # what the file says wrongly needs no trial
    errand = Errand(default_sender(road, config.hostname.ascii))
    tools = upstream_tools(config, world, step_seconds=STEP_SECONDS)
    steps = [step async for step in check_upstream(road, tools, errand)]
    if not steps[-1].ok:
        _say(reader, name, steps)


def _say(reader: Reader, name: str, steps: Sequence[UpstreamStep]) -> None:
    """The last step that failed, at the key it is about."""
    failed = [step for step in steps if not step.ok]
    worst = failed[-2] if len(failed) > 1 else failed[-1]
    path = ("route", name, _AT.get(worst.stage, "via"))
    if not reader.written(*path):
        path = ("route", name, "via")
    message = f"{label(path)}: {worst.host} fails at {worst.stage}: {worst.text}"
    reader.report("C408" if steps[-1].permanent else "C407", path, message, worst.advice)
