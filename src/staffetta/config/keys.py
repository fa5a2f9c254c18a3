"""Every table and key of the file: what it takes, what holds without it, what it means.

The loader reads by this table and the reference is printed from it, so they cannot disagree.
"""

from __future__ import annotations

from typing import Any, Final

from staffetta.config import schema, values
from staffetta.config.compound import ALIASES, DELIVER, DISCOVER, DKIM, OFF_OR_BIND, OFF_OR_DURATION, VIA
from staffetta.config.kinds import (
    ADDRESS,
    COUNT,
    DOMAIN,
    MOST_PROCESSES,
    NETWORKS,
    PATH,
    PORT,
    RATE,
    SOME_DURATION,
    SOME_SIZE,
    Kind,
    Many,
    Number,
    NumberOrAuto,
    SecretText,
    Switch,
    Text,
    Word,
)


class Key:
    """One key. `default` is TOML text, empty for none; `words` says in the reference how a default is found.

    `field` is its name in the struct of `schema`.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        meaning: str,
        default: str = "",
        *,
        words: str = "",
        field: str = "",
        required: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.meaning = meaning
        self.default = default
        self.words = words
        self.field = field or name
        self.required = required


class Table:
    """One table. `shape` is `one`, `named` ([listen.NAME]) or `many` ([[checks.blocklist]])."""

    def __init__(self, path: tuple[str, ...], shape: str, meaning: str, keys: tuple[Key, ...], name: str = "") -> None:
        self.path = path
        self.shape = shape
        self.meaning = meaning
        self.keys: dict[str, Key] = {key.name: key for key in keys}
        self.name = name

    @property
    def header(self) -> str:
        """How its header is written."""
        dotted = ".".join((*self.path, self.name) if self.name else self.path)
        return f"[[{dotted}]]" if self.shape == "many" else f"[{dotted}]" if dotted else ""


_SENDERS: Any = Many(Text("a domain or address", '"example.org"', values.parse_sender), "list of domains and addresses")
_DOMAINS: Any = Many(DOMAIN, "list of domains")
_CHECK = Word(schema.CheckMode)
_CODES = "the answers that count as listed"

TOP: Final = Table(
    (),
    "one",
    "At the top, above the first table.",
    (
        Key("version", Number(0, 1_000_000), "the grammar of this file: 1", required=True),
        Key(
            "hostname",
            DOMAIN,
            "the name in greeting, EHLO, Received and Authentication-Results",
            words="the machine's name",
        ),
        Key(
            "data_dir",
            PATH,
            "everything that must survive: spool, accounts, keys, mailboxes",
            '"/var/lib/staffetta"',
        ),
        Key(
            "postmaster",
            ADDRESS,
            "gets `postmaster` and `abuse` of every local domain when no account or alias has them",
            words="a mailbox of that name below `data_dir/mail`",
        ),
        Key(
            "user",
            Text("an account", '"staffetta"', str),
            "account to become after binding ports as root",
            words="`staffetta` if it exists",
        ),
        Key(
            "processes",
            NumberOrAuto(0, MOST_PROCESSES),
            "processes that take mail in, beside the one that stores and delivers; `0`: one process does everything;"
            ' `"auto"`: one for each core but the first, and where a door offers TLS one for each core, at most 3',
            '"auto"',
        ),
    ),
)

TLS: Final = Table(
    ("tls",),
    "one",
    "Certificate and key of every door; read again when they change.",
    (
        Key("certificate", PATH, "PEM file, the server's certificate first", words="none: TLS is not offered"),
        Key("key", PATH, "PEM file of its private key", words="none"),
    ),
)

LISTEN: Final = Table(
    ("listen",),
    "named",
    "A door.",
    (
        Key(
            "bind",
            Many(Text("an address with port", '"*:25"', values.parse_bind_of), "list of HOST:PORT", least=1),
            "where to listen; `*` is all addresses of both families",
            required=True,
        ),
        Key(
            "role",
            Word(schema.Role),
            "`mx`: anyone may deliver to local domains, nothing else; `submission`: login under TLS, may send anywhere"
            " as itself; `relay`: clients inside `trust` may send anywhere, others after login",
            required=True,
        ),
        Key(
            "tls",
            Word(schema.DoorTls),
            "`legacy` is TLS 1.0 up, for old devices",
            words='"implicit" on port 465, else "starttls"; "off" without a certificate',
        ),
        Key("auth", Switch(), "offer login, never before TLS", words="true, but for `mx` and without TLS"),
        Key(
            "trust",
            NETWORKS,
            "networks that may relay without login (`relay` only)",
            words='["127.0.0.0/8", "::1/128"] for `relay`, else none',
        ),
        Key("from", _SENDERS, "sender domains or addresses that may pass", "[]", words="any", field="from_"),
        Key("from_fixed", ADDRESS, "rewrite envelope sender and From to this address"),
        Key("proxy_protocol", NETWORKS, "peers whose PROXY header is believed, and must be sent", "[]"),
    ),
    "NAME",
)

DOMAIN_TABLE: Final = Table(
    ("domain",),
    "named",
    "A local domain.",
    (
        Key(
            "deliver",
            DELIVER,
            '`"maildir"`, `"maildir:PATH"`, `"lmtp:HOST:PORT"`, `"lmtp:unix:PATH"`, `"smtp:HOST[:PORT]"`',
            '"maildir"',
        ),
        Key(
            "recipients",
            Word(schema.Recipients),
            "`accounts`: accounts, aliases and the catch-all exist; `any`: every local part exists",
            '"accounts"',
        ),
        Key("aliases", ALIASES, "local part to list of local parts or addresses", "{}"),
        Key("catch_all", Text("a local part", '"info"', values.parse_local_part), "local part that takes the unknown"),
        Key(
            "separator",
            Text("a character", '"+"', values.parse_separator),
            'sub-addressing: `anna+list` goes to `anna`; `""` for none',
            '"+"',
        ),
        Key("dkim", DKIM, '`"auto"` makes keys in `data_dir/keys`; `"off"`; or `{ selector, key }`', '"auto"'),
        Key(
            "discover",
            DISCOVER,
            "the console's port tells mail programs their servers; the one for reading is IMAP at `hostname:993`, or"
            ' `{ imap = "HOST:PORT", pop3 = "HOST:PORT" }`',
            "false",
        ),
    ),
    '"D"',
)

ROUTE: Final = Table(
    ("route",),
    "named",
    'A road to other servers. In file order, the first match wins; a last `[route.default] via = "mx"` is implied.',
    (
        Key(
            "to",
            Many(Text("a domain", '"example.org"', values.parse_pattern), "list of domains", least=1),
            'recipient domains: `"d"`, `".d"` (subdomains), `"*"`',
            '["*"]',
        ),
        Key("from", _DOMAINS, "sender domains", "[]", words="any", field="from_"),
        Key("via", VIA, '`"mx"`, or one or several `"HOST[:PORT]"`, tried in order', '"mx"'),
        Key(
            "tls",
            Word(schema.HopTls),
            "`require` encrypts, `verify` also checks the certificate, `implicit` does so from the first octet",
            words='"opportunistic" for mx and addresses, "verify" for a named host, "implicit" on port 465',
        ),
        Key("ca", PATH, "PEM file of the authority that signs the next hop's certificate", words="the system's store"),
        Key("login", Text("a login", '"relay@example.org"', str), "name for SMTP AUTH at the next hop"),
        Key("password", SecretText(), 'its password: `"file:PATH"`, `"env:NAME"` or itself'),
        Key(
            "source",
            Many(Text("an address", '"192.0.2.1"', values.parse_ip), "list of addresses"),
            "local addresses to send from",
            "[]",
            words="the system's choice",
        ),
        Key("connections", COUNT, "at most, per destination", "20"),
        Key("rate", RATE, "messages at most, per destination"),
    ),
    "NAME",
)

OUTBOUND: Final = Table(
    ("outbound",),
    "one",
    "Delivery by MX.",
    (
        Key("port", PORT, "port for MX delivery", "25"),
        Key("allow", NETWORKS, "networks it may reach although loopback, private, link-local or our own", "[]"),
    ),
)

QUEUE: Final = Table(
    ("queue",),
    "one",
    "How long and how often.",
    (
        Key(
            "retry",
            Many(SOME_DURATION, "list of durations", least=1),
            "waits between attempts; the last repeats",
            '["1m", "5m", "15m", "30m", "1h", "2h", "4h"]',
            field="retry_seconds",
        ),
        Key("lifetime", SOME_DURATION, "when to give up", '"5d"', field="lifetime_seconds"),
        Key(
            "bounce_lifetime", SOME_DURATION, "when to give up a notification", '"1d"', field="bounce_lifetime_seconds"
        ),
        Key("delay_notice", OFF_OR_DURATION, "when to tell the sender", '"4h"', field="delay_notice_seconds"),
    ),
)

LIMITS: Final = Table(
    ("limits",),
    "one",
    "What a client may ask for.",
    (
        Key("message_size", SOME_SIZE, "SIZE", '"25MiB"'),
        Key("recipients", COUNT, "RCPT per message", "100"),
        Key("hops", Number(1, 1000), "Received headers", "50"),
        Key("connections", COUNT, "sessions at a time", "10000"),
        Key("connections_per_client", COUNT, "sessions at a time from one network", "50"),
        Key("commands_per_session", COUNT, "commands", "10000"),
        Key("idle", SOME_DURATION, "wait for the next command", '"5m"', field="idle_seconds"),
        Key("login_failures", COUNT, "per client network and per account, in ten minutes", "10"),
    ),
)

CHECKS: Final = Table(
    ("checks",),
    "one",
    "Who does this message really come from? On `mx` doors.",
    (
        Key("spf", _CHECK, "RFC 7208", '"record"'),
        Key("dkim", _CHECK, "RFC 6376", '"record"'),
        Key("dmarc", _CHECK, "RFC 9989", '"enforce"'),
        Key("arc", _CHECK, "RFC 8617", '"record"'),
        Key("arc_seal", Switch(), "seal what an alias sends outside, by the DKIM key of the alias's domain", "false"),
        Key("reverse", _CHECK, "the name of the client's address has to lead back to it", '"record"'),
        Key("helo", _CHECK, "the client has to greet with a full name that has an address", '"record"'),
        Key("junk", Text("a folder", '"Junk"', values.parse_folder), "folder for quarantined mail", '"Junk"'),
        Key(
            "forwarders",
            _DOMAINS,
            "known forwarders and lists (proven by SPF, DKIM or ARC): not refused for DMARC",
            "[]",
        ),
    ),
)


def _blocklist(name: str, meaning: str) -> Table:
    return Table(
        ("checks", name),
        "many",
        meaning,
        (
            Key("zone", DOMAIN, "where to ask", required=True),
            Key("codes", NETWORKS, _CODES, '["127.0.0.2-127.0.255.255"]'),
            Key("action", Word(schema.ListAction), "what a hit does", '"reject"'),
        ),
    )


BLOCKLIST: Final = _blocklist("blocklist", "A DNS block list of client addresses.")
DOMAIN_BLOCKLIST: Final = _blocklist("domain_blocklist", "A DNS block list of sender, HELO and DKIM domains.")

DNS: Final = Table(
    ("dns",),
    "one",
    "Resolvers.",
    (
        Key(
            "servers",
            Many(Text("a resolver", '"192.0.2.53"', values.parse_resolver), "list of ADDRESS[:PORT]"),
            "whom to ask",
            "[]",
            words="the system's",
        ),
        Key("timeout", SOME_DURATION, "wait for an answer", '"5s"', field="timeout_seconds"),
    ),
)

CONSOLE: Final = Table(
    ("console",),
    "one",
    "Web console, HTTP API, `/metrics`, `/livez`, `/readyz`.",
    (Key("bind", OFF_OR_BIND, '`"HOST:PORT"` or `"off"`', '"127.0.0.1:8080"'),),
)

LOG: Final = Table(
    ("log",),
    "one",
    "Events on standard output.",
    (
        Key("format", Word(schema.LogFormat), "`auto` is text on a terminal, else JSON lines", '"auto"'),
        Key("level", Word(schema.LogLevel), "the least that is written", '"info"'),
        Key("privacy", Word(schema.Privacy), "addresses in the log", '"full"'),
    ),
)

JOURNAL: Final = Table(
    ("journal",),
    "one",
    "The record of messages.",
    (Key("keep", SOME_DURATION, "how long it is kept", '"30d"', field="keep_seconds"),),
)

TABLES: Final = (
    TOP,
    TLS,
    LISTEN,
    DOMAIN_TABLE,
    ROUTE,
    OUTBOUND,
    QUEUE,
    LIMITS,
    CHECKS,
    BLOCKLIST,
    DOMAIN_BLOCKLIST,
    DNS,
    CONSOLE,
    LOG,
    JOURNAL,
)
