"""The control socket: what is asked is answered, and what is garbage closes only its own client (threats S16)."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from staffetta.app import control_socket
from staffetta.app.control_socket import MOST_CLIENTS, ControlSocket, ControlSocketError
from staffetta.control import channel
from staffetta.control.channel import (
    LONGEST_PATH_OCTETS,
    LONGEST_REQUEST_OCTETS,
    SOCKET_NAME,
    NotReachable,
    Ping,
    Request,
    RequestFailed,
    Wake,
    ask,
)

pytestmark = pytest.mark.timeout(30)


class Answer(msgspec.Struct):
    text: str


class Echo(Request, frozen=True):
    text: str


class Fails(Request, frozen=True):
    pass


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wrong: list[Exception] = []
        self.control = ControlSocket(folder, self.wrong.append)

        async def echo(request: Echo) -> Answer:
            return Answer(request.text)

        async def fails(_: Fails) -> Answer:
            raise KeyError("a bug")

        self.control.register(Echo, echo)
        self.control.register(Fails, fails)

    async def ask(self, request: Request) -> Answer:
        return await asyncio.to_thread(ask, self.folder, request, Answer)

    async def raw(self, octets: bytes, *, finish: bool = True) -> bytes:
        """What is heard when these octets are sent."""
        with channel.short_path(self.folder) as path:
            reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(octets)
            if finish:
                writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def play(folder: Path, scene: Callable[[Place], Awaitable[None]]) -> None:
    async def main() -> None:
        place = Place(folder)
        await place.control.open()
        try:
            await scene(place)
            assert (await place.ask(Echo("still there"))).text == "still there"
        finally:
            await place.control.close()
        assert not (folder / SOCKET_NAME).exists()

    asyncio.run(main())


def test_what_is_asked_is_answered(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        assert (await place.ask(Echo("hé\n"))).text == "hé\n"
        mode = (tmp_path / SOCKET_NAME).stat().st_mode & 0o777
        assert mode == 0o600

    play(tmp_path, scene)


def test_a_handler_that_fails_is_our_bug_and_hurts_nobody(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        with pytest.raises(RequestFailed, match="KeyError: 'a bug'") as failed:
            await place.ask(Fails())
        assert failed.value.code == "internal"
        assert [type(error) for error in place.wrong] == [KeyError]

    play(tmp_path, scene)


def test_two_requests_of_one_name_are_refused(tmp_path: Path) -> None:
    class Other(Request, frozen=True, tag="echo"):
        pass

    async def nothing(_: Other) -> None:
        return

    with pytest.raises(ValueError, match="'echo'"):
        Place(tmp_path).control.register(Other, nothing)


def test_a_request_that_nobody_registered_is_malformed(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        for request in (Ping(), Wake()):
            with pytest.raises(RequestFailed) as failed:
                await place.ask(request)
            assert failed.value.code == "malformed"
        assert not place.wrong

    play(tmp_path, scene)


HOSTILE = [
    b"",
    b"\n",
    b"\0\n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    b'{"ask":"echo"}\n',
    b'{"ask":"echo","text":7}\n',
    b'{"ask":["echo"],"text":""}\n',
    b'{"ask":"echo","text":"\xff"}\n',
    b'{"ask":"echo","text":"\\ud800"}\n',
    b"[" * 60_000 + b"\n",
    b'{"ask":"echo","text":"' + b"x" * LONGEST_REQUEST_OCTETS + b'"}\n',
    b"x" * (2 * LONGEST_REQUEST_OCTETS),
    b'{"ask":"echo","text":"no end of line"}',
    b"GET / HTTP/1.1\r\n\r\n",
    b"EHLO a\r\n",
]


@pytest.mark.parametrize("octets", HOSTILE, ids=range(len(HOSTILE)))
def test_garbage_closes_only_its_own_client(tmp_path: Path, octets: bytes) -> None:
    async def scene(place: Place) -> None:
        heard = await place.raw(octets)
        assert heard == b"" or heard.startswith(b'{"result":"failed","code":"malformed"')
        assert not place.wrong

    play(tmp_path, scene)


def test_random_octets_and_broken_requests(tmp_path: Path) -> None:
    seeded = random.Random(7)
    good = msgspec.json.encode(Echo("hello")) + b"\n"

    async def scene(place: Place) -> None:
        for turn in range(300):
            octets = bytearray(seeded.randbytes(seeded.randrange(200)) if turn % 2 else good)
            for _ in range(seeded.randrange(4)):
                if octets:
                    octets[seeded.randrange(len(octets))] = seeded.randrange(256)
            heard = await place.raw(bytes(octets[: seeded.randrange(len(octets) + 1)]) + b"\n" * seeded.randrange(2))
            assert heard == b"" or heard.startswith(b'{"result":')
        assert not place.wrong

    play(tmp_path, scene)


def test_only_the_first_line_counts(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        heard = await place.raw(b'{"ask":"echo","text":"1"}\n{"ask":"echo","text":"2"}\n')
        assert heard == b'{"result":"done","answer":{"text":"1"}}\n'

    play(tmp_path, scene)


def test_the_silent_are_cut_off_and_a_crowd_is_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "REQUEST_SECONDS", 0.3)

    async def scene(place: Place) -> None:
        silent = [asyncio.create_task(place.raw(b"{", finish=False)) for _ in range(MOST_CLIENTS)]
        while len(place.control._clients) < MOST_CLIENTS:  # noqa: ASYNC110 - a set has no event
            await asyncio.sleep(0)
        assert await place.raw(b'{"ask":"echo","text":"1"}\n') == b"", "one too many"
        assert await asyncio.gather(*silent) == [b""] * MOST_CLIENTS

    play(tmp_path, scene)


def test_another_account_is_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        place = Place(tmp_path)
        await place.control.open()
        us = os.geteuid()
        data = control_socket._CREDENTIALS.pack(os.getpid(), us + 1, 0)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "getsockopt", lambda *_: data)
            assert await place.raw(b'{"ask":"echo","text":"1"}\n') == b""
        assert await place.raw(b'{"ask":"echo","text":"1"}\n')
        await place.control.close()

    asyncio.run(main())


def test_what_a_dead_relay_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))

    async def scene(_: Place) -> None:
        return

    play(tmp_path, scene)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_not_removed(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / SOCKET_NAME, tmp_path / "target"
    target.write_text("kept")
    if kind == "file":
        path.write_text("kept")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)

    async def main() -> None:
        with pytest.raises(ControlSocketError, match=SOCKET_NAME):
            await Place(tmp_path).control.open()

    asyncio.run(main())
    assert os.path.lexists(path)
    assert target.read_text() == "kept"


def test_a_folder_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * LONGEST_PATH_OCTETS)
    folder.mkdir()

    async def scene(place: Place) -> None:
        assert (await place.ask(Echo("far"))).text == "far"

    play(folder, scene)


def test_without_proc_a_long_path_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("d" * LONGEST_PATH_OCTETS)
    folder.mkdir()
    monkeypatch.setattr(os.path, "isdir", lambda _: False)

    async def main() -> None:
        with pytest.raises(ControlSocketError, match="longer than 107 octets"):
            await Place(folder).control.open()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"", "it hung up"), (b"what?\n", "makes no sense"), (b'{"result":"done","answer":{}}\n', "makes no sense")],
)
def test_a_server_that_answers_nonsense_is_not_reachable(tmp_path: Path, answer: bytes, words: str) -> None:
    from staffetta.spool.recovery import RelayLock  # noqa: PLC0415

    lock = RelayLock.acquire(tmp_path)

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(answer)
            writer.close()

        async with await asyncio.start_unix_server(serve, str(tmp_path / SOCKET_NAME)):
            with pytest.raises(NotReachable, match=words) as unreachable:
                await asyncio.to_thread(ask, tmp_path, Ping(), Answer)
            assert unreachable.value.pid == os.getpid()

    asyncio.run(main())
    lock.release()


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / SOCKET_NAME))
        deaf.listen()
        with pytest.raises(NotReachable, match="no relay runs"):
            ask(tmp_path, Ping(), Answer, 0.05)


def test_no_folder_is_no_relay(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match="no relay runs"):
        ask(tmp_path / "nowhere", Ping(), Answer)
