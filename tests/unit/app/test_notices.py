"""Reports are from a domain of ours and carry its signatures, so that no strict DMARC policy swallows them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from staffetta.app.mailauth import signers_of
from staffetta.app.notices import notice_author
from staffetta.config.load import Loaded, load
from staffetta.config.schema import Config
from staffetta.delivery.bounce import Author
from staffetta.dns.table import TableResolver
from staffetta.intake.signing import SigningRoom
from staffetta.mailauth.dkim.keystore import KeyStore
from staffetta.mailauth.dkim.record import write_record
from staffetta.mailauth.dkim.verify import Verification
from staffetta.mailauth.results import DkimResult, Word
from staffetta.message.header import Header

NOW = 1_800_000_000.0
REPORT = b"From: <MAILER-DAEMON@home.example>\r\nTo: <a@far.example>\r\nSubject: x\r\n\r\nit failed\r\n"


def config(folder: Path, hostname: str, *domains: str) -> Config:
    file = folder / "staffetta.toml"
    lines = ['version = 1\ndata_dir = "data"', f'hostname = "{hostname}"']
    lines += ['[listen.relay]\nbind = ["127.0.0.1:2525"]\nrole = "relay"\ntls = "off"\nauth = false', *domains]
    (folder / "data").mkdir(mode=0o700)
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)
    loaded = load(file, {}, files=False)
    assert isinstance(loaded, Loaded), loaded
    return loaded.config


async def signed(setting: Config) -> tuple[Author | None, bytes]:
    signers = signers_of(setting, lambda: NOW)
    with ThreadPoolExecutor(1) as threads:
        room = SigningRoom(signers, threads, asyncio.get_running_loop())
        author = notice_author(setting, signers, lambda: room)
        return author, b"" if author is None else await author.sign(REPORT, NOW)


async def judged(folder: Path, content: bytes) -> tuple[DkimResult, ...]:
    names = {
        f"{key.selector}._domainkey.home.example": {"TXT": [write_record(key.private.public_key())]}
        for key in KeyStore(folder / "data").signing_keys("home.example")
    }
    head, _, body = content.partition(b"\r\n\r\n")
    verification = Verification(Header(head + b"\r\n"))
    verification.body(body)
    return await verification.finish(TableResolver(names), NOW)


def test_a_report_is_signed_by_the_domain_above_the_hostname(tmp_path: Path) -> None:
    async def play() -> None:
        author, fields = await signed(config(tmp_path, "mx.home.example", '[domain."home.example"]'))
        assert author is not None
        assert author.domain == "home.example"
        results = await judged(tmp_path, fields + REPORT)
        assert [(one.word, one.domain) for one in results] == [(Word.PASS, "home.example")] * 2
        altered = await judged(tmp_path, fields + REPORT.replace(b"it failed", b"it went"))
        assert {one.word for one in altered} == {Word.FAIL}

    asyncio.run(play())


@pytest.mark.parametrize(
    ("hostname", "domains", "expected"),
    [
        ("mx.home.example", ["example", "home.example"], "home.example"),
        ("mx.home.example", ["far.example"], None),
        ("mx.home.example", ["me.example", "x.home.example"], None),
        ("mxhome.example", ["home.example"], None),
    ],
)
def test_who_writes(hostname: str, domains: list[str], expected: str | None, tmp_path: Path) -> None:
    setting = config(tmp_path, hostname, *[f'[domain."{name}"]' for name in domains])
    author = notice_author(setting, signers_of(setting, lambda: NOW), lambda: None)
    assert (None if author is None else author.domain) == expected


def test_a_report_goes_unsigned_where_keys_cannot_be_used(tmp_path: Path) -> None:
    setting = config(tmp_path, "mx.home.example", '[domain."home.example"]')
    store = KeyStore(setting.data_dir)
    signers_of(setting, lambda: NOW).make_keys()
    for key in store.signing_keys("home.example"):
        store.path("home.example", key.selector).write_text("no key")
    assert asyncio.run(signed(setting))[1] == b""


def test_a_domain_that_does_not_sign_writes_nothing(tmp_path: Path) -> None:
    setting = config(tmp_path, "mx.home.example", '[domain."home.example"]\ndkim = "off"')
    assert asyncio.run(signed(setting)) == (None, b"")
