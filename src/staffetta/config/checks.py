"""What each key alone cannot tell: contradictions between keys, and what the file names outside itself."""

from __future__ import annotations

from itertools import pairwise

from staffetta.config.check_doors import check_doors
from staffetta.config.check_files import check_files
from staffetta.config.check_routes import check_routes
from staffetta.config.positions import Path
from staffetta.config.reader import Reader, header, label
from staffetta.config.schema import CheckMode, Config, LocalDomain, Recipients, Role
from staffetta.config.values import fold_local_part, quoted
from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain, Host

_Node = tuple[Host, str]

_SMALLEST_SIZE = 64 * 1024
_FEWEST_RECIPIENTS = 100


def check(reader: Reader, config: Config, now: float | None) -> None:
    """Report every contradiction. `now` is for certificates, in seconds since the epoch; None: no file is looked at."""
    check_doors(reader, config)
    check_routes(reader, config)
    _hostname(reader, config)
    for domain in config.domains:
        _domain(reader, config, domain)
    _alias_loops(reader, config)
    _queue(reader, config)
    _limits(reader, config)
    _mail_checks(reader, config)
    if now is not None:
        check_files(reader, config, now)


def _hostname(reader: Reader, config: Config) -> None:
    name = config.hostname
    if not reader.sound("hostname"):
        return
    if "." not in name.ascii:
        whose = "hostname" if reader.written("hostname") else "hostname is not written, and the machine's name"
        message = f"{whose} {quoted(name.ascii)} has no domain: many servers refuse such a name"
        reader.report("C230", ("hostname",), message, 'write hostname = "mail.example.org"')
    for domain in config.domains:
        if domain.domain == name:
            path = reader.domain_path(domain.domain)
            message = (
                f"hostname is also the local domain {header(path)}: if another server sends its mail here, it loops"
            )
            reader.report("C210", ("hostname",), message, f'usual is hostname = "mail.{name}"')


def _domain(reader: Reader, config: Config, domain: LocalDomain) -> None:
    path = reader.domain_path(domain.domain)
    if domain.discover is not None:
        _discover(reader, config, (*path, "discover"))
    if domain.catch_all is not None and domain.recipients is Recipients.ANY:
        message = f"{label((*path, 'catch_all'))} has no effect: every local part exists"
        reader.report("C219", (*path, "catch_all"), message, 'recipients = "any" takes them all')


def _discover(reader: Reader, config: Config, path: Path) -> None:
    if config.console.bind is None and reader.sound("console", "bind"):
        message = f"{label(path)} has no effect: [console] bind is off, and its port is who tells"
        reader.report("C219", path, message, "write an address in [console] bind")
    elif reader.sound("listen") and not any(door.auth for door in config.listeners):
        message = f"{label(path)} has no effect: no door takes logins, so no server for sending can be named"
        reader.report("C219", path, message, 'write a door with role = "submission"')


def _alias_loops(reader: Reader, config: Config) -> None:
    arrows: dict[_Node, list[_Node]] = {}
    for domain in config.domains:
        for alias, targets in domain.aliases:
            arrows[domain.domain, alias] = [_node(domain.domain, target) for target in targets]
    seen: set[_Node] = set()
    for start in arrows:
        trail = _way_back(arrows, start)
        if trail and not seen & set(trail) and isinstance(start[0], Domain):
            seen |= set(trail)
            words = " to ".join(f"{local}@{domain}" for domain, local in [*trail, start])
            path = (*reader.domain_path(start[0]), "aliases", start[1])
            reader.report("C217", path, f"an alias loop: {words}", "name a mailbox outside the loop")


def _node(domain: Domain, target: str | Mailbox) -> _Node:
    if isinstance(target, Mailbox):
        return target.domain, fold_local_part(target.local_part)
    return domain, target


def _way_back(arrows: dict[_Node, list[_Node]], start: _Node) -> list[_Node]:
    """The aliases on a way from `start` back to it; empty for none. An alias that names itself is no loop."""
    came_from: dict[_Node, _Node] = {}
    todo = [start]
    while todo:
        node = todo.pop()
        for target in arrows.get(node, []):
            if target == start and node != start:
                trail = [node]
                while trail[-1] != start:
                    trail.append(came_from[trail[-1]])
                return trail[::-1]
            if target not in came_from and target != node and target in arrows:
                came_from[target] = node
                todo.append(target)
    return []


def _queue(reader: Reader, config: Config) -> None:
    queue = config.queue
    waits = queue.retry_seconds
    retry = ("queue", "retry")
    for number, (earlier, later) in enumerate(pairwise(waits), 1):
        if later < earlier:
            message = "[queue] retry: a wait is shorter than the one before it"
            reader.report("C220", (*retry, number), message, "waits between attempts usually grow")
    if waits[0] >= queue.lifetime_seconds and reader.sound(*retry) and reader.sound("queue", "lifetime"):
        path = retry if reader.written(*retry) else ("queue", "lifetime")
        reader.report("C221", path, "[queue]: a message expires before its second attempt", "lengthen lifetime")
    elif waits[-1] >= queue.lifetime_seconds and reader.written(*retry):
        message = "[queue] retry: the last wait is longer than lifetime, so it never ends"
        reader.report("C220", (*retry, len(waits) - 1), message, "shorten it")
    if queue.bounce_lifetime_seconds > queue.lifetime_seconds and reader.written("queue", "bounce_lifetime"):
        message = "[queue] bounce_lifetime is longer than lifetime: notifications would outlive the mail"
        reader.report("C221", ("queue", "bounce_lifetime"), message, "shorten it")
    notice = queue.delay_notice_seconds
    if notice is not None and notice >= queue.lifetime_seconds and reader.written("queue", "delay_notice"):
        message = "[queue] delay_notice comes after lifetime, so it is never sent"
        reader.report("C221", ("queue", "delay_notice"), message, 'shorten it, or write "off"')
    if config.journal.keep_seconds < queue.lifetime_seconds and reader.written("journal", "keep"):
        message = "[journal] keep is shorter than [queue] lifetime: a message would outlive its own record"
        reader.report("C221", ("journal", "keep"), message, "lengthen it")


def _limits(reader: Reader, config: Config) -> None:
    limits = config.limits
    if limits.message_size < _SMALLEST_SIZE:
        message = "[limits] message_size is under 64KiB, which every server must take"
        reader.report("C222", ("limits", "message_size"), message, 'write at least "64KiB"')
    if limits.recipients < _FEWEST_RECIPIENTS:
        message = "[limits] recipients is under 100, which every server must take"
        reader.report("C222", ("limits", "recipients"), message, "write at least 100")
    if limits.connections_per_client > limits.connections and reader.written("limits", "connections_per_client"):
        message = "[limits] connections_per_client is above connections, so it limits nothing"
        reader.report("C219", ("limits", "connections_per_client"), message, f"at most {limits.connections}")


def _mail_checks(reader: Reader, config: Config) -> None:
    checks = config.checks
    off = CheckMode.OFF
    if checks.dmarc is CheckMode.ENFORCE and checks.spf is off and checks.dkim is off:
        path = ("checks", "dmarc") if reader.written("checks", "dmarc") else ("checks", "spf")
        message = "[checks] dmarc has nothing to rest on: spf and dkim are off, so every message fails it"
        reader.report("C227", path, message, 'write "record" for spf or dkim')
    if checks.arc_seal and checks.arc is off:
        message = "[checks] arc_seal has no effect: chains that nobody looks at are not sealed"
        reader.report("C219", ("checks", "arc_seal"), message, 'write arc = "record"')
    no_mx = reader.sound("listen") and all(door.role is not Role.MX for door in config.listeners)
    if reader.written("checks") and no_mx:
        message = "[checks] has no effect: no door has the role mx"
        reader.report("C219", ("checks",), message, at="line")
