"""Mail from outside, examined: SPF, DKIM and DMARC on, DNS answered from loopback."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.filters import DOMAIN, Key, dns, one_message, opendkim, opendmarc, spf_policy, with_dns
from bench.lanes import Lane, alternate, rate_figures
from bench.peers import folder, postfix, sink, staffetta
from bench.processes import free_port, tool
from bench.processes import run as run_process
from bench.results import Failed, Figure, ratio_figure

TITLE = "Inbound, examined"
METHOD = (
    "smtp-source sends a signed message of 4 KB over 20 connections, a new one per message; its domain publishes SPF, "
    "a DKIM key and DMARC `p=reject`, answered by a DNS server on loopback, and all three pass. The domain's mail goes "
    "on to smtp-sink as an inner server. Postfix asks OpenDKIM and OpenDMARC as milters and Debian's SPF policy "
    "server; Staffetta does what it does by default, which includes ARC and the reverse name. One message of "
    "each is looked at first: it must carry the results of all three."
)
MESSAGES = 600
ROUNDS = 5
PEER_FACTOR = 2.0

STAFFETTA = """
version = 1
hostname = "relay.bench.example"
data_dir = "{folder}/data"
[listen.mx]
bind = ["127.0.0.1:{port}"]
role = "mx"
tls = "off"
[limits]
connections_per_client = 1000
[domain."target.example"]
deliver = "smtp:127.0.0.1:{sink}"
recipients = "any"
[dns]
servers = ["127.0.0.53"]
[console]
bind = "off"
[log]
format = "json"
{extra}
"""

POSTFIX = """
relay_domains = target.example
smtpd_milters = inet:127.0.0.1:{dkim}, inet:127.0.0.1:{dmarc}
milter_default_action = tempfail
milter_protocol = 6
smtpd_recipient_restrictions = reject_unauth_destination, check_policy_service unix:{folder}/spool/private/policyd-spf
policyd-spf_time_limit = 3600
mynetworks = 192.0.2.1
"""


def _letter(key: Key) -> bytes:
    head = (
        f"From: sender@{DOMAIN}\r\nTo: recipient@target.example\r\nSubject: a letter\r\n"
        f"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <letter@{DOMAIN}>\r\n\r\n"
    ).encode()
    return key.signed(head + b"All work and no play makes a dull relay, some say.\r\n" * 78)


def _source(letter: Path, port: int, messages: int, connections: int = 20) -> None:
    command = [
        tool("smtp-source"),
        *("-s", str(connections), "-m", str(messages), "-F", str(letter), "-M", f"mail.{DOMAIN}"),
        *("-f", f"sender@{DOMAIN}", "-t", "recipient@target.example", f"127.0.0.1:{port}"),
    ]
    run_process(command, 120)


def run() -> list[Figure]:
    with ExitStack() as stack:
        key = Key()
        stack.enter_context(dns(key.zones))
        path = stack.enter_context(folder("letter"))
        letter = path / "letter"
        # smtp-source wants a file as Unix has them.
        letter.write_bytes(_letter(key).replace(b"\r\n", b"\n"))
        send = partial(_source, letter)
        behind = free_port()
        ours = stack.enter_context(staffetta(behind, STAFFETTA))
        dkim = stack.enter_context(opendkim(key, verify=True))
        dmarc = stack.enter_context(opendmarc())
        service = stack.enter_context(spf_policy())

        def prepare(place: Path) -> None:
            with (place / "etc" / "master.cf").open("a") as master:
                master.write(service)
            main = place / "etc" / "main.cf"
            main.write_text(main.read_text().replace("FOLDER", str(place)))

        extra = POSTFIX.format(dkim=dkim, dmarc=dmarc, folder="FOLDER")
        theirs = stack.enter_context(postfix(behind, extra, prepare, partial(with_dns, path)))
        for name, port in (("Staffetta", ours.port), ("Postfix", theirs.port)):
            content = one_message(behind, partial(send, port, 1, 1))
            missing = [word for word in (b"spf=pass", b"dkim=pass", b"dmarc=pass") if word not in content]
            if missing:
                raise Failed(f"what comes from {name} lacks {missing}: {content[:1200]!r}")
        target = stack.enter_context(sink(behind))
        lanes = {"staffetta": Lane(ours, send, target), "postfix": Lane(theirs, send, target)}
        neighbours = alternate(lanes, MESSAGES, ROUNDS)
    ratio = ratio_figure(
        "staffetta / postfix with its filters", lanes["staffetta"].rates, lanes["postfix"].rates, PEER_FACTOR
    )
    return [*rate_figures(lanes), neighbours, ratio]
