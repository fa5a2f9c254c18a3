"""`dkim`: the verbs against a DNS server on loopback, from the first key to the end of a rotation."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import dns.zone
import pytest
from click.testing import Result

from staffetta.mailauth.dkim.keys import DomainKeys
from staffetta.mailauth.dkim.keystore import KeyStore
from staffetta.testing.zone import ZoneServer

D = "example.org"


@pytest.fixture(scope="module")
def zone() -> Iterator[ZoneServer]:
    """A DNS server in a thread of its own; what it serves may be changed at any time."""
    ready: Future[tuple[ZoneServer, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        async with ZoneServer({D: {}}) as server:
            ready.set_result((server, asyncio.get_running_loop(), ended))
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    server, loop, ended = ready.result(10)
    yield server
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)


@pytest.fixture
def asking(place: Any, zone: ZoneServer) -> Any:
    zone.zones.clear()
    zone.faults.clear()
    zone.asked.clear()
    zone.put(D, {"A": ["192.0.2.1"]})
    place.file.write_text(
        place.file.read_text() + f'[dns]\nservers = ["127.0.0.1:{zone.port}"]\ntimeout = "1s"\n'
        f'[domain."off.example"]\ndkim = "off"\n'
    )
    return place


def records(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.split("\n")[:-1]]


def keys(place: Any) -> DomainKeys:
    found = KeyStore(place.data_dir).read(D)
    assert found is not None
    return found


def states(place: Any) -> list[str]:
    return [entry.state.value for entry in keys(place).entries]


def test_publish_makes_keys_and_says_what_is_missing(asking: Any, zone: ZoneServer) -> None:
    result = asking.run("dkim", "publish", D, "--json")
    assert result.exit_code == 1, result.output
    first, second = records(result)
    assert list(first) == ["schema", "name", "type", "value", "state"]
    assert re.fullmatch(rf"s\d{{6}}r\._domainkey\.{D}", first["name"])
    assert re.fullmatch(rf"s\d{{6}}e\._domainkey\.{D}", second["name"])
    assert first["value"].startswith("v=DKIM1; k=rsa; p=MIIB")
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", second["value"])
    assert [one["state"] for one in (first, second)] == ["missing"] * 2
    assert {one["type"] for one in (first, second)} == {"TXT"}
    assert result.stderr.count("not published, and it signs") == 2
    zone.put(first["name"], {"TXT": [first["value"]]})
    zone.put(second["name"], {"TXT": ["v=DKIM1; k=ed25519; p=\x1b[31m"]})
    again = asking.run("dkim", "publish", D, "--json")
    assert again.exit_code == 1
    assert [one["state"] for one in records(again)] == ["published", "different"]
    assert "\x1b" not in again.output
    assert "malformed" in again.stderr
    zone.put(second["name"], {"TXT": [second["value"]]})
    done = asking.run("dkim", "publish", D.upper() + ".")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{one['name']}\tTXT\t{one['value']}\tpublished\n" for one in (first, second))


def test_the_zone_fragment_is_read_by_another_program(asking: Any, zone: ZoneServer) -> None:
    result = asking.run("dkim", "publish", D, "--zone")
    assert (result.exit_code, result.stderr) == (0, "")
    assert not zone.asked
    head = f"{D}. 60 IN SOA {D}. {D}. 1 1 1 1 1\n{D}. 60 IN NS {D}.\n"
    parsed = dns.zone.from_text("$TTL 60\n" + head + result.stdout, D, relativize=False)
    found = {
        str(name).rstrip("."): rdata.strings
        for name, _, rdata in parsed.iterate_rdatas("TXT")  # type: ignore[arg-type]
    }
    assert max(len(text) for strings in found.values() for text in strings) <= 255
    wanted = {one["name"]: one["value"].encode() for one in records(asking.run("dkim", "publish", D, "--json"))}
    assert {name: b"".join(strings) for name, strings in found.items()} == wanted
    assert sorted(len(strings) for strings in found.values()) == [1, 2]


def test_a_dead_dns_is_no_verdict(asking: Any, zone: ZoneServer) -> None:
    for entry in records(asking.run("dkim", "publish", D, "--json")):
        zone.faults[entry["name"]] = "servfail"
    result = asking.run("dkim", "publish", D, "--json")
    assert result.exit_code == 6
    assert [one["state"] for one in records(result)] == [None, None]
    assert "does not answer" in result.stderr
    assert asking.run("dkim", "publish", D).stdout.count("\tunknown\n") == 2


def test_a_rotation_from_beginning_to_end(asking: Any, zone: ZoneServer) -> None:
    old = records(asking.run("dkim", "publish", D, "--json"))
    for one in old:
        zone.put(one["name"], {"TXT": [one["value"]]})
    before = keys(asking)
    refused = asking.run("dkim", "rotate", D)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert keys(asking) == before
    result = asking.run("dkim", "rotate", D, "--yes")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.split("\n")) == 3
    assert states(asking) == ["active", "active", "next", "next"]
    again = asking.run("dkim", "rotate", D, "--yes")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "wait for their records already" in again.stderr
    missing = asking.run("dkim", "publish", D, "--json")
    assert missing.exit_code == 1
    assert [one["state"] for one in records(missing)] == ["published"] * 2 + ["missing"] * 2
    assert states(asking) == ["active", "active", "next", "next"]
    for one in records(missing)[2:]:
        zone.put(one["name"], {"TXT": [one["value"]]})
    seen = asking.run("dkim", "publish", D, "--json")
    assert seen.exit_code == 0
    assert states(asking) == ["retired", "retired", "active", "active"]
    assert seen.stderr.count("signs from now on") == 2
    assert seen.stderr.count("signs no more, and its record stays") == 2
    later = asking.run("dkim", "publish", D, "--json")
    assert later.exit_code == 0
    assert later.stderr.count("its record has to stay until 20") == 2
    for one in old:
        zone.remove(one["name"])
    assert asking.run("dkim", "publish", D).exit_code == 1  # mail that is on its way still needs them


def test_list(asking: Any) -> None:
    empty = asking.run("dkim", "list")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert f"staffetta dkim publish {D}" in empty.stderr
    assert not asking.data_dir.exists()
    asking.run("dkim", "publish", D, "--zone")
    first, second = asking.lines("dkim", "list")
    assert list(first) == ["schema", "domain", "selector", "algorithm", "bits", "state", "created_at"]
    assert (first["domain"], first["algorithm"], first["bits"], first["state"]) == (D, "rsa-sha256", 2048, "active")
    assert (second["algorithm"], second["bits"]) == ("ed25519-sha256", 256)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[0-9:.]+Z", first["created_at"])
    text = asking.run("dkim", "list").stdout.split("\n")
    assert text[0].split("\t")[:5] == [D, first["selector"], "rsa-sha256", "2048", "active"]


def test_a_key_of_the_operator(asking: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", own], check=True, capture_output=True)
    text = asking.file.read_text()
    asking.file.write_text(text + '[domain."own.example"]\ndkim = { selector = "20230601", key = "own.pem" }\n')
    (entry,) = [one for one in asking.lines("dkim", "list") if one["domain"] == "own.example"]
    assert (entry["selector"], entry["algorithm"], entry["created_at"]) == ("20230601", "ed25519-sha256", None)
    result = asking.run("dkim", "publish", "own.example", "--json")
    assert result.exit_code == 1
    assert records(result)[0]["name"] == "20230601._domainkey.own.example"
    refused = asking.run("dkim", "rotate", "own.example", "--yes")
    assert refused.exit_code == 1
    assert "key of your own" in refused.stderr
    own.unlink()
    for words in (("list",), ("publish", "own.example")):
        broken = asking.run("dkim", *words)
        assert broken.exit_code == 1
        assert "own.pem cannot be used" in broken.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("publish", "other.example"), 3, "not a domain of this relay"),
        (("rotate", "other.example", "--yes"), 3, "not a domain of this relay"),
        (("publish", "off.example"), 3, '"off"'),
        (("rotate", "off.example", "--yes"), 3, '"off"'),
        (("publish", "a b"), 2, "not a domain name"),
        (("publish", "\x1b[31m"), 2, "not a domain name"),
        (("publish",), 2, "DOMAIN"),
        (("publish", D, "--zone", "--json"), 2, "choose one"),
    ],
)
def test_what_cannot_be_done(asking: Any, words: tuple[str, ...], status: int, said: str) -> None:
    result = asking.run("dkim", *words)
    assert result.exit_code == status
    assert said in result.stderr
    assert "\x1b" not in result.output
    assert not asking.data_dir.exists()


def test_damage_is_said_and_nothing_is_made_anew(asking: Any) -> None:
    asking.run("dkim", "publish", D, "--zone")
    path = asking.data_dir / "keys" / D / "state.json"
    path.write_bytes(b"{")
    for words in (("list",), ("publish", D), ("rotate", D, "--yes")):
        result = asking.run("dkim", *words)
        assert result.exit_code == 1
        assert "state.json is damaged" in result.stderr
    assert path.read_bytes() == b"{"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work for another account")
def test_what_root_makes_belongs_to_the_owner_of_the_data_directory(place: Any) -> None:
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        other = type(place)(folder)
        other.data_dir.mkdir(mode=0o700)
        os.chown(other.data_dir, nobody.pw_uid, nobody.pw_gid)
        assert other.run("dkim", "publish", D, "--zone").exit_code == 0
        assert other.run("dkim", "rotate", D, "--yes").exit_code == 0
        found = list((other.data_dir / "keys").rglob("*"))
        assert len(found) == 6
        assert {(path.stat().st_uid, path.stat().st_gid) for path in found} == {(nobody.pw_uid, nobody.pw_gid)}
        assert os.geteuid() == 0
    finally:
        shutil.rmtree(folder)
