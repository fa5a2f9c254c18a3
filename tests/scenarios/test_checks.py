"""`check upstream` against servers that do as they are told; `check relay` against policies, good and broken."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from staffetta.app.dry_run import DrySettings, accounts_as_they_are, dry_run
from staffetta.app.upstream import road_by, route_named, upstream_tools
from staffetta.app.wiring import World
from staffetta.config.load import Loaded, load
from staffetta.control.check_relay import RelayReport, check_relay
from staffetta.control.check_upstream import Errand, UpstreamStep, check_upstream, default_sender
from staffetta.control.places import Places
from staffetta.dns.resolver import Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mail.address import Mailbox, parse_mailbox
from staffetta.net.connect import SocketConnector
from staffetta.policy import relay as policy
from staffetta.testing.authority import Authority
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Fault, Kind, Script

HEAD = 'version = 1\nhostname = "mx.example.org"\ndata_dir = "data"\n'


def loaded(folder: Path, toml: str) -> Loaded:
    file = folder / "staffetta.toml"
    file.write_text(HEAD + toml)
    file.chmod(0o600)
    found = load(file, {}, files=False)
    assert isinstance(found, Loaded), found
    return found


# check upstream


class Host:
    """A sink, and steps towards it by a route with the given lines."""

    def __init__(self, folder: Path, sink: Sink) -> None:
        self.folder = folder
        self.sink = sink

    async def steps(self, *lines: str, port: int = 0, to: str = "", seconds: float = 5.0) -> list[UpstreamStep]:
        route = f'[route.office]\nvia = "smart.example:{port or self.sink.port}"\n' + "\n".join(lines) + "\n"
        return await self.walk(route, "office", to, seconds)

    async def walk(self, toml: str, name: str, to: str = "", seconds: float = 5.0) -> list[UpstreamStep]:
        config = loaded(self.folder, toml).config
        table: dict[str, Any] = {
            "smart.example": {"A": ["127.0.0.1"]},
            "far.example": {"MX": ["10 smart.example"]},
            "null.example": {"MX": ["0 ."]},
            "dark.example": Unavailable("SERVFAIL"),
        }
        world = World(TableResolver(table), lambda _: SocketConnector())
        route = route_named(config, name)
        assert route is not None
        recipient = parse_mailbox(to) if to else None
        road = road_by(config, route, recipient.domain if isinstance(recipient, Mailbox) else None)
        assert road is not None
        errand = Errand(default_sender(road, "mx.example.org"), recipient)
        return [
            step async for step in check_upstream(road, upstream_tools(config, world, step_seconds=seconds), errand)
        ]


def play(folder: Path, script: Script, story: Callable[[Host], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Sink(script) as sink:
            await story(Host(folder, sink))
            assert not sink.messages, "a message was sent"

    asyncio.run(main())


def tls(folder: Path, *names: str, days: int = 10, **more: Any) -> Script:
    """A script with a certificate of the authority in `folder`."""
    issued = Authority(folder).issue(*names, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return Script(context=context, **more)


LOGIN = ['login = "anna@smart.example"', 'password = "secret"', 'ca = "ca.pem"']


def stages(steps: list[UpstreamStep]) -> list[str]:
    return [step.stage if step.ok else f"{step.stage}!" for step in steps]


def test_all_is_well(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps(*LOGIN, 'tls = "verify"', to="ben@far.example")
        assert stages(steps) == [
            "resolve", "connect", "greeting", "ehlo", "tls", "ehlo", "auth", "mail", "rcpt", "rset", "quit", "end",
        ]  # fmt: skip
        by_stage = {step.stage: step for step in steps}
        assert by_stage["tls"].details["verified"] == "verified"
        assert by_stage["tls"].details["names"] == "smart.example"
        assert by_stage["tls"].details["days_left"] in {"9", "10"}
        assert "authority" in by_stage["tls"].details["issuer"]
        assert by_stage["auth"].details["chosen"] == "SCRAM-SHA-256"
        assert "PLAIN" in by_stage["auth"].details["offered"]
        assert "MAIL FROM:<anna@smart.example>" in by_stage["mail"].text
        assert "secret" not in str(steps)
        assert host.sink.verbs()[-4:] == ["MAIL", "RCPT", "RSET", "QUIT"]

    play(tmp_path, tls(tmp_path, "smart.example", login=("anna@smart.example", "secret")), story)


def test_without_a_recipient_none_is_asked_for(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps('tls = "off"')
        assert stages(steps) == ["resolve", "connect", "greeting", "ehlo", "mail", "rset", "quit", "end"]
        assert "postmaster@mx.example.org" in steps[4].text

    play(tmp_path, Script(), story)


def test_unverified_levels_say_whether_it_would_verify(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps('tls = "require"', 'ca = "ca.pem"')
        step = next(step for step in steps if step.stage == "tls")
        assert step.ok
        assert "it would be" in step.details["verified"]
        assert "it would not be: certificate not accepted" in (await host.steps('tls = "require"'))[4].text

    play(tmp_path, tls(tmp_path, "smart.example"), story)


@pytest.mark.parametrize(
    ("names", "days", "ca", "words"),
    [
        (["other.example"], 10, True, "the certificate is for other.example"),
        (["smart.example"], -1, True, "has ended"),
        (["smart.example"], 10, False, 'ca = "FILE"'),
    ],
    ids=["name", "expired", "unknown authority"],
)
def test_certificates_that_are_refused_are_shown(
    tmp_path: Path, names: list[str], days: int, ca: bool, words: str
) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps('tls = "verify"', *(['ca = "ca.pem"'] if ca else []))
        assert stages(steps)[-2:] == ["tls!", "end!"]
        assert words in steps[-2].advice
        assert steps[-2].details["names"] == " ".join(names)
        assert not steps[-1].permanent

    play(tmp_path, tls(tmp_path, *names, days=days), story)


def test_implicit_tls_where_the_port_begins_in_clear(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps('tls = "implicit"', 'ca = "ca.pem"')
        assert stages(steps) == ["resolve", "connect", "tls!", "end!"]
        assert 'tls = "verify"' in steps[-2].advice

    play(tmp_path, tls(tmp_path, "smart.example"), story)


def test_starttls_where_the_port_speaks_tls_at_once(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps('tls = "verify"', 'ca = "ca.pem"', seconds=0.5)
        assert stages(steps) == ["resolve", "connect", "greeting!", "end!"]
        assert 'tls = "implicit"' in steps[-2].advice

    play(tmp_path, tls(tmp_path, "smart.example", implicit=True), story)


def test_the_login_is_refused_in_the_servers_words(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        lines = [LOGIN[0], 'password = "wrong"', LOGIN[2], 'tls = "verify"']
        steps = await host.steps(*lines)
        assert stages(steps)[-2:] == ["auth!", "end!"]
        assert steps[-2].text.startswith("535")
        assert "app password" in steps[-2].advice
        assert steps[-1].permanent

    script = tls(tmp_path, "smart.example", login=("anna@smart.example", "secret"), mechanisms=("PLAIN",))
    play(tmp_path, script, story)


def test_no_login_is_offered(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps(*LOGIN, 'tls = "verify"')
        assert stages(steps)[-2:] == ["auth!", "end!"]
        assert "submission port" in steps[-2].advice

    play(tmp_path, tls(tmp_path, "smart.example"), story)


def test_opportunistic_tls_that_fails_goes_on_in_clear(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps('tls = "opportunistic"')
        assert "tls!" in stages(steps)
        assert stages(steps)[-1] == "end"

    faults = (Fault("starttls", Kind.BEHIND, b"XXXX garbage that is no TLS\r\n"),)
    play(tmp_path, tls(tmp_path, "smart.example", faults=faults), story)


@pytest.mark.parametrize(
    ("stage", "reply", "permanent", "words"),
    [
        ("greeting", b"554 5.7.1 go away\r\n", True, "from this address"),
        ("greeting", b"421 4.3.2 busy\r\n", False, "from this address"),
        ("mail", b"530 5.7.0 authentication required\r\n", True, "`login` and `password`"),
        ("mail", b"451 4.7.1 later\r\n", False, "greylisting"),
        ("mail", b"553 5.7.1 not your address\r\n", True, "--from"),
        ("rcpt", b"550 5.1.1 \x1b[31mnobody\r\n", True, "explain reply"),
        ("rcpt", b"450 4.2.0 greylisted\r\n", False, "greylisting"),
    ],
)
def test_what_a_server_refuses(tmp_path: Path, stage: str, reply: bytes, permanent: bool, words: str) -> None:
    async def story(host: Host) -> None:
        steps = await host.steps('tls = "off"', to="ben@far.example")
        assert stages(steps)[-2:] == [f"{stage}!", "end!"]
        assert steps[-2].text[:3] == reply[:3].decode()
        assert steps[-1].permanent is permanent
        assert words in steps[-2].advice
        assert "\x1b" not in steps[-2].text

    play(tmp_path, Script(faults=(Fault(stage, Kind.REPLY, reply),)), story)


def test_nothing_listens_there(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            steps = await host.steps('tls = "off"', port=probe.getsockname()[1])
        assert stages(steps) == ["resolve", "connect!", "end!"]
        assert "nothing listens" in steps[1].advice
        assert not steps[-1].permanent

    play(tmp_path, Script(), story)


@pytest.mark.parametrize(
    ("domain", "expected", "permanent"),
    [
        ("far.example", ["resolve", "resolve", "connect!", "end!"], True),
        ("null.example", ["resolve!", "end!"], True),
        ("nowhere.example", ["resolve!", "end!"], True),
        ("dark.example", ["resolve!", "end!"], False),
    ],
)
def test_by_mx(tmp_path: Path, domain: str, expected: list[str], permanent: bool) -> None:
    """Loopback is denied to what the DNS names, unless the file allows it."""

    async def story(host: Host) -> None:
        steps = await host.walk("", "default", f"ben@{domain}")
        assert stages(steps) == expected
        assert steps[-1].permanent is permanent
        if domain == "far.example":
            assert "[outbound] allow" in steps[-2].advice
            allowed = f'[outbound]\nallow = ["127.0.0.0/8"]\nport = {host.sink.port}\n'
            assert (await host.walk(allowed, "default", f"ben@{domain}"))[-1].ok

    play(tmp_path, Script(), story)


# check relay

DOORS = """\
[listen.mx]
bind = ["127.0.0.1:2525"]
role = "mx"
[listen.office]
bind = ["127.0.0.1:2526"]
role = "relay"
trust = ["127.0.0.0/8", "10.1.0.0/16"]
[domain."example.org"]
aliases = { sales = ["ben@far.example"] }
[domain."any.example"]
recipients = "any"
"""


def relay_report(folder: Path, toml: str, progress: Callable[[int, int], None] = lambda *_: None) -> RelayReport:
    found = loaded(folder, toml)

    async def main() -> RelayReport:
        with accounts_as_they_are(found.config) as accounts:
            async with dry_run(found.config, accounts, DrySettings(TableResolver({}), patient=True)) as dry:
                return await check_relay(found.config, dry, Places(found, folder / "staffetta.toml"), progress)

    return asyncio.run(main())


def test_a_sound_policy_passes(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = relay_report(tmp_path, DOORS, lambda *progress: told.append(progress))
    assert (report.passed, report.failed, report.failures) == (True, 0, ())
    assert [(door.door, door.role, door.failed) for door in report.doors] == [("mx", "mx", 0), ("office", "relay", 0)]
    assert report.tried == sum(door.tried for door in report.doors) > 5000
    assert told[-1] == (report.tried, report.tried)
    assert any("10.1.0.0/16" in note and "staffetta.toml" in note for note in report.notes)
    assert not (tmp_path / "data").exists()


def test_a_policy_that_relays_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a judge can be broken, a pass means something: here one lets everybody reach everybody at mx doors."""
    monkeypatch.setattr("staffetta.intake.answers.may_reach", lambda *_: policy.OPEN_TO_ALL)
    report = relay_report(tmp_path, DOORS)
    assert not report.passed
    failed = {door.door: door.failed for door in report.doors}
    assert failed["mx"] > 100
    assert failed["office"] == 0
    first = report.failures[0]
    assert first.went_to == ("u@ext.example",)
    assert first.rule == "mx"
    assert first.where == "staffetta.toml:6"
    assert [said.reply[:3] for said in first.dialogue][-4:] == ["250", "250", "354", "250"]
    assert any(failure.shape.startswith("state:") for failure in report.failures) or len(report.failures) == 20


def test_a_trick_alone_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is said in one piece: a RSET that does not forget would show in the tricks alone."""
    from staffetta.control import check_relay as module  # noqa: PLC0415
    from staffetta.control.relay_trials import Trial  # noqa: PLC0415

    lines = ("MAIL FROM:<x@ext.example>", "RCPT TO:<u@ext.example>", "DATA")
    whole = "".join(f"{line}\r\n" for line in lines).encode() + b"x\r\n.\r\nQUIT\r\n"
    monkeypatch.setattr(module, "shaped", lambda _: iter([Trial("state: all at once", lines, whole=whole, plain=True)]))
    monkeypatch.setattr("staffetta.intake.answers.may_reach", lambda *_: policy.OPEN_TO_ALL)
    report = relay_report(tmp_path, DOORS)
    assert {failure.shape for failure in report.failures} >= {"state: all at once"}


def test_trusting_a_large_part_of_the_internet_is_no_pass(tmp_path: Path) -> None:
    wide = DOORS.replace('"10.1.0.0/16"', '"192.0.0.0/3"')
    report = relay_report(tmp_path, wide)
    assert not report.passed
    assert {failure.door for failure in report.failures} == {"office"}
    assert report.failures[0].rule == "trusted_network"
    assert report.failures[0].where == "staffetta.toml:10"


def test_mail_that_aliases_send_outside_is_meant(tmp_path: Path) -> None:
    everything = DOORS.replace("aliases = { sales", 'catch_all = "sales"\naliases = { sales')
    assert relay_report(tmp_path, everything).passed


def test_with_no_domain_of_our_own(tmp_path: Path) -> None:
    assert relay_report(tmp_path, DOORS.partition("[domain")[0]).passed
