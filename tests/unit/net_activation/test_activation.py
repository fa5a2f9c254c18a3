"""Sockets of a service manager: which door gets which, and a relay in a process of its own that is given them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from staffetta.net.activation import Doorway, Handed, assign, handed_over
from staffetta.net.endpoint import Bind
from staffetta.net.listener import BindFailed

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def listening(*hosts: str, port: int = 0) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        found = []
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = stack.enter_context(socket.socket(family))
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            sock.listen()
            port = port or sock.getsockname()[1]
            found.append(sock)
        yield found


def doors(port: int) -> list[Doorway]:
    return [
        Doorway("world", Bind("*", 25), False, False),
        Doorway("office", Bind(LOOPBACK, port), False, False),
        Doorway("clients", Bind("*", 587), True, False),
        Doorway("clients", Bind("*", 465), True, True),
    ]


@pytest.mark.parametrize(
    ("name", "place"),
    [("world", 0), ("office", 1), ("submission", 2), ("submissions", 3)],
)
def test_a_name_means_a_door(name: str, place: int) -> None:
    with listening(LOOPBACK) as [sock]:
        given = assign([Handed(name, sock)], doors(1))
        assert [len(sockets) for sockets in given] == [int(at == place) for at in range(4)]


def test_an_address_goes_before_a_name() -> None:
    with listening(LOOPBACK) as [sock]:
        given = assign([Handed("world", sock)], doors(sock.getsockname()[1]))
        assert given == [[], [sock], [], []]


def test_every_address_is_both_families() -> None:
    with listening("0.0.0.0", "::") as socks:
        port = socks[0].getsockname()[1]
        all_doors = [Doorway("world", Bind("*", port), False, False), Doorway("b", Bind("::1", port), True, False)]
        assert assign([Handed("", sock) for sock in socks], all_doors) == [socks, []]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is no door of the configuration"),
        ("http", "is no door of the configuration; doors are: world *:25, office"),
        ("clients", "may be any of clients *:587, clients *:465"),
        ("smtp", "may be any of world *:25, office"),
    ],
)
def test_what_no_door_or_several_would_take_is_an_error(name: str, words: str) -> None:
    with listening(LOOPBACK) as [sock], pytest.raises(BindFailed, match=words.replace("*", r"\*")):
        assign([Handed(name, sock)], doors(1))


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "8"}, {"LISTEN_FDS": "1", "LISTEN_PID": "\u0667"}],
)
def test_sockets_for_another_process_are_left_alone(environ: dict[str, str]) -> None:
    assert handed_over(environ, 7) == []


def test_what_is_taken_is_ours_alone_and_never_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(LOOPBACK) as [sock]:
        descriptor = os.dup(sock.fileno())
        os.set_inheritable(descriptor, True)
        sock.setblocking(True)
        monkeypatch.setattr("staffetta.net.activation.FIRST_DESCRIPTOR", descriptor)
        [handed] = handed_over({"LISTEN_FDS": "1", "LISTEN_PID": "7", "LISTEN_FDNAMES": "smtp"}, 7)
        with handed.socket as taken:
            assert (handed.name, taken.fileno()) == ("smtp", descriptor)
            assert not os.get_inheritable(descriptor)
            assert not os.get_blocking(descriptor)


@pytest.mark.parametrize("count", ["", "-1", "x", "100000", "9" * 30])
def test_a_senseless_count_is_an_error(count: str) -> None:
    with pytest.raises(BindFailed, match="LISTEN_FDS"):
        handed_over({"LISTEN_FDS": count, "LISTEN_PID": "7"}, 7)


CONFIG = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[console]
bind = "off"
[log]
format = "json"
[listen.lan]
bind = ["{bind}"]
role = "relay"
auth = false
"""

LAUNCH = """\
import os, sys
given = [int(text) for text in sys.argv[1].split(",")]
for place, descriptor in enumerate(given):
    os.dup2(os.dup(descriptor), 40 + place)
for place in range(len(given)):
    os.dup2(40 + place, 3 + place, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(given)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "staffetta", "run", "-c", sys.argv[3]])
"""
"""What a service manager does between fork and exec."""


def launch(folder: Path, bind: str, descriptors: Sequence[int], names: str) -> subprocess.Popen[bytes]:
    file = folder / "staffetta.toml"
    file.write_text(CONFIG.replace("{bind}", bind))
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, ",".join(map(str, descriptors)), names, str(file)],
        pass_fds=descriptors,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("by_name", [False, True])
def test_a_relay_serves_the_socket_it_was_given(tmp_path: Path, by_name: bool) -> None:
    with listening(LOOPBACK) as [sock]:
        port = sock.getsockname()[1]
        # By name the configured address is another one, which nobody could bind here: 192.0.2.1.
        bind = "192.0.2.1:25" if by_name else f"{LOOPBACK}:{port}"
        early = socket.create_connection((LOOPBACK, port), timeout=20)
        process = launch(tmp_path, bind, [sock.fileno()], "lan" if by_name else "")
        with process, early:
            try:
                assert early.recv(100).startswith(b"220 relay.example")  # knocked before the relay existed
                with smtplib.SMTP(LOOPBACK, port, timeout=20) as client:
                    assert client.noop()[0] == 250
            finally:
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=40)
        assert process.returncode == 0, err
        assert json.loads(out.split(b"\n")[0])["listeners"] == [f"lan {LOOPBACK}:{port}"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ("stranger", b"is no door of the configuration; doors are: lan 127.0.0.1:0"),
        ("file", b"descriptor 3, which is no socket"),
        ("datagram", b"does not listen"),
    ],
)
def test_a_descriptor_that_is_no_door_stops_the_start(tmp_path: Path, make: str, words: bytes) -> None:
    with contextlib.ExitStack() as stack:
        if make == "file":
            descriptor = stack.enter_context((tmp_path / "file").open("w")).fileno()
        elif make == "datagram":
            descriptor = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)).fileno()
        else:
            descriptor = stack.enter_context(listening(LOOPBACK))[0].fileno()
        process = launch(tmp_path, f"{LOOPBACK}:0", [descriptor], "stranger")
        _, err = process.communicate(timeout=40)
    assert process.returncode == 8
    assert words in err
    assert b"Traceback" not in err


def test_one_socket_for_both_families_knows_its_clients(tmp_path: Path) -> None:
    """systemd makes one IPv6 socket that takes IPv4 too; its clients are judged by their IPv4 address."""
    with socket.socket(socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            sock.bind(("::", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        sock.listen()
        port = sock.getsockname()[1]
        process = launch(tmp_path, f"*:{port}", [sock.fileno()], "")
        with process:
            try:
                for address in (LOOPBACK, "::1"):
                    with smtplib.SMTP(address, port, timeout=20) as client:
                        client.ehlo("client.example")
                        assert client.mail("anna@office.example")[0] == 250
                        assert client.rcpt("ben@x.example")[0] == 250  # loopback is trusted
            finally:
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=40)
        assert process.returncode == 0, err
    clients = {line["client"] for line in map(json.loads, out.split(b"\n")[:-1]) if line["event"] == "connect"}
    assert clients == {LOOPBACK, "::1"}


def test_a_restart_loses_no_connection(tmp_path: Path) -> None:
    """The socket lives in the service manager: who connects between two relays is served by the second."""
    with listening(LOOPBACK) as [sock]:
        port = sock.getsockname()[1]
        for _ in range(2):
            with socket.create_connection((LOOPBACK, port), timeout=20) as client:
                process = launch(tmp_path, f"{LOOPBACK}:{port}", [sock.fileno()], "")
                with process:
                    try:
                        assert client.recv(100).startswith(b"220 ")
                    finally:
                        process.send_signal(signal.SIGTERM)
                        process.communicate(timeout=40)
            assert process.returncode == 0
