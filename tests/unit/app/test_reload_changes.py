"""What a reload finds changed, which doors it keeps, and how it names what is wrong."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from staffetta.app import open_doors
from staffetta.app.doors import doors_of
from staffetta.app.open_doors import OpenDoor, Opening, bind_added
from staffetta.app.reload import Changes, compare, reason_of
from staffetta.config.load import Problems, load
from staffetta.config.problems import Level, Problem
from staffetta.config.schema import Config
from staffetta.net.listener import BindFailed, bind

TOML = """\
version = 1
hostname = "relay.example"
data_dir = "data"
user = "mail"
postmaster = "ops@relay.example"
[tls]
certificate = "a.pem"
key = "a.key"
[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"
tls = "off"
[listen.relay]
bind = ["127.0.0.1:0"]
role = "relay"
tls = "off"
auth = false
[domain."a.example"]
[route.one]
to = ["one.example"]
via = "192.0.2.1"
[route.two]
to = ["two.example"]
via = "192.0.2.2"
"""


def config(folder: Path, *changes: tuple[str, str], more: str = "") -> Config:
    text = TOML
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    file = folder / "staffetta.toml"
    file.write_text(text + more)
    found = load(file, {}, files=False)
    assert not isinstance(found, Problems), found
    return found.config


ONE = '[route.one]\nto = ["one.example"]\nvia = "192.0.2.1"\n'
TWO = '[route.two]\nto = ["two.example"]\nvia = "192.0.2.2"\n'


@pytest.mark.parametrize(
    ("change", "more", "names", "rebuilt"),
    [
        (("version", "version"), "", [], ()),
        (("relay.example", "mx.example"), "", ["hostname"], ()),
        (('"data"', '"data2"'), "", ["data_dir"], ("restart",)),
        (('"mail"', '"post"'), "", ["user"], ("restart",)),
        (("ops@", "root@"), "", ["postmaster"], ()),
        (("a.pem", "b.pem"), "", ["tls"], ("certificate",)),
        (("a.example", "b.example"), "", ["domain.a.example", "domain.b.example"], ()),
        (('[domain."a.example"]', '[domain."a.example"]\nrecipients = "any"'), "", ["domain.a.example"], ()),
        (("192.0.2.1", "192.0.2.9"), "", ["route.one"], ()),
        ((ONE, ""), "", ["route.one"], ()),
        ((ONE + TWO, TWO + ONE), "", ["order of routes"], ()),
        (("[listen.mx]", "[listen.door]"), "", ["listen.mx", "listen.door"], ()),
        (('role = "mx"', 'role = "relay"\nauth = false'), "", ["listen.mx"], ()),
        (("version", "version"), "[outbound]\nport = 26\n", ["outbound"], ()),
        (("version", "version"), '[queue]\nretry = ["9m"]\n', ["queue"], ()),
        (("version", "version"), "[limits]\nhops = 40\n", ["limits"], ()),
        (("version", "version"), '[checks]\ndmarc = "off"\n', ["checks"], ()),
        (("version", "version"), '[dns]\nservers = ["192.0.2.53"]\n', ["dns"], ("resolver",)),
        (("version", "version"), '[console]\nbind = "off"\n', ["console"], ()),
        (("version", "version"), '[log]\nlevel = "warning"\n', ["log"], ("log",)),
        (("version", "version"), '[journal]\nkeep = "9d"\n', ["journal"], ()),
        (("192.0.2.1", "192.0.2.9"), '[log]\nformat = "text"\n', ["log", "route.one"], ("log",)),
    ],
)
def test_what_changed_says_what_is_made_anew(
    tmp_path: Path, change: tuple[str, str], more: str, names: list[str], rebuilt: tuple[str, ...]
) -> None:
    new = config(tmp_path, change, more=more)
    found = compare(config(tmp_path), new)
    restart = tuple(names) if "restart" in rebuilt else ()
    flags = {name: name in rebuilt for name in ("certificate", "resolver", "log")}
    assert found == Changes(tuple(names), restart, **flags)


def test_every_key_of_the_file_is_compared(tmp_path: Path) -> None:
    """A table that somebody adds to the schema must not be forgotten by a reload."""
    old = config(tmp_path)
    missed = []
    for name in Config.__struct_fields__:
        marked: Any = replace(old, **{name: () if isinstance(getattr(old, name), tuple) else object()})
        if not compare(old, marked).names:
            missed.append(name)
    assert not missed


def openings(found: Config) -> list[Opening]:
    tables = {listen.name: listen for listen in found.listeners}
    return [Opening(where, tables[door.name], door) for where, door in doors_of(found, None)]


class House:
    """As much of a house as doors need while nobody comes."""

    def __init__(self) -> None:
        self.sessions: set[Any] = set()


def opened(found: Config) -> list[OpenDoor]:
    house: Any = House()
    return [OpenDoor(opening, [], house) for opening in openings(found)]


@pytest.mark.parametrize(
    ("change", "kept", "added", "gone"),
    [
        (("version", "version"), ["mx", "relay"], [], []),
        (("[listen.mx]", "[listen.fresh]"), ["relay"], ["fresh"], ["mx"]),
        (('role = "mx"', 'role = "relay"'), ["mx", "relay"], [], []),
        (('["127.0.0.1:0"]\nrole = "mx"', '["127.0.0.1:2525"]\nrole = "mx"'), ["relay"], ["mx"], ["mx"]),
        (('["127.0.0.1:0"]\nrole = "mx"', '["127.0.0.1:0", "[::1]:0"]\nrole = "mx"'), ["mx", "relay"], ["mx"], []),
    ],
)
def test_doors_are_kept_by_name_and_address(
    tmp_path: Path, change: tuple[str, str], kept: list[str], added: list[str], gone: list[str]
) -> None:
    found = open_doors.compare(opened(config(tmp_path)), openings(config(tmp_path, change)))
    assert [opening.settings.name for _, opening in found.kept] == kept
    assert [opening.settings.name for opening in found.added] == added
    assert [door.name for door in found.gone] == gone


def test_a_door_with_another_name_keeps_its_socket(tmp_path: Path) -> None:
    fixed = ('["127.0.0.1:0"]\nrole = "mx"', '["127.0.0.1:2525"]\nrole = "mx"')
    doors = opened(config(tmp_path, fixed))
    found = open_doors.compare(doors, openings(config(tmp_path, fixed, ("[listen.mx]", "[listen.fresh]"))))
    assert [(door, opening.settings.name) for door, opening in found.kept] == [(doors[0], "fresh"), (doors[1], "relay")]
    assert not found.added
    assert not found.gone


def test_when_one_door_cannot_be_bound_none_is(tmp_path: Path) -> None:
    house: Any = House()

    async def main() -> None:
        with socket.socket() as taken, socket.socket() as free:
            for probe in (taken, free):
                probe.bind(("127.0.0.1", 0))
            taken.listen()
            ports = [probe.getsockname()[1] for probe in (free, taken)]
            free.close()
            bindings = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
            wanted = openings(config(tmp_path, ('["127.0.0.1:0"]\nrole = "mx"', f'[{bindings}]\nrole = "mx"')))
            change = open_doors.compare(opened(config(tmp_path)), wanted)
            with pytest.raises(BindFailed, match=f"{ports[1]}: another program"):
                bind_added(change, house, bind)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", ports[0]))  # free again

    asyncio.run(main())


def test_a_door_of_our_own_in_the_way_is_named(tmp_path: Path) -> None:
    house: Any = House()

    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            before = config(tmp_path, ('["127.0.0.1:0"]\nrole = "mx"', f'["127.0.0.1:{port}"]\nrole = "mx"'))
            after = config(tmp_path, ('["127.0.0.1:0"]\nrole = "mx"', f'["*:{port}"]\nrole = "mx"'))
            change = open_doors.compare(opened(before), openings(after))
            with pytest.raises(BindFailed, match=f"own door mx at 127.0.0.1:{port} is in the way; restart"):
                bind_added(change, house, bind)

    asyncio.run(main())


def problem(line: int, level: Level = Level.ERROR) -> Problem:
    return Problem(f"C{line}", level, "a.toml", line, 1, 1, f"mistake {line}")


@pytest.mark.parametrize(
    ("problems", "words"),
    [
        ([problem(1)], "a.toml:1 C1 mistake 1"),
        ([problem(1, Level.WARNING), problem(2)], "a.toml:2 C2 mistake 2"),
        (
            [problem(n) for n in range(1, 6)],
            "a.toml:1 C1 mistake 1; a.toml:2 C2 mistake 2; a.toml:3 C3 mistake 3; and 2 more",
        ),
        ([replace(problem(1), line=0)], "a.toml C1 mistake 1"),
    ],
)
def test_a_refusal_names_place_code_and_mistake(problems: list[Problem], words: str) -> None:
    assert reason_of(problems) == words
