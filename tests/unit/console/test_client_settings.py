"""What mail programs are told: which servers, in which order, and both documents against what their readers want."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from staffetta.config.schema import Config
from staffetta.console import autoconfig, autodiscover
from staffetta.console.autodiscover import NotUnderstood, asked_for
from staffetta.console.markup import xml
from staffetta.control.client_settings import ClientSettings, client_settings
from staffetta.mail.address import Mailbox, parse_mailbox
from staffetta.mail.domain import Domain

Configured = Callable[[str], Config]

SUBMISSION = '[listen.submission]\nbind = {bind}\nrole = "submission"\n'
BOTH = SUBMISSION.replace("{bind}", '["*:587", "*:465"]')
DOMAIN = '[domain."example.org"]\ndiscover = {discover}\n'


def settings_of(config: Config) -> ClientSettings:
    return client_settings(config, config.domains[0])


def shown(settings: ClientSettings) -> list[str]:
    return [f"{one.kind} {one.host}:{one.port} {one.security}" for one in (*settings.outgoing, *settings.incoming)]


IMAP = "imap mail.example.org:993 tls"
TLS, STARTTLS = "submission mail.example.org:465 tls", "submission mail.example.org:587 starttls"
RELAY = '[listen.relay]\nbind = ["*:2525"]\nrole = "relay"\n'


def submission(*bind: str) -> str:
    return SUBMISSION.replace("{bind}", str(list(bind)).replace("'", '"'))


@pytest.mark.parametrize(
    ("text", "discover", "expected"),
    [
        (BOTH, "true", [TLS, STARTTLS, IMAP]),
        (BOTH, "false", [TLS, STARTTLS]),
        (
            submission("127.0.0.1:587", "192.0.2.1:2465") + 'tls = "implicit"\n',
            "true",
            ["submission mail.example.org:2465 tls", IMAP],
        ),
        (submission("127.0.0.1:2587", "[::1]:2587"), "true", ["submission mail.example.org:2587 starttls", IMAP]),
        (submission("127.0.0.1:0"), "true", [IMAP]),
        (RELAY, "true", ["submission mail.example.org:2525 starttls", IMAP]),
        (RELAY + BOTH, "true", [TLS, STARTTLS, IMAP]),
        (RELAY + "auth = false\n", "true", [IMAP]),
        ('[listen.mx]\nbind = ["*:25"]\nrole = "mx"\n', "true", [IMAP]),
        (BOTH, '{ imap = "imap.example.org" }', [TLS, STARTTLS, "imap imap.example.org:993 tls"]),
        (
            submission("*:465"),
            '{ imap = "a.example:143", pop3 = "b.example:110" }',
            [TLS, "imap a.example:143 starttls", "pop3 b.example:110 starttls"],
        ),
        (submission("*:465"), '{ pop3 = "b.example" }', [TLS, "pop3 b.example:995 tls"]),
    ],
)
def test_servers(configured: Configured, text: str, discover: str, expected: list[str]) -> None:
    assert shown(settings_of(configured(text + DOMAIN.replace("{discover}", discover)))) == expected


def records(config: Config) -> list[str]:
    return [f"{one.name} {one.type} {one.value}" for one in settings_of(config).records]


def test_records(configured: Configured) -> None:
    assert records(configured(BOTH + DOMAIN.replace("{discover}", "true"))) == [
        "_submissions._tcp.example.org SRV 0 1 465 mail.example.org.",
        "_submission._tcp.example.org SRV 0 1 587 mail.example.org.",
        "_imaps._tcp.example.org SRV 0 1 993 mail.example.org.",
        "autoconfig.example.org CNAME mail.example.org.",
        "autodiscover.example.org CNAME mail.example.org.",
    ]


def test_records_of_what_is_not_there(configured: Configured) -> None:
    text = '[listen.mx]\nbind = ["*:25"]\nrole = "mx"\n[domain."example.org"]\n'
    assert records(configured(text)) == [
        "_submissions._tcp.example.org SRV 0 0 0 .",
        "_submission._tcp.example.org SRV 0 0 0 .",
        "_imaps._tcp.example.org SRV 0 0 0 .",
    ]


def test_an_address_is_no_target(configured: Configured) -> None:
    text = BOTH + DOMAIN.replace("{discover}", '{ imap = "[2001:db8::1]:993", pop3 = "192.0.2.1" }')
    assert not [record for record in records(configured(text)) if "db8" in record or "192.0.2" in record]


HOSTILE = parse_mailbox('"<b>&\'\\"x"@example.org')


@pytest.fixture
def settings(configured: Configured) -> ClientSettings:
    """With a server of every kind."""
    return settings_of(
        configured(BOTH + DOMAIN.replace("{discover}", '{ imap = "imap.example.org", pop3 = "p.example:110" }'))
    )


def test_autoconfig_is_what_thunderbird_reads(settings: ClientSettings) -> None:
    """Its reader wants: version, a provider with an id, a domain, and one whole server of each kind at least."""
    root = ET.fromstring(autoconfig.document(settings))
    assert (root.tag, root.attrib) == ("clientConfig", {"version": "1.1"})
    (provider,) = root
    assert (provider.tag, provider.attrib) == ("emailProvider", {"id": "example.org"})
    assert [one.text for one in provider.findall("domain")] == ["example.org"]
    assert provider.findtext("displayName")
    assert provider.findtext("displayShortName")
    servers = [one for one in provider if one.tag.endswith("Server")]
    assert [(one.tag, one.get("type")) for one in servers] == [
        ("incomingServer", "imap"),
        ("incomingServer", "pop3"),
        ("outgoingServer", "smtp"),
        ("outgoingServer", "smtp"),
    ]
    for server in servers:
        assert [part.tag for part in server] == ["hostname", "port", "socketType", "username", "authentication"]
        assert server.findtext("username") == "%EMAILADDRESS%"
        assert server.findtext("authentication") == "password-cleartext"
        assert server.findtext("socketType") in {"SSL", "STARTTLS"}
        assert 0 < int(str(server.findtext("port"))) < 65536
    assert [(one.findtext("port"), one.findtext("socketType")) for one in servers] == [
        ("993", "SSL"),
        ("110", "STARTTLS"),
        ("465", "SSL"),
        ("587", "STARTTLS"),
    ]


RESPONSE = "{http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006}"
OUTLOOK = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"


@pytest.mark.parametrize("address", [parse_mailbox("Anna.B@example.org"), HOSTILE])
def test_autodiscover_is_what_outlook_reads(settings: ClientSettings, address: Mailbox) -> None:
    root = ET.fromstring(autodiscover.document(settings, address))
    assert root.tag == f"{RESPONSE}Autodiscover"
    account = root.find(f"{OUTLOOK}Response/{OUTLOOK}Account")
    assert account is not None
    assert account.findtext(f"{OUTLOOK}AccountType") == "email"
    assert account.findtext(f"{OUTLOOK}Action") == "settings"
    found = {}
    for protocol in account.findall(f"{OUTLOOK}Protocol"):
        fields = {part.tag.removeprefix(OUTLOOK): part.text for part in protocol}
        assert fields["LoginName"] == str(address)
        assert (fields["SPA"], fields["AuthRequired"]) == ("off", "on")
        found[fields["Type"]] = (fields["Server"], fields["Port"], fields["SSL"], fields["Encryption"])
    assert found == {
        "IMAP": ("imap.example.org", "993", "on", "SSL"),
        "POP3": ("p.example", "110", "off", "TLS"),
        "SMTP": ("mail.example.org", "465", "on", "SSL"),
    }


def test_starttls_alone_is_said_by_encryption(configured: Configured) -> None:
    config = configured(SUBMISSION.replace("{bind}", '["*:587"]') + DOMAIN.replace("{discover}", "true"))
    text = autodiscover.document(settings_of(config), parse_mailbox("a@example.org")).decode()
    assert "<Port>587</Port>" in text
    assert "<SSL>off</SSL>\n<Encryption>TLS</Encryption>" in text


QUESTION = """\
<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
  <Request>
    <EMailAddress>anna@example.org</EMailAddress>
    <AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\
</AcceptableResponseSchema>
  </Request>
</Autodiscover>
"""


@pytest.mark.parametrize(
    "text",
    [
        QUESTION,
        "\ufeff" + QUESTION,
        QUESTION.replace("\n", "\r\n"),
        QUESTION.replace("anna@", "\n  anna@"),
        "<EMailAddress>anna@example.org</EMailAddress>",
    ],
)
def test_questions(text: str) -> None:
    assert asked_for(text.encode()) == Mailbox("anna", Domain("example.org"))


BOMB = '<!DOCTYPE a [<!ENTITY b "' + "x" * 100 + '"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe<\0E\0",
        b"<EMailAddress></EMailAddress>",
        b"<EMailAddress>nobody</EMailAddress>",
        b"<EMailAddress>a@b.example</EMailAddress><EMailAddress>c@d.example</EMailAddress>",
        b"<EMailAddress>a@b.example",
        b"<EMailAddress>a@" + b"b" * 500 + b"</EMailAddress>",
        b"<EMailAddress>a\r\nX: y@b.example</EMailAddress>",
        b"<EMailAddress>&a;@b.example</EMailAddress>",
        QUESTION.replace("?>", "?>" + BOMB).encode(),
        QUESTION.replace("anna@example.org", "<![CDATA[anna@example.org]]>").encode(),
        QUESTION.replace("anna", "<!-- x -->anna").encode(),
        QUESTION.replace("2006a", "mobilesync").encode(),
        QUESTION.encode("utf-16"),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd">' + QUESTION.encode(),
        QUESTION.replace("?>", '?><?xml-stylesheet href="http://127.0.0.1/"?>').encode(),
    ],
)
def test_what_is_no_question(body: bytes) -> None:
    with pytest.raises(NotUnderstood) as caught:
        asked_for(body)
    assert "example" not in str(caught.value)


def test_text_cannot_leave_its_place() -> None:
    text = xml("<a b='\"'>&\x00\x1b\x9b\ud800\uffff")
    assert not set("<>'\"\x00\x1b\x9b\ud800\uffff") & set(text.replace("&#39;", "").replace("&quot;", ""))
    assert ET.fromstring(f"<r a='{text}'>{text}</r>").text == "<a b='\"'>&?????"
