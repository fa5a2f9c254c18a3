"""Which way mail goes and what TLS must look like there, over the whole relay. Interface `[route.NAME]`; threats S3."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from staffetta.net.tls import ServerCertificate
from staffetta.testing.authority import Authority
from staffetta.testing.rehearsal import Rehearsal
from staffetta.testing.sink_script import Fault, Kind, Script

PASSWORD = "Geheim-und-lang-9"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "nobody knows me")


def server(authority: Authority, name: str = "smart.example", days: int = 10) -> ssl.SSLContext:
    issued = authority.issue(name, days=days)
    return ServerCertificate(issued.certificate, issued.key).context("sink")


async def end_of(relay: Rehearsal, recipient: str = "ben@far.example", sender: str = "anna@near.example") -> str:
    """How the first attempt for a message ended."""
    number = await relay.submit(sender, [recipient])
    await relay.until(lambda: [*relay.told("deliver", number), *relay.told("defer", number), *relay.told("bounce")])
    for name in ("deliver", "defer", "bounce"):
        for event in relay.told(name, number):
            return f"{name} {event.reply}"
    raise AssertionError(relay.events)


def smarthost(ca: Path, *more: str, via: str = '["smart.example:{port}"]') -> str:
    return "\n".join(['[route.out]\nto = ["*"]', f'via = {via}\nca = "{ca}"', *more, ""])


SMART = {"smart.example": {"A": ["127.0.0.11"]}, "second.example": {"A": ["127.0.0.12"]}}


def test_the_first_route_in_the_file_that_fits_is_taken(stage: Any, mx: Any) -> None:
    toml = """\
[route.news]
to = ["far.example"]
from = ["news.example"]
via = "127.0.0.13:{port}"
tls = "off"
[route.below]
to = [".far.example"]
via = "127.0.0.12:{port}"
tls = "off"
"""

    async def play(relay: Rehearsal) -> None:
        mx_host, below, news = [await relay.sink(f"127.0.0.{n}") for n in (11, 12, 13)]
        await end_of(relay, "ben@far.example")
        await end_of(relay, "ben@deep.far.example")
        await end_of(relay, "ben@far.example", "letter@news.example")
        await end_of(relay, "ben@deep.far.example", "letter@news.example")
        await end_of(relay, "ben@far.example", "")
        assert [(s.count, {m.rcpts[0] for m in s.messages}) for s in (mx_host, below, news)] == [
            (2, {b"TO:<ben@far.example>"}),
            (2, {b"TO:<ben@deep.far.example>"}),
            (1, {b"TO:<ben@far.example>"}),
        ]
        assert [event.route for event in relay.told("attempt")] == ["default", "below", "news", "below", "default"]

    stage(play, mx("10 127.0.0.11"), toml)


def test_a_smarthost_is_verified_and_logged_in_to(stage: Any, authority: Authority) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(context=server(authority), login=("relay-user", PASSWORD)))
        assert (await end_of(relay)).startswith("deliver 250")
        assert (sink.messages[0].tls, sink.messages[0].login) == (True, "relay-user")
        assert relay.told("attempt")[0].tls.startswith("TLSv1.3")
        assert PASSWORD not in str(relay.events)

    stage(play, SMART, smarthost(authority.ca, f'login = "relay-user"\npassword = "{PASSWORD}"'))


def test_a_wrong_password_waits(stage: Any, authority: Authority) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(context=server(authority), login=("relay-user", "another")))
        end = await end_of(relay)
        assert end.startswith("defer 535"), end
        assert sink.count == 0
        assert "MAIL" not in sink.verbs()

    stage(play, SMART, smarthost(authority.ca, f'login = "relay-user"\npassword = "{PASSWORD}"'))


@pytest.mark.parametrize("how", ["unknown authority", "other name", "expired", "not offered", "refused", "broken"])
@pytest.mark.parametrize("level", ["verify", "require", "opportunistic"])
def test_what_a_level_demands_is_kept(
    stage: Any, authority: Authority, stranger: Authority, how: str, level: str
) -> None:
    """A level that is not met says no MAIL at all; opportunistic goes on in clear."""
    by, name, days = (stranger if how == "unknown authority" else authority), "smart.example", 10
    if how == "other name":
        name = "other.example"
    if how == "expired":
        days = -1
    faults: tuple[Fault, ...] = ()
    if how == "refused":
        faults = (Fault("starttls", Kind.REPLY, b"454 4.7.0 TLS not available\r\n"),)
    if how == "broken":
        faults = (Fault("starttls", Kind.LAST_WORDS, b"220 2.0.0 go ahead\r\nnonsense in place of a handshake"),)
    context = None if how == "not offered" else server(by, name, days)

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(context=context, faults=faults))
        end = await end_of(relay)
        encrypted = how in {"unknown authority", "other name", "expired"}
        good = level == "opportunistic" or (level == "require" and encrypted)
        if how == "broken" and level == "opportunistic":
            # Octets behind the 220 are an attack or a fault; they are not answered with mail.
            good = end.startswith("deliver")
        assert end.startswith("deliver") is good, end
        said = [line for _, tls, line in sink.commands if not tls and line[:4].upper() in (b"MAIL", b"RCPT", b"DATA")]
        if level != "opportunistic":
            assert not said
            assert all(received.tls for received in sink.messages)
        else:
            assert bool(said) is (good and not encrypted)

    stage(play, SMART, smarthost(authority.ca, f'tls = "{level}"'))


@pytest.mark.parametrize("right", [True, False])
def test_implicit_tls_is_verified_too(stage: Any, authority: Authority, stranger: Authority, right: bool) -> None:
    async def play(relay: Rehearsal) -> None:
        context = server(authority if right else stranger)
        sink = await relay.sink("127.0.0.11", Script(context=context, implicit=True))
        end = await end_of(relay)
        assert end.startswith("deliver" if right else "defer 454 4.7.5"), end
        assert sink.count == (1 if right else 0)

    stage(play, SMART, smarthost(authority.ca, 'tls = "implicit"'))


def test_a_handshake_that_fails_goes_on_in_clear_when_that_is_allowed(stage: Any, mx: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # no certificate: every handshake fails

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(context=context))
        assert (await end_of(relay)).startswith("deliver")
        assert [received.tls for received in sink.messages] == [False]
        assert sink.sessions == 2
        relay.forgive("")

    stage(play, mx("10 127.0.0.11"))


def test_several_hosts_are_tried_in_the_order_of_the_file(stage: Any, authority: Authority) -> None:
    async def play(relay: Rehearsal) -> None:
        second = await relay.sink("127.0.0.12", Script(context=server(authority, "second.example")))
        assert (await end_of(relay)).startswith("deliver")
        first = await relay.sink("127.0.0.11", Script(context=server(authority)))
        await relay.parts.dispatcher.stop()
        assert (second.count, first.count) == (1, 0)

    via = '["smart.example:{port}", "second.example:{port}"]'
    stage(play, SMART, smarthost(authority.ca, via=via))


def test_a_smarthost_may_be_on_a_private_address(stage: Any) -> None:
    """The operator named it; only what strangers' DNS says is judged."""
    toml = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[listen.relay]
bind = ["127.0.0.9:{port}"]
role = "relay"
tls = "off"
auth = false
[route.out]
via = "127.0.0.11:{port}"
tls = "off"
"""

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        assert (await end_of(relay)).startswith("deliver")
        assert sink.count == 1

    stage(play, whole=toml)


def test_a_route_leaves_by_its_own_address(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        peers = []
        sink = await relay.sink("127.0.0.11")
        serve = sink._serve

        async def note(reader: Any, writer: Any) -> None:
            peers.append(writer.get_extra_info("peername")[0])
            await serve(reader, writer)

        await sink.stop()
        sink = relay.sinks["127.0.0.11"] = type(sink)()
        serve = sink._serve
        sink._serve = note  # type: ignore[method-assign]
        await sink.start(host="127.0.0.11", port=relay.port)
        await end_of(relay)
        assert peers == ["127.0.0.77"]

    stage(play, mx("10 127.0.0.11"), '[route.default]\nvia = "mx"\nsource = ["127.0.0.77"]\n')
