"""What people write, and what it becomes; what they write wrongly, and what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from staffetta.config import values
from staffetta.config.schema import DomainPattern, Rate, Resolver
from staffetta.config.values import Wrong
from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.net.endpoint import Bind

ORG = Domain("example.org")

RIGHT: list[tuple[Callable[[str], Any], str, Any]] = [
    (values.parse_duration, "30s", 30),
    (values.parse_duration, "5m", 300),
    (values.parse_duration, "4h", 14_400),
    (values.parse_duration, "5d", 432_000),
    (values.parse_duration, "0s", 0),
    (values.parse_size, "512B", 512),
    (values.parse_size, "64KiB", 65_536),
    (values.parse_size, "25MiB", 26_214_400),
    (values.parse_size, "1GiB", 1 << 30),
    (values.parse_rate, "80/s", Rate(80, 1)),
    (values.parse_rate, "500/h", Rate(500, 3600)),
    (values.parse_domain_name, "EXAMPLE.org", ORG),
    (values.parse_domain_name, "bücher.example", Domain("xn--bcher-kva.example")),
    (values.parse_address, "Anna@Example.org", Mailbox("Anna", ORG)),
    (values.parse_address, "jörg@example.org", Mailbox("jörg", ORG)),
    (values.parse_local_part, "Info", "info"),
    (values.parse_local_part, "first.last", "first.last"),
    (values.parse_local_part_or_address, "anna", "anna"),
    (values.parse_local_part_or_address, "anna@example.org", Mailbox("anna", ORG)),
    (values.parse_sender, "example.org", ORG),
    (values.parse_sender, "a@example.org", Mailbox("a", ORG)),
    (values.parse_pattern, "*", DomainPattern(None)),
    (values.parse_pattern, "example.org", DomainPattern(ORG)),
    (values.parse_pattern, ".example.org", DomainPattern(ORG, True)),
    (values.parse_ip, "2001:DB8:0::1", "2001:db8::1"),
    (values.parse_bind_of, "*:25", Bind("*", 25)),
    (values.parse_bind_of, "127.0.0.1:0", Bind("127.0.0.1", 0)),
    (values.parse_bind_of, "localhost:2525", Bind("localhost", 2525)),
    (values.parse_bind_of, "[2001:DB8::1]:465", Bind("2001:db8::1", 465)),
    (values.parse_hop, "smtp.example.org", ("smtp.example.org", None)),
    (values.parse_hop, "SMTP.example.org:587", ("smtp.example.org", 587)),
    (values.parse_hop, "192.0.2.1:25", ("192.0.2.1", 25)),
    (values.parse_hop, "[2001:db8::1]", ("2001:db8::1", None)),
    (values.parse_hop, "[2001:db8::1]:25", ("2001:db8::1", 25)),
    (values.parse_resolver, "192.0.2.53", Resolver("192.0.2.53", 53)),
    (values.parse_resolver, "192.0.2.53:5353", Resolver("192.0.2.53", 5353)),
    (values.parse_resolver, "2001:db8::53", Resolver("2001:db8::53", 53)),
    (values.parse_resolver, "[2001:db8::53]:5353", Resolver("2001:db8::53", 5353)),
    (values.parse_separator, "", ""),
    (values.parse_separator, "-", "-"),
    (values.parse_folder, "Junk", "Junk"),
    (values.parse_selector, "s2025", "s2025"),
    (values.parse_selector, "20230601", "20230601"),
]

WRONG: list[tuple[Callable[[str], Any], str, str, str]] = [
    (values.parse_duration, "5", '"5" is not a duration', 'such as "5m"'),
    (values.parse_duration, "5 m", "not a duration", "s, m, h or d"),
    (values.parse_duration, "-5m", "not a duration", ""),
    (values.parse_duration, "5M", "not a duration", ""),
    (values.parse_duration, "1h30m", "not a duration", ""),
    (values.parse_duration, "\u0665m", "not a duration", ""),
    (values.parse_duration, "9999999999s", "not a duration", ""),
    (values.parse_size, "25MB", "not a size", 'write "25MiB"'),
    (values.parse_size, "25 m", "not a size", 'write "25MiB"'),
    (values.parse_size, "many", "not a size", "KiB, MiB or GiB"),
    (values.parse_rate, "80", "not a rate", 'such as "80/s"'),
    (values.parse_rate, "80/sec", "not a rate", ""),
    (values.parse_rate, "0/s", "sends nothing", "leave the key out"),
    (values.parse_domain_name, "a@example.org", "not a domain", "without what stands before the @"),
    (values.parse_domain_name, "example.org.", "not a domain", "leave the dot"),
    (values.parse_domain_name, "https://example.org", "not a domain", "without scheme"),
    (values.parse_domain_name, "192.0.2.1", "not a domain", ""),
    (values.parse_domain_name, "under_score.example", "not a domain", ""),
    (values.parse_domain_name, "", "not a domain", ""),
    (values.parse_address, "anna", "needs a domain", 'such as "anna@example.org"'),
    (values.parse_address, "Anna <anna@example.org>", "not an address", "without name and angle brackets"),
    (values.parse_local_part, "anna@example.org", "is an address", '"anna"'),
    (values.parse_local_part, "an na", "not a local part", ""),
    (values.parse_pattern, "*.example.org", "not a domain", 'write ".example.org"'),
    (values.parse_ip, "eth0", "not an IP address", ""),
    (values.parse_ip, "fe80::1%eth0", "not an IP address", ""),
    (values.parse_ip, "010.0.0.1", "not an IP address", ""),
    (values.parse_network_of, "10.0.0.1/8", "bits beyond its prefix", 'did you mean "10.0.0.0/8"?'),
    (values.parse_network_of, "10.0.0.0/255.0.0.0", "not a network", 'did you mean "10.0.0.0/8"?'),
    (values.parse_network_of, "10.0.0.9-10.0.0.1", "ends before it starts", "CIDR"),
    (values.parse_network_of, "localhost", "not a network", "CIDR"),
    (values.parse_bind_of, "25", "has no port", 'write "*:25"'),
    (values.parse_bind_of, "192.0.2.1", "has no port", 'write "192.0.2.1:25"'),
    (values.parse_bind_of, ":25", "has no address", 'write "*:25"'),
    (values.parse_bind_of, "::1:25", "stands in brackets", 'write "[::1]:25"'),
    (values.parse_bind_of, "*:70000", '"70000" is not a port', "1 to 65535"),
    (values.parse_bind_of, "*:smtp", '"smtp" is not a port', ""),
    (values.parse_bind_of, "mail.example.org:25", "not an address of this machine", '"*:25"'),
    (values.parse_bind_of, "unix:/run/x", "not a port", ""),
    (values.parse_hop, "smtp://mail.example.org", "not HOST", 'leave "smtp://" out'),
    (values.parse_hop, "mail.example.org:0", "not a port", ""),
    (values.parse_hop, "mail.example.org:", "not a port", ""),
    (values.parse_hop, "2001:db8::1", "stands in brackets", 'write "[2001:db8::1]"'),
    (values.parse_hop, "[2001:db8::1", "bracket too few", ""),
    (values.parse_hop, "[mail.example.org]:25", "without brackets", 'write "mail.example.org:25"'),
    (values.parse_resolver, "dns.example.org", "not an address of a resolver", "cannot be looked up"),
    (values.parse_resolver, "192.0.2.53:0", "not a port", ""),
    (values.parse_separator, "++", "cannot separate", ""),
    (values.parse_separator, ".", "cannot separate", ""),
    (values.parse_folder, "../Junk", "not a folder name", ""),
    (values.parse_folder, "", "not a folder name", ""),
    (values.parse_selector, "a b", "not a selector", ""),
]


@pytest.mark.parametrize(("parse", "text", "value"), RIGHT, ids=lambda part: getattr(part, "__name__", None))
def test_right(parse: Callable[[str], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text", "words", "cure"), WRONG, ids=lambda part: getattr(part, "__name__", None))
def test_wrong(parse: Callable[[str], Any], text: str, words: str, cure: str) -> None:
    with pytest.raises(Wrong) as caught:
        parse(text)
    assert words in str(caught.value)
    assert cure in caught.value.cure
    assert caught.value.cure


def test_messages_are_short_and_printable() -> None:
    with pytest.raises(Wrong) as caught:
        values.parse_duration("\x1b[31m\u202e" + "x" * 5000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 120
