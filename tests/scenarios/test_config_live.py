"""`config check --live` and the start of `run`: what the file alone cannot tell, in one run with what it can."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from staffetta.app.live_check import check_disk
from staffetta.cli.main import cli
from staffetta.config.codes import CODES
from staffetta.config.positions import positions
from staffetta.config.reader import Reader
from staffetta.control.status import Disk
from staffetta.testing.daemon import Daemon
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Fault, Kind, Script
from staffetta.testing.zone import ZoneServer

HEAD = 'version = 1\nhostname = "mx.example.org"\ndata_dir = "data"\n[console]\nbind = "off"\n'


def write(folder: Path, text: str) -> Path:
    file = folder / "staffetta.toml"
    file.write_text(text)
    file.chmod(0o600)
    return file


def check(file: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["config", "check", "--live", "-c", str(file), *words])


def codes(result: Result) -> list[str]:
    return re.findall(r"  (C\d{3})  ", result.stdout)


@contextmanager
def taken(count: int = 1) -> Iterator[list[int]]:
    """Ports at which this process listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
            one.listen()
        yield [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def with_dns(folder: Path, text: str, names: dict[str, dict[str, list[str]]], words: tuple[str, ...] = ()) -> Result:
    """The check while a name server on loopback answers."""

    async def main() -> Result:
        async with ZoneServer(names) as dns:
            more = f'[dns]\nservers = ["127.0.0.1:{dns.port}"]\n'
            return await asyncio.to_thread(check, write(folder, text + more), *words)

    return asyncio.run(main())


KNOWN = {"mx.example.org": {"A": ["127.0.0.1"]}}


def door(name: str, *ports: int, role: str = "relay") -> str:
    listed = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    return f'[listen.{name}]\nbind = [{listed}]\nrole = "{role}"\ntls = "off"\nauth = false\n'


def test_all_ports_in_use_are_told_at_once_with_the_other_mistakes(tmp_path: Path) -> None:
    with taken(3) as ports:
        text = (
            HEAD.replace('"off"', f'"127.0.0.1:{ports[2]}"')
            + door("a", ports[0])
            + door("b", 0, ports[1])
            + "rol = 1\n"
        )
        result = with_dns(tmp_path, text, KNOWN)
    assert result.exit_code == 8
    assert codes(result) == ["C401", "C401", "C401", "C103"]
    lines = result.stdout.split("\n")
    place = next(place for place, line in enumerate(lines) if "[listen.b] bind" in line)
    assert lines[place].startswith(f"staffetta.toml:12  C401  [listen.b] bind: 127.0.0.1:{ports[1]}: another program")
    assert lines[place].endswith(f"(process {os.getpid()})")
    assert lines[place + 2][lines[place + 1].index(f'"127.0.0.1:{ports[1]}"')] == "^"


def test_run_tells_them_all_before_it_starts(tmp_path: Path) -> None:
    with taken(2) as ports:
        file = write(tmp_path, HEAD + door("a", ports[0]) + door("b", ports[1]))
        words = [sys.executable, "-m", "staffetta", "run", "-c", str(file)]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 8
    assert done.stderr.count("  C401  ") == 2
    assert done.stdout == ""


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    result = with_dns(tmp_path, HEAD + door("a", 0).replace("127.0.0.1:0", "192.0.2.1:2525"), KNOWN)
    assert (result.exit_code, codes(result)) == (8, ["C402"])


def test_a_console_nobody_asked_for_is_no_reason_not_to_start(tmp_path: Path) -> None:
    text = HEAD.replace('[console]\nbind = "off"\n', "") + door("a", 0)
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", 8080))
            sock.listen()
        except OSError:  # then somebody else has it
            pass
        result = with_dns(tmp_path, text, KNOWN)
    assert (result.exit_code, codes(result)) == (1, ["C404"])


def test_a_port_below_1024_is_not_tried_by_those_who_may_not(tmp_path: Path) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if not lowest:
        pytest.skip("everybody may have every port of this machine")
    file = write(tmp_path, HEAD + door("a", lowest - 1))
    program = """\
import encodings.idna, os, sys  # what cannot be read any more when we are somebody else
from pathlib import Path
from staffetta.config.load import load
from staffetta.control.ports import check_ports

def beyond(reader, config):
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for strict in (False, True):
        check_ports(reader, config, strict=strict)
        print([problem.code for problem in reader.problems])

load(Path(sys.argv[1]), {}, files=False, beyond=beyond)
"""
    words = [sys.executable, "-c", program, str(file)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False, text=True)
    assert done.stdout == "[]\n['C403']\n", done.stderr


def test_no_answer_from_the_dns_is_not_a_missing_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    text = HEAD + door("a", 0) + f'[dns]\nservers = ["127.0.0.1:{port}"]\ntimeout = "1s"\n'
    result = check(write(tmp_path, text))
    assert (result.exit_code, codes(result)) == (1, ["C405"])


def test_a_hostname_without_an_address_counts_for_an_mx_door(tmp_path: Path) -> None:
    text = HEAD + '[domain."example.org"]\n'
    there = with_dns(tmp_path, text + door("a", 0, role="mx"), {"other.example": {"A": ["127.0.0.1"]}})
    assert (there.exit_code, codes(there)) == (1, ["C406"])
    relay = with_dns(tmp_path, text + door("a", 0), {"other.example": {"A": ["127.0.0.1"]}})
    assert (relay.exit_code, "C406" in relay.stdout) == (0, False)


def route(port: int, *lines: str) -> str:
    return f'[route.office]\nvia = "127.0.0.1:{port}"\ntls = "off"\n' + "".join(f"{line}\n" for line in lines)


def test_a_next_hop_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    result = with_dns(tmp_path, HEAD + door("a", 0) + route(port), KNOWN, ("--json",))
    said = [json.loads(line) for line in result.stdout.split("\n") if line]
    assert result.exit_code == 1
    assert [(one["code"], one["level"]) for one in said] == [("C407", "warning")]
    assert f"127.0.0.1:{port}: connection refused" in said[0]["message"]
    assert said[0]["line"] == 12


def with_sink(folder: Path, script: Script, more: tuple[str, ...] = ()) -> Result:
    async def main() -> Result:
        async with ZoneServer(KNOWN) as dns, Sink(script) as sink:
            text = HEAD + door("a", 0) + route(sink.port, *more) + f'[dns]\nservers = ["127.0.0.1:{dns.port}"]\n'
            result = await asyncio.to_thread(check, write(folder, text))
            assert not sink.messages
            return result

    return asyncio.run(main())


def test_all_is_well(tmp_path: Path) -> None:
    result = with_sink(tmp_path, Script())
    assert (result.exit_code, codes(result)) == (0, [])
    assert "all it names can be reached" in result.stdout


def test_a_next_hop_that_refuses_for_good(tmp_path: Path) -> None:
    result = with_sink(tmp_path, Script(faults=(Fault("mail", Kind.REPLY, b"550 5.7.1 not you\r\n"),)))
    assert (result.exit_code, codes(result)) == (8, ["C408"])
    assert "[route.office] via: 127.0.0.1 fails at mail: 550 5.7.1 not you" in result.stdout


def test_our_own_running_relay_is_not_another_program(tmp_path: Path) -> None:
    with taken() as ports:
        pass

    async def main() -> Result:
        async with Daemon(tmp_path, door("a", ports[0]), {}), ZoneServer(KNOWN) as dns:
            file = tmp_path / "staffetta.toml"
            text = file.read_text() + f'[dns]\nservers = ["127.0.0.1:{dns.port}"]\n'
            return await asyncio.to_thread(check, write(tmp_path, text))

    result = asyncio.run(main())
    assert "C401" not in result.stdout
    assert result.exit_code == 0, result.stdout


def test_a_disk_that_is_nearly_full() -> None:
    found: dict[str, list[Any]] = {}
    for name, free in (("full", 100 << 20), ("fine", 50 << 30)):
        reader = Reader(positions("version = 1\n"), "staffetta.toml", Path(), {})
        check_disk(reader, Disk("data", free, 100 << 30, 0))
        found[name] = [(problem.code, problem.message) for problem in reader.problems]
    assert found == {"full": [("C409", "the disk of data_dir has 100 MiB of 102400 MiB left")], "fine": []}


def test_every_live_code_is_met_here() -> None:
    said = set(re.findall(r"""["'](C4\d\d)["']""", Path(__file__).read_text(encoding="utf-8")))
    assert said == {code for code in CODES if code.startswith("C4")}
