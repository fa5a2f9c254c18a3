"""The configuration as values: one frozen struct per table, with the defaults that hold when nothing is written.

Pure data. Names are the keys of the file; times are seconds (`_seconds`), sizes octets, paths absolute. What each key
means to an operator stands in `keys`, what is forbidden in `checks`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.mail.network import Network
from staffetta.net.endpoint import Bind

IMPLICIT_TLS_PORT = 465
"""The port on which TLS begins at once, RFC 8314 section 7.3."""


class Role(StrEnum):
    """What a door is for."""

    MX = "mx"
    SUBMISSION = "submission"
    RELAY = "relay"


class DoorTls(StrEnum):
    """TLS at a door of ours."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    OFF = "off"
    LEGACY = "legacy"


class HopTls(StrEnum):
    """TLS towards the next hop."""

    OPPORTUNISTIC = "opportunistic"
    REQUIRE = "require"
    VERIFY = "verify"
    IMPLICIT = "implicit"
    OFF = "off"


class CheckMode(StrEnum):
    """What a verdict of SPF, DKIM, DMARC or ARC may do."""

    ENFORCE = "enforce"
    RECORD = "record"
    OFF = "off"


class ListAction(StrEnum):
    """What a hit in a block list does."""

    REJECT = "reject"
    JUNK = "junk"
    RECORD = "record"


class Recipients(StrEnum):
    """Which local parts of a domain exist."""

    ACCOUNTS = "accounts"
    ANY = "any"


class DkimMode(StrEnum):
    """Signing without a key of the operator's."""

    AUTO = "auto"
    OFF = "off"


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Privacy(StrEnum):
    """How addresses stand in the log."""

    FULL = "full"
    MASKED = "masked"
    HASHED = "hashed"


class Secret(msgspec.Struct, frozen=True, gc=False):
    """A secret and where it came from: `file:PATH`, `env:NAME` or `literal`. Its text never shows in a repr."""

    value: str
    origin: str

    def __repr__(self) -> str:
        return f"Secret({self.origin!r})"

    def __str__(self) -> str:
        return "***"


class Hop(msgspec.Struct, frozen=True, gc=False):
    """A next hop: a domain name or an IP address (IPv6 without brackets), and the port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_address(self) -> bool:
        """True for an IP address: no domain name ends in a number or has a colon."""
        return ":" in self.host or self.host.rpartition(".")[2].isdecimal()


class Resolver(msgspec.Struct, frozen=True, gc=False):
    """A DNS server: IP address and port."""

    address: str
    port: int = 53


class Rate(msgspec.Struct, frozen=True, gc=False):
    """At most `count` in `seconds`."""

    count: int
    seconds: int

    @property
    def per_second(self) -> float:
        """The mean rate."""
        return self.count / self.seconds


class DomainPattern(msgspec.Struct, frozen=True, gc=False):
    """`"d"`, `".d"` (every subdomain) or `"*"` (then `domain` is None)."""

    domain: Domain | None
    subdomains: bool = False

    def __str__(self) -> str:
        return "*" if self.domain is None else f"{'.' if self.subdomains else ''}{self.domain}"

    def matches(self, domain: Domain) -> bool:
        """True when the pattern takes `domain`."""
        if self.domain is None:
            return True
        return domain.is_under(self.domain) if self.subdomains else domain == self.domain


EVERY_DOMAIN = DomainPattern(None)


class Maildir(msgspec.Struct, frozen=True, gc=False):
    """Deliver to Maildirs below `path`; None: `data_dir/mail/DOMAIN`."""

    path: Path | None = None


class Lmtp(msgspec.Struct, frozen=True, gc=False):
    """Deliver by LMTP to a host, or to a Unix socket when `path` is set."""

    hop: Hop | None
    path: Path | None = None


class InnerServer(msgspec.Struct, frozen=True, gc=False):
    """Deliver by SMTP to a server behind us."""

    hop: Hop


Deliver = Maildir | Lmtp | InnerServer


class DkimKey(msgspec.Struct, frozen=True, gc=False):
    """A signing key of the operator's."""

    selector: str
    key: Path


class Discover(msgspec.Struct, frozen=True, gc=False):
    """Mail programs are told their servers. Where no mailbox server is named, IMAP is at `hostname`, port 993."""

    imap: Hop | None = None
    pop3: Hop | None = None


class Tls(msgspec.Struct, frozen=True, gc=False):
    """`[tls]`."""

    certificate: Path
    key: Path


class Listen(msgspec.Struct, frozen=True, gc=False):
    """`[listen.NAME]`. `tls` None: by port; then `tls_at` says which. `auth` is the effective value."""

    name: str
    bind: tuple[Bind, ...]
    role: Role
    tls: DoorTls | None = None
    auth: bool = False
    trust: tuple[Network, ...] = ()
    from_: tuple[Domain | Mailbox, ...] = ()
    from_fixed: Mailbox | None = None
    proxy_protocol: tuple[Network, ...] = ()

    def tls_at(self, port: int) -> DoorTls:
        """The TLS of this door at one of its ports."""
        return self.tls or (DoorTls.IMPLICIT if port == IMPLICIT_TLS_PORT else DoorTls.STARTTLS)


class LocalDomain(msgspec.Struct, frozen=True, gc=False):
    """`[domain."D"]`. `aliases` maps a lower-case local part to local parts (text) and addresses."""

    domain: Domain
    deliver: Deliver = Maildir()
    recipients: Recipients = Recipients.ACCOUNTS
    aliases: tuple[tuple[str, tuple[str | Mailbox, ...]], ...] = ()
    catch_all: str | None = None
    separator: str = "+"
    dkim: DkimMode | DkimKey = DkimMode.AUTO
    discover: Discover | None = None


class Route(msgspec.Struct, frozen=True, gc=False):
    """`[route.NAME]`. `via` empty: by MX. `tls` None: `tls_to` says which. `connections`, `rate`: per destination."""

    name: str
    to: tuple[DomainPattern, ...] = (EVERY_DOMAIN,)
    from_: tuple[Domain, ...] = ()
    via: tuple[Hop, ...] = ()
    tls: HopTls | None = None
    ca: Path | None = None
    login: str | None = None
    password: Secret | None = None
    source: tuple[str, ...] = ()
    connections: int = 20
    rate: Rate | None = None

    def tls_to(self, hop: Hop | None) -> HopTls:
        """The TLS level towards one hop of `via`; None: towards a host found by MX."""
        if self.tls is not None:
            return self.tls
        if hop is None:
            return HopTls.OPPORTUNISTIC
        if hop.port == IMPLICIT_TLS_PORT:
            return HopTls.IMPLICIT
        return HopTls.OPPORTUNISTIC if hop.is_address else HopTls.VERIFY


IMPLIED_ROUTE = Route("default")
"""The route that is last without being written."""


class Outbound(msgspec.Struct, frozen=True, gc=False):
    """`[outbound]`."""

    port: int = 25
    allow: tuple[Network, ...] = ()


class Queue(msgspec.Struct, frozen=True, gc=False):
    """`[queue]`. `delay_notice_seconds` None: no notice."""

    retry_seconds: tuple[int, ...] = (60, 300, 900, 1800, 3600, 7200, 14400)
    lifetime_seconds: int = 432_000
    bounce_lifetime_seconds: int = 86_400
    delay_notice_seconds: int | None = 14_400


class Limits(msgspec.Struct, frozen=True, gc=False):
    """`[limits]`. `message_size` in octets."""

    message_size: int = 26_214_400
    recipients: int = 100
    hops: int = 50
    connections: int = 10_000
    connections_per_client: int = 50
    commands_per_session: int = 10_000
    idle_seconds: int = 300
    login_failures: int = 10


class BlockList(msgspec.Struct, frozen=True, gc=False):
    """One `[[checks.blocklist]]` or `[[checks.domain_blocklist]]`. `codes`: the answers that count as listed."""

    zone: Domain
    codes: tuple[Network, ...]
    action: ListAction = ListAction.REJECT


class Checks(msgspec.Struct, frozen=True, gc=False):
    """`[checks]`."""

    spf: CheckMode = CheckMode.RECORD
    dkim: CheckMode = CheckMode.RECORD
    dmarc: CheckMode = CheckMode.ENFORCE
    arc: CheckMode = CheckMode.RECORD
    junk: str = "Junk"
    forwarders: tuple[Domain, ...] = ()
    reverse: CheckMode = CheckMode.RECORD
    helo: CheckMode = CheckMode.RECORD
    arc_seal: bool = False
    blocklist: tuple[BlockList, ...] = ()
    domain_blocklist: tuple[BlockList, ...] = ()


class Dns(msgspec.Struct, frozen=True, gc=False):
    """`[dns]`. `servers` empty: the system's."""

    servers: tuple[Resolver, ...] = ()
    timeout_seconds: int = 5


class Console(msgspec.Struct, frozen=True, gc=False):
    """`[console]`. `bind` None: off."""

    bind: Bind | None = Bind("127.0.0.1", 8080)


class Log(msgspec.Struct, frozen=True, gc=False):
    """`[log]`."""

    format: LogFormat = LogFormat.AUTO
    level: LogLevel = LogLevel.INFO
    privacy: Privacy = Privacy.FULL


class Journal(msgspec.Struct, frozen=True, gc=False):
    """`[journal]`."""

    keep_seconds: int = 2_592_000


class Config(msgspec.Struct, frozen=True, gc=False):
    """The whole file, every default filled in. `routes` ends with the implied one unless `default` is written.

    `user` None: `staffetta` if that account exists. `processes` None: as many as suit the machine. `postmaster` None: a
    mailbox of that name below `data_dir/mail`.
    """

    hostname: Domain
    data_dir: Path = Path("/var/lib/staffetta")
    postmaster: Mailbox | None = None
    user: str | None = None
    processes: int | None = None
    tls: Tls | None = None
    listeners: tuple[Listen, ...] = ()
    domains: tuple[LocalDomain, ...] = ()
    routes: tuple[Route, ...] = (IMPLIED_ROUTE,)
    outbound: Outbound = Outbound()
    queue: Queue = Queue()
    limits: Limits = Limits()
    checks: Checks = Checks()
    dns: Dns = Dns()
    console: Console = Console()
    log: Log = Log()
    journal: Journal = Journal()
