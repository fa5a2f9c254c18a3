"""Threats S3, the client's side: no level that needs TLS ever says MAIL in clear, and nothing said in clear counts."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from staffetta.delivery.transports.smtp import SessionRefused
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.net.tls import ServerCertificate
from staffetta.protocol.client_sasl import Credentials
from staffetta.testing.authority import Authority
from staffetta.testing.outgoing import HASTY, PATIENT, open_session, outbound, recipients, run
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import EXTENSIONS, Fault, Kind, Script, faults_of
from staffetta.tlspolicy.levels import TlsLevel

CONTENT = b"Subject: tls\r\n\r\nsecret\r\n"
LEVELS = [TlsLevel.OPPORTUNISTIC, TlsLevel.REQUIRE, TlsLevel.VERIFY]
FAULTS = {
    "injected text": Fault("starttls", Kind.BEHIND, b"250 and more\r\n"),
    "injected offers": Fault("starttls", Kind.BEHIND, b"250-sink.example\r\n250-CHUNKING\r\n250 AUTH PLAIN\r\n"),
    "injected octet": Fault("starttls", Kind.BEHIND, b"2"),
    "no handshake": Fault("starttls", Kind.REPLY, b"220 go\r\n"),
    "gone after 220": Fault("starttls", Kind.LAST_WORDS, b"220 go\r\n"),
    "reply too many before": Fault("ehlo", Kind.BEFORE, b"220 go\r\n"),
    "silence": Fault("starttls", Kind.SILENCE),
}


async def attempt(sink: Sink, level: TlsLevel, context: ssl.SSLContext | None, **more: object) -> tuple[Outcome, str]:
    try:
        session = await open_session(sink, level=level, context=context, server_name="sink.example", **more)
    except SessionRefused as refused:
        return refused.outcome, "clear may do" if refused.clear_may_do else "refused"
    (outcome,) = await session.send(outbound(CONTENT), recipients("a@b.example"))
    tls = session.tls
    await session.quit()
    return outcome, "clear" if tls is None else "verified" if tls.verified else "encrypted"


def in_clear(sink: Sink) -> list[bytes]:
    return [
        line for _, tls, line in sink.commands if not tls and line[:4].upper() in {b"MAIL", b"RCPT", b"DATA", b"AUTH"}
    ]


@pytest.fixture
def contexts(verified: ssl.SSLContext, unverified: ssl.SSLContext) -> dict[TlsLevel, ssl.SSLContext]:
    return {level: verified if level.verified else unverified for level in TlsLevel}


Contexts = dict[TlsLevel, ssl.SSLContext]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", FAULTS)
def test_broken_handshake(name: str, level: TlsLevel, server: ssl.SSLContext, contexts: Contexts) -> None:
    async def work() -> None:
        fault = FAULTS[name]
        fault.struck = 0
        async with Sink(Script(context=server, faults=(fault,))) as sink:
            outcome, how = await attempt(sink, level, contexts[level], client=HASTY)
            assert (outcome.result, outcome.scope) == (Result.DEFERRED, Scope.HOST)
            broken = name in {"no handshake", "gone after 220"}
            # After an injection nobody is invited to try in clear what somebody tampers with.
            assert how == ("clear may do" if broken and level is TlsLevel.OPPORTUNISTIC else "refused")
            assert not sink.messages
            assert in_clear(sink) == []

    run(work())


@pytest.mark.parametrize("level", [*LEVELS, TlsLevel.OFF])
@pytest.mark.parametrize("case", ["missing", "refused", "refused for good", "helo only"])
def test_no_tls_to_be_had(case: str, level: TlsLevel, server: ssl.SSLContext, contexts: Contexts) -> None:
    faults = {
        "refused": (Fault("starttls", Kind.REPLY, b"454 4.7.0 not now\r\n"),),
        "refused for good": (Fault("starttls", Kind.REPLY, b"502 5.5.1 never\r\n"),),
        "helo only": (Fault("ehlo", Kind.REPLY, b"500 what\r\n"),),
    }.get(case, ())
    script = Script(context=None if case == "missing" else server, faults=faults)

    async def work() -> None:
        async with Sink(script) as sink:
            outcome, how = await attempt(sink, level, contexts[level])
            if level.required:
                assert (outcome.result, outcome.scope, outcome.stage) == (Result.DEFERRED, Scope.HOST, "starttls")
                assert how == "refused"
                assert in_clear(sink) == []
            else:
                assert (outcome.result, how) == (Result.DELIVERED, "clear")
                assert faults_of(sink.messages[0]) == []

    run(work())


def test_the_new_connection_in_clear(server: ssl.SSLContext, unverified: ssl.SSLContext) -> None:
    async def work() -> None:
        async with Sink(Script(context=server, faults=(Fault("starttls", Kind.REPLY, b"220 go\r\n"),))) as sink:
            _, how = await attempt(sink, TlsLevel.OPPORTUNISTIC, unverified)
            assert how == "clear may do"
            outcome, how = await attempt(sink, TlsLevel.OFF, None)
            assert (outcome.result, how) == (Result.DELIVERED, "clear")

    run(work())


CERTIFICATES = [
    # which certificate, level, how it ends
    ("good", TlsLevel.OPPORTUNISTIC, "encrypted"),
    ("good", TlsLevel.REQUIRE, "encrypted"),
    ("good", TlsLevel.VERIFY, "verified"),
    ("good", TlsLevel.IMPLICIT, "verified"),
    ("wrong name", TlsLevel.OPPORTUNISTIC, "encrypted"),
    ("wrong name", TlsLevel.REQUIRE, "encrypted"),
    ("wrong name", TlsLevel.VERIFY, "refused"),
    ("wrong name", TlsLevel.IMPLICIT, "refused"),
    ("expired", TlsLevel.REQUIRE, "encrypted"),
    ("expired", TlsLevel.VERIFY, "refused"),
    ("expired", TlsLevel.IMPLICIT, "refused"),
    ("stranger", TlsLevel.REQUIRE, "encrypted"),
    ("stranger", TlsLevel.VERIFY, "refused"),
    ("stranger", TlsLevel.IMPLICIT, "refused"),
]


@pytest.fixture(scope="module")
def servers(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ssl.SSLContext]:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    found = {
        "good": authority.issue("sink.example"),
        "wrong name": authority.issue("other.example"),
        "expired": authority.issue("sink.example", days=-1),
        "stranger": stranger.issue("sink.example"),
    }
    return {name: ServerCertificate(one.certificate, one.key).context("sink") for name, one in found.items()}


@pytest.mark.parametrize(("certificate", "level", "expected"), CERTIFICATES)
def test_certificate(
    certificate: str, level: TlsLevel, expected: str, servers: dict[str, ssl.SSLContext], contexts: Contexts
) -> None:
    script = Script(context=servers[certificate], implicit=level is TlsLevel.IMPLICIT)

    async def work() -> None:
        async with Sink(script) as sink:
            outcome, how = await attempt(sink, level, contexts[level])
            assert how == expected
            if expected == "refused":
                assert (outcome.result, outcome.scope, outcome.stage) == (Result.DEFERRED, Scope.HOST, "starttls")
                assert not sink.messages
            else:
                assert outcome.result is Result.DELIVERED
                assert sink.messages[0].tls
            assert in_clear(sink) == []

    run(work())


def test_a_plain_server_at_an_implicit_port(verified: ssl.SSLContext) -> None:
    async def work() -> None:
        async with Sink() as sink:
            outcome, how = await attempt(sink, TlsLevel.IMPLICIT, verified)
            assert (outcome.result, outcome.stage, how) == (Result.DEFERRED, "starttls", "refused")
            assert not [line for _, _, line in sink.commands if line.startswith(b"EHLO")]

    run(work())


def test_verify_is_not_satisfied_by_a_lax_context(server: ssl.SSLContext, unverified: ssl.SSLContext) -> None:
    async def work() -> None:
        async with Sink(Script(context=server)) as sink:
            outcome, how = await attempt(sink, TlsLevel.VERIFY, unverified)
            assert (outcome.result, how) == (Result.DEFERRED, "refused")
            assert not sink.messages

    run(work())


def test_offers_made_in_clear_are_forgotten(server: ssl.SSLContext, unverified: ssl.SSLContext) -> None:
    script = Script(context=server, extensions=EXTENSIONS, extensions_tls=("8BITMIME",))

    async def work() -> None:
        async with Sink(script) as sink:
            session = await open_session(sink, level=TlsLevel.REQUIRE, context=unverified)
            offers = session.capabilities
            assert offers.eight_bit_mime
            assert not any([offers.pipelining, offers.has_size, offers.smtputf8, offers.dsn, offers.chunking])
            await session.quit()

    run(work())


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN", "LOGIN"])
def test_login(mechanism: str, server: ssl.SSLContext, verified: ssl.SSLContext) -> None:
    script = Script(context=server, login=("anna@x.example", "s3cr\u00e9t"), mechanisms=(mechanism,))

    async def work() -> None:
        async with Sink(script) as sink:
            right = Credentials("anna@x.example", "s3cr\u00e9t")
            outcome, how = await attempt(sink, TlsLevel.VERIFY, verified, credentials=right)
            assert (outcome.result, how) == (Result.DELIVERED, "verified")
            assert sink.messages[0].login == "anna@x.example"
            wrong = Credentials("anna@x.example", "guess")
            outcome, how = await attempt(sink, TlsLevel.VERIFY, verified, credentials=wrong)
            assert (outcome.result, outcome.stage, outcome.reply.code) == (Result.DEFERRED, "auth", 535)
            assert in_clear(sink) == []

    run(work())


def test_a_server_that_does_not_know_the_password(server: ssl.SSLContext, verified: ssl.SSLContext) -> None:
    script = Script(context=server, login=("anna", "pw"), forgets_scram_proof=True)

    async def work() -> None:
        async with Sink(script) as sink:
            outcome, _ = await attempt(sink, TlsLevel.VERIFY, verified, credentials=Credentials("anna", "pw"))
            assert (outcome.result, outcome.stage) == (Result.DEFERRED, "auth")
            assert not sink.messages

    run(work())


@pytest.mark.parametrize("level", [TlsLevel.OFF, TlsLevel.OPPORTUNISTIC])
def test_no_login_in_clear(level: TlsLevel, contexts: Contexts) -> None:
    async def work() -> None:
        async with Sink(Script(login=("anna", "pw"))) as sink:
            outcome, _ = await attempt(sink, level, contexts[level], credentials=Credentials("anna", "pw"))
            assert (outcome.result, outcome.stage) == (Result.DEFERRED, "auth")
            assert in_clear(sink) == []

    run(work())


def test_big_content_through_tls(server: ssl.SSLContext, verified: ssl.SSLContext) -> None:
    content = b"".join([b".%06d %s\r\n" % (number, b"x" * 60) for number in range(20000)])

    async def work() -> None:
        for extensions in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
            async with Sink(Script(context=server, extensions=extensions)) as sink:
                session = await open_session(
                    sink, level=TlsLevel.VERIFY, context=verified, server_name="sink.example", client=PATIENT
                )
                async with asyncio.timeout(20):
                    (outcome,) = await session.send(outbound(content, chunk=65536), recipients("a@b.example"))
                assert outcome.result is Result.DELIVERED
                assert sink.messages[0].content == content
                await session.quit()

    run(work())


def test_levels() -> None:
    assert {level.value for level in TlsLevel} == {"opportunistic", "require", "verify", "implicit", "off"}
    assert {level for level in TlsLevel if level.required} == {TlsLevel.REQUIRE, TlsLevel.VERIFY, TlsLevel.IMPLICIT}
    assert {level for level in TlsLevel if level.verified} == {TlsLevel.VERIFY, TlsLevel.IMPLICIT}
    assert {level for level in TlsLevel if level.may_go_clear} == {TlsLevel.OPPORTUNISTIC}
