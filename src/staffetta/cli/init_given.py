"""What `init` takes on the command line and from the environment, and how each of it is judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec

from staffetta.cli.asking import option_judge, options_judge
from staffetta.config.environment import FILE_VARIABLE, variable_of
from staffetta.config.kinds import unseen_character
from staffetta.config.schema import Hop, HopTls
from staffetta.config.values import (
    Wrong,
    parse_address,
    parse_bind_of,
    parse_domain_name,
    parse_hop,
    parse_network_of,
)
from staffetta.control.init_file import PRIVILEGED_PORTS


def host_of(text: str) -> str:
    """A smarthost, as it is written."""
    host, port = parse_hop(text)
    return host if port is None else str(Hop(host, port))


def host_or_none(text: str) -> str:
    """The same; nothing for `mx`, which is none."""
    return "" if text in {"", "mx"} else host_of(text)


def login_of(text: str) -> str:
    """A login."""
    if unseen_character(text) or text != text.strip():
        raise Wrong("there are blanks around it, or characters that nobody sees", "write it without them")
    return text


def networks_of(text: str) -> str:
    """Networks, separated by blanks."""
    names = [name for name in text.replace(",", " ").split(" ") if name]
    return " ".join(str(parse_network_of(name)) for name in names)


def _door(text: str) -> str:
    name, equals, where = text.partition("=")
    if not equals or name not in PRIVILEGED_PORTS:
        raise Wrong(f"{text!r} is not DOOR=HOST:PORT or DOOR=off", f"doors are {', '.join(PRIVILEGED_PORTS)}")
    return text if where == "off" else f"{name}={parse_bind_of(where)}"


def optional(judge: Callable[[str], str]) -> Callable[[str], str]:
    """The same judge, for what may be left out."""
    return lambda text: judge(text) if text else ""


def domain_name(text: str) -> str:
    """A domain, as DNS has it."""
    return parse_domain_name(text).ascii


def mailbox(text: str) -> str:
    """A full address."""
    return str(parse_address(text))


_LEVELS: Final = click.Choice([level.value for level in HopTls])

_WHO: Final = (
    click.option("--hostname", envvar=variable_of(("hostname",)), callback=option_judge(domain_name), help="Our name."),
    click.option(
        "--postmaster", envvar=variable_of(("postmaster",)), callback=option_judge(mailbox), help="Gets complaints."
    ),
)
_SMARTHOST: Final = (
    click.option(
        "--login",
        envvar=variable_of(("route", "default", "login")),
        callback=option_judge(login_of),
        help="Name at the smarthost.",
    ),
    click.option("--password-file", metavar="FILE", help="The smarthost's password; the file is named, not copied."),
    click.option("--password-stdin", is_flag=True, help="Read the password: one line of standard input."),
    click.option("--tls", type=_LEVELS, help="TLS to the smarthost; verified for a name if left out."),
    click.option("--ca", metavar="FILE", help="Authority of the smarthost's certificate."),
)
_DOORS: Final = (
    click.option("--certificate", metavar="FILE", envvar=variable_of(("tls", "certificate")), help="With --key."),
    click.option("--key", metavar="FILE", envvar=variable_of(("tls", "key")), help="Else one for trying is made."),
    click.option(
        "--listen",
        metavar="DOOR=HOST:PORT",
        multiple=True,
        callback=options_judge(_door),
        help="Where a door listens (relay, mx, submission, submissions), or DOOR=off.",
    ),
    click.option("--unprivileged", is_flag=True, help="Ports above 1024, data beside the file: try it without root."),
)
_FILES: Final = (
    click.option("--data-dir", envvar=variable_of(("data_dir",)), metavar="PATH", help="What must survive."),
    click.option(
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        envvar=FILE_VARIABLE,
        default="staffetta.toml",
        show_default=True,
        help="What is written; keys and passwords go beside it.",
    ),
    click.option("--force", is_flag=True, help="Replace what is there."),
    click.option("--no-input", is_flag=True, help="Ask nothing; say what is missing."),
)


def init_options(function: Callable[..., None]) -> Callable[..., None]:
    """What both shapes take. A variable of the environment that stands for the key answers too."""
    for option in reversed((*_WHO, *_SMARTHOST, *_DOORS, *_FILES)):
        function = option(function)
    return function


class Given(msgspec.Struct, frozen=True):
    """What the command line and the environment say."""

    hostname: str | None
    postmaster: str | None
    login: str | None
    password_file: str | None
    password_stdin: bool
    tls: str | None
    ca: str | None
    certificate: str | None
    key: str | None
    listen: tuple[str, ...]
    unprivileged: bool
    data_dir: str | None
    output: Path
    force: bool
    no_input: bool

    def as_written(self, path: str) -> str:
        """A path of the command line as the file names it: relative when it is below the file's folder."""
        folder, absolute = self.output.absolute().parent, Path(path).absolute()
        below = absolute.is_relative_to(folder) and absolute != folder
        return str(absolute.relative_to(folder)) if below else str(absolute)
