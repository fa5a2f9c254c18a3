"""`init`: write the first file, so that there is something that works before anything is read or understood."""

from __future__ import annotations

import datetime
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from staffetta.cli import exits
from staffetta.cli.asking import Asking, option_judge, options_judge
from staffetta.cli.init_given import (
    Given,
    domain_name,
    host_of,
    host_or_none,
    init_options,
    login_of,
    mailbox,
    networks_of,
    optional,
)
from staffetta.cli.output import Stop, line, on_terminal, record, safe, say
from staffetta.config.environment import variable_of
from staffetta.config.schema import IMPLICIT_TLS_PORT, Hop, HopTls
from staffetta.config.values import Wrong, parse_hop
from staffetta.control.init_file import (
    Door,
    Plan,
    Upstream,
    default_doors,
    lines_of_settings,
    render_file,
)
from staffetta.control.init_write import CannotWrite, Exists, FirstFile, Refused, write_all

if TYPE_CHECKING:
    from staffetta.config.load import Loaded
    from staffetta.config.schema import Config

PASSWORD_VARIABLE: Final = variable_of(("route", "default", "password"))
PASSWORD_NAME: Final = "smarthost.password"  # noqa: S105 - the name of a file
CERTIFICATE_NAME: Final = "self-signed.pem"
KEY_NAME: Final = "self-signed.key"
_LINE_OCTETS: Final = 16 * 1024
_MESSAGE_PORT: Final = 587
_HIGH: Final = 1024


@click.group()
def init() -> None:
    """Write a working file: for a smarthost, or for a domain of your own."""


@init.command()
@click.argument("host", metavar="HOST[:PORT]", callback=option_judge(host_of))
@click.option(
    "--trust", metavar="NETWORK", multiple=True, callback=options_judge(networks_of), help="May send without login."
)
@init_options
def smarthost(host: str, trust: tuple[str, ...], **options: Any) -> None:
    """Send everything through HOST: for an office, its printers, its programs."""
    given = Given(**options)
    asking = Asking(no_input=given.no_input)
    hostname = _hostname(asking, given, _machine_name())
    networks = asking.text(
        " ".join(trust) if trust else None,
        "Networks that may send without login, such as 192.168.1.0/24 (none)",
        networks_of,
    )
    upstream, password = _upstream(asking, given, host, f"Login at {host} (none)")
    postmaster = asking.text(given.postmaster, "Address for complaints and failures (none)", optional(mailbox))
    plan = _plan(asking, given, f"staffetta init smarthost {host}", hostname)
    plan = msgspec.structs.replace(plan, trust=tuple(networks.split()), postmaster=postmaster, upstream=upstream)
    _write(asking, given, plan, password)
    steps = [("check upstream default", "can we log in there?"), _serve(plan)]
    _next(given, [*steps, ("send --to YOU@EXAMPLE.ORG --wait", "does it arrive?")])


@init.command()
@click.argument("domain", metavar="D", callback=option_judge(domain_name))
@click.option(
    "--smarthost",
    metavar="HOST[:PORT]",
    envvar=variable_of(("route", "default", "via")),
    callback=option_judge(host_or_none),
    help="For mail going out; else by MX.",
)
@init_options
def domain(domain: str, smarthost: str | None, **options: Any) -> None:
    """Receive and send mail of your own domain D."""
    given = Given(**options)
    asking = Asking(no_input=given.no_input)
    hostname = _hostname(asking, given, f"mail.{domain}")
    postmaster = asking.text(given.postmaster, "Address for complaints (a mailbox of its own)", optional(mailbox))
    via = asking.text(smarthost, "Smarthost for mail going out (none: to each domain's own servers)", host_or_none)
    if not via and (given.login or given.password_file or given.password_stdin or given.tls or given.ca):
        raise Stop("--login, --password-file, --password-stdin, --tls and --ca are for a --smarthost", exits.USAGE)
    upstream, password = _upstream(asking, given, via, f"Login at {via} (none)") if via else (None, None)
    plan = _plan(asking, given, f"staffetta init domain {domain}", hostname, domain)
    plan = msgspec.structs.replace(plan, postmaster=postmaster, upstream=upstream)
    _print_records(plan, _dkim_records(_write(asking, given, plan, password).config))
    steps = [(f"account add YOU@{domain}", "a mailbox and a login"), _serve(plan)]
    _next(given, [*steps, (f"check domain {domain}", "when the records are published")])


def _machine_name() -> str:
    """The machine's name when it may stand in a greeting; else empty."""
    name = socket.gethostname().rstrip(".")
    try:
        return domain_name(name) if "." in name else ""
    except Wrong:
        return ""


def _hostname(asking: Asking, given: Given, default: str) -> str:
    words = f"--hostname NAME or {variable_of(('hostname',))}: this machine's own name has no domain"
    return asking.text(given.hostname, "Name of this machine in mail", domain_name, default, flag=words)


def _plan(asking: Asking, given: Given, command: str, hostname: str, domain: str = "") -> Plan:
    """What does not depend on the shape: paths, doors and the certificate."""
    if bool(given.certificate) != bool(given.key):
        raise Stop("--certificate and --key go together; without both, a pair for trying is made", exits.USAGE)
    unprivileged = given.unprivileged or (
        os.geteuid() != 0
        and not given.listen
        and asking.yes("Ports above 1024, so that it runs without root", otherwise=False)
    )
    return Plan(
        command=command,
        hostname=hostname,
        certificate=given.as_written(given.certificate) if given.certificate else CERTIFICATE_NAME,
        key=given.as_written(given.key) if given.key else KEY_NAME,
        self_signed=not given.certificate,
        doors=_doors(asking, given, domain=bool(domain), unprivileged=unprivileged),
        data_dir=given.as_written(given.data_dir) if given.data_dir else "data" if unprivileged else "",
        domain=domain,
    )


def _doors(asking: Asking, given: Given, *, domain: bool, unprivileged: bool) -> tuple[Door, ...]:
    known = {door.name: door for door in default_doors(domain=domain, unprivileged=unprivileged)}
    if domain and not given.listen:
        if not asking.yes("Do other servers bring mail to this machine", otherwise=True):
            known.pop("mx")
        if not asking.yes("Do mail programs send through this machine", otherwise=True):
            known = {name: door for name, door in known.items() if name == "mx"}
    said: dict[str, list[str]] = {}
    for text in given.listen:
        name, _, where = text.partition("=")
        if name not in known:
            raise Stop(f"--listen: there is no door {name} here, but {', '.join(known)}", exits.USAGE)
        said.setdefault(name, []).append(where)
    for name, places in said.items():
        known[name] = Door(name, tuple(places))
    doors = tuple(door for door in known.values() if "off" not in door.bind)
    if not doors:
        raise Stop("no door is left: nothing could come in", exits.USAGE)
    return doors


def _upstream(asking: Asking, given: Given, host: str, question: str) -> tuple[Upstream, bytes | None]:
    """The smarthost, and its password when that has to be written into a file of ours."""
    login = asking.text(given.login, question, optional(login_of))
    if not login and (given.password_file or given.password_stdin):
        raise Stop("a password without --login logs in nowhere", exits.USAGE)
    reference, password = _password(asking, given, host) if login else ("", None)
    name, port = parse_hop(host)
    if port is None:
        port = IMPLICIT_TLS_PORT if given.tls == HopTls.IMPLICIT else _MESSAGE_PORT if login else 25
    ca = given.as_written(given.ca) if given.ca else ""
    return Upstream(str(Hop(name, port)), login, reference, given.tls or "", ca), password


def _password(asking: Asking, given: Given, host: str) -> tuple[str, bytes | None]:
    if given.password_file:
        return f"file:{given.as_written(given.password_file)}", None
    if given.password_stdin:
        password = sys.stdin.buffer.readline(_LINE_OCTETS).removesuffix(b"\n").removesuffix(b"\r")
        if not password:
            raise Stop("there is no password on standard input", exits.USAGE)
        return f"file:{PASSWORD_NAME}", password + b"\n"
    if os.environ.get(PASSWORD_VARIABLE):
        return f"env:{PASSWORD_VARIABLE}", None
    if file := os.environ.get(f"{PASSWORD_VARIABLE}_FILE"):
        return f"file:{file}", None
    if asking.enabled:
        return f"file:{PASSWORD_NAME}", asking.secret(f"Password at {host}").encode() + b"\n"
    asking.miss(
        f"--password-file FILE or --password-stdin, or the variable {PASSWORD_VARIABLE} or {PASSWORD_VARIABLE}_FILE"
    )
    return "", None


def _write(asking: Asking, given: Given, plan: Plan, password: bytes | None) -> Loaded:
    """Write all files, or say why not; what was written, as it loads."""
    from staffetta.config.problems import render  # noqa: PLC0415

    asking.finish()
    folder = given.output.parent
    others = [] if password is None else [FirstFile(folder / PASSWORD_NAME, password, secret=True)]
    if plan.self_signed:
        from staffetta.control.init_certificate import self_signed  # noqa: PLC0415

        pair = self_signed(plan.hostname, datetime.datetime.now(datetime.UTC))
        others.append(FirstFile(folder / KEY_NAME, pair.key, secret=True))
        others.append(FirstFile(folder / CERTIFICATE_NAME, pair.certificate))
    text = render_file(plan)
    try:
        loaded = write_all(FirstFile(given.output, text.encode()), others, os.environ, force=given.force)
    except Exists as error:
        raise Stop(f"nothing was written: there is already {error}; --force replaces it", exits.PROBLEM) from error
    except CannotWrite as error:
        raise Stop(str(error), exits.NOT_ALLOWED) from error
    except Refused as error:
        say(render(error.problems, "Nothing was written."))
        click.get_current_context().exit(exits.CONFIGURATION)
    if loaded.warnings:
        say(render(loaded.warnings))
    say(f"Wrote {safe(str(given.output))} ({lines_of_settings(text)} lines of settings), and it is right.")
    for one in others:
        say(f"Wrote {safe(str(one.path))}" + (", readable by its owner only." if one.secret else "."))
    return loaded


def _dkim_records(config: Config) -> list[tuple[str, str]]:
    """Owner and text of the records of the domain's keys, which are made now; none where that is not possible yet."""
    from staffetta.control import dkim  # noqa: PLC0415
    from staffetta.control.place import NotAllowed, NothingThere  # noqa: PLC0415
    from staffetta.mailauth.dkim.keystore import KeysUnusable  # noqa: PLC0415

    try:
        keys = dkim.held_keys(config, config.domains[0], time.time())
    except (NotAllowed, NothingThere, KeysUnusable) as error:
        say(f"No signing keys yet ({safe(str(error))}): staffetta dkim publish makes them and says their records.")
        return []
    say(f"Made keys in {safe(str(config.data_dir))}, with which outgoing mail is signed.")
    return [dkim.record_of(held.key) for held in keys]


def _print_records(plan: Plan, keys: list[tuple[str, str]]) -> None:
    from staffetta.control.init_records import records  # noqa: PLC0415

    found = records(plan, keys)
    if not on_terminal():
        for one in found:
            record((one.name, one.type, one.value, one.why))
        return
    line(f"\nPublish these records in the DNS of {plan.domain}:\n")
    names, types = (max(len(text) for text in texts) for texts in zip(*((r.name, r.type) for r in found), strict=True))
    for one in found:  # a value is copied whole, so the terminal may break it and we may not
        line(safe(f"  {one.name:<{names}}  {one.type:<{types}}  {one.value}"))
        line(safe(f"      {one.why}"))


def _serve(plan: Plan) -> tuple[str, str]:
    low = any(int(where.rpartition(":")[2]) < _HIGH for door in plan.doors for where in door.bind)
    return "run", "as root: it has ports below 1024" if low and os.geteuid() != 0 else "serve"


def _next(given: Given, steps: list[tuple[str, str]]) -> None:
    file = "" if given.output == Path("staffetta.toml") else f" -c {safe(str(given.output))}"
    commands = [f"staffetta {words}{file}" for words, _ in steps]
    width = max(map(len, commands))
    say("\nNext:")
    for command, (_, why) in zip(commands, steps, strict=True):
        say(f"  {command:<{width}}  {why}")
