"""Mail as clients submit it: STARTTLS, AUTH PLAIN, 4 KB, 20 connections, a new connection per message."""

from __future__ import annotations

import statistics
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from bench.lanes import Lane, alternate, rate_figures
from bench.logins import LOGIN, PASSWORD, Backend, cyrus, dovecot
from bench.peers import Relay, Server, Sink, folder, postfix, sink, staffetta, staffetta_command
from bench.processes import first_greeting, free_port, spawn, tool
from bench.processes import run as run_process
from bench.results import Failed, Figure, Missing, ratio_figure
from staffetta.testing.authority import Authority, Issued

TITLE = "Submission with TLS and login"
METHOD = (
    "A C program (`bench/submission_load.c`) sends 4 KB messages over 20 connections: a new connection, STARTTLS with "
    "a full TLS 1.3 handshake (no resumption), AUTH PLAIN, one message, QUIT. It speaks TLS by BoringSSL, which takes "
    "half as much of the machine as the OpenSSL of Debian 12 does in a client. Both relays use the same certificate, "
    "once with an RSA-2048 key and once with a P-256 key, and the same smtp-sink behind them. Postfix asks Dovecot, "
    "the back end that most of its guides set up, as it comes with Debian: one account in a file, the password hashed "
    "as `doveadm pw` does by default (bcrypt), no cache, its CPU not counted here. `postfix with sasldb` is the "
    "fastest back end there is, and hardly a usual one: Cyrus SASL with clear passwords in a file, inside smtpd, with "
    "nobody to ask and no hash to compute. Staffetta stores an Argon2id hash, and remembers for a minute that a "
    "password was right. `trivial` is a TLS server in C that accepts everything and stores nothing: the most that the "
    "generator can do on this machine, beside a server."
)
MESSAGES = 1000
ROUNDS = 5
CONNECTIONS = 20
OCTETS = 4096
PEER_FACTOR = 3.0

BORINGSSL = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or 'x86_64-linux-gnu'}/android"
BORINGSSL_HEADERS = "/usr/include/android"
"""Where Debian puts it."""

RECIPIENT = "recipient@target.example"

POSTFIX_LOGIN = """
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_sasl_auth_enable = yes
smtpd_sasl_security_options = noanonymous
smtpd_client_restrictions = permit_sasl_authenticated, reject
"""

STAFFETTA = """
version = 1
hostname = "relay.bench.example"
data_dir = "{folder}/data"
[tls]
certificate = "CERTIFICATE"
key = "KEY"
[listen.submission]
bind = ["127.0.0.1:{port}"]
role = "submission"
tls = "starttls"
[limits]
connections_per_client = 1000
[domain."company.example"]
dkim = "off"
[route.sink]
via = "127.0.0.1:{sink}"
tls = "off"
[console]
bind = "off"
[log]
format = "json"
{extra}
"""


class LoadResult(msgspec.Struct):
    """What the generator prints."""

    messages: int
    seconds: float
    cpu_seconds: float
    failures: int
    session_median: float
    session_95: float


class Generator:
    """The compiled load generator, and what it used while it ran."""

    def __init__(self, path: Path) -> None:
        self.program = path / "submission_load"
        self.results: dict[int, list[LoadResult]] = {}
        here = Path(__file__).parent / "submission_load.c"
        libraries = [f"-L{BORINGSSL}", f"-Wl,-rpath,{BORINGSSL}", "-lssl", "-lcrypto", "-lpthread"]
        command = [tool("gcc", "gcc"), "-O2", f"-I{BORINGSSL_HEADERS}", "-o", str(self.program), str(here), *libraries]
        built = subprocess.run(command, capture_output=True, check=False)
        if built.returncode:
            why = built.stderr.decode()[-300:].strip()
            raise Missing(f"the load generator does not compile (Debian packages gcc, android-libboringssl-dev): {why}")

    def send(self, port: int, messages: int) -> None:
        """Send them all. Raises Failed when one was not taken."""
        words = ["127.0.0.1", port, CONNECTIONS, messages, OCTETS, LOGIN, PASSWORD, RECIPIENT]
        done = run_process([str(self.program), "send", *map(str, words)], 60)
        result = msgspec.json.decode(done.stdout, type=LoadResult)
        if result.failures:
            raise Failed(f"{result.failures} of {messages} messages were not taken: {done.stderr.decode()[:300]}")
        self.results.setdefault(port, []).append(result)

    @contextmanager
    def taker(self, issued: Issued) -> Iterator[Server]:
        """The trivial server."""
        port = free_port()
        words = [port, CONNECTIONS, issued.certificate, issued.key]
        process = spawn([str(self.program), "take", *map(str, words)])
        try:
            first_greeting(port)
            yield Server(port, process.pid)
        finally:
            process.kill()
            process.wait()


@contextmanager
def postfix_with_login(target: Sink, issued: Issued, backend: Backend) -> Iterator[Server]:
    """Postfix that lets in whoever logs in."""
    extra = POSTFIX_LOGIN.format(certificate=issued.certificate, key=issued.key) + backend.settings
    with postfix(target.port, extra, backend.prepare) as server:
        yield server


def _add_account(path: Path) -> None:
    subprocess.run(
        [staffetta_command(), "account", "add", LOGIN, "--password-stdin", "-c", str(path / "staffetta.toml")],
        input=PASSWORD.encode() + b"\n",
        check=True,
        capture_output=True,
    )


@contextmanager
def staffetta_with_login(target: Sink, issued: Issued) -> Iterator[Relay]:
    """Staffetta with one account."""
    template = STAFFETTA.replace("CERTIFICATE", str(issued.certificate)).replace("KEY", str(issued.key))
    with staffetta(target.port, template, prepare=_add_account) as relay:
        yield relay


def compare(
    kind: str, messages: int = MESSAGES, rounds: int = ROUNDS, without: frozenset[str] = frozenset()
) -> list[Figure]:
    """All figures with one kind of key, `RSA-2048` or `P-256`."""
    with ExitStack() as stack:
        path = stack.enter_context(folder("certificates"))
        issued = Authority(path).issue("relay.bench.example", rsa_key=kind == "RSA-2048")
        generator = Generator(path)
        target = stack.enter_context(sink())
        lanes = {"trivial": Lane(stack.enter_context(generator.taker(issued)), generator.send)}
        if "staffetta" not in without:
            ours = stack.enter_context(staffetta_with_login(target, issued))
            lanes["staffetta"] = Lane(ours, generator.send, target)
        if "postfix" not in without:
            for name, backend in (("postfix", dovecot()), ("postfix with sasldb", cyrus())):
                theirs = postfix_with_login(target, issued, stack.enter_context(backend))
                lanes[name] = Lane(stack.enter_context(theirs), generator.send, target)
        neighbours = alternate(lanes, messages, rounds)
    figures = [*rate_figures(lanes, f", {kind}"), *_generator_figures(generator, lanes, kind), neighbours]
    if "staffetta" in lanes and "postfix" in lanes:
        ours, theirs = lanes["staffetta"].rates, lanes["postfix"].rates
        figures.append(ratio_figure(f"staffetta / postfix, {kind}", ours, theirs, PEER_FACTOR))
        fastest = lanes["postfix with sasldb"].rates
        figures.append(ratio_figure(f"staffetta / postfix with sasldb, {kind}", ours, fastest))
    return figures


def _generator_figures(generator: Generator, lanes: dict[str, Lane], kind: str) -> list[Figure]:
    figures = []
    for name, lane in lanes.items():
        results = generator.results[lane.server.port][1:]
        each = statistics.median([result.cpu_seconds / result.messages for result in results])
        share = statistics.median([result.cpu_seconds / result.seconds for result in results])
        session = statistics.median([result.session_median for result in results])
        slow = statistics.median([result.session_95 for result in results])
        value = (
            f"{each * 1e6:,.0f} µs, {share:.0%} of one core; session {session * 1e3:.1f} ms, 95 % {slow * 1e3:.1f} ms"
        )
        figures.append(Figure(f"generator towards {name}: CPU per message, {kind}", value))
    return figures


def run() -> list[Figure]:
    return [*compare("RSA-2048"), *compare("P-256")]
