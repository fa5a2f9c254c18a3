"""A domain that does everything right, and the ways to change one thing of it."""

from __future__ import annotations

import asyncio
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from staffetta.control.check_domain_gather import DomainQuestion, gather_facts
from staffetta.dns.table import TableResolver
from staffetta.mailauth.dkim.record import write_record
from staffetta.policy.posture.facts import DomainFacts, PolicyFile

ADDRESS = "11.22.33.44"
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mx.good.example\r\nmax_age: 604800\r\n"
KEYS = {bits: write_record(rsa.generate_private_key(65537, bits).public_key()) for bits in (1024, 2048)}
KEYS[25519] = write_record(ed25519.Ed25519PrivateKey.generate().public_key())
SHORT_KEY = (
    "v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAONSnDt3Mwvb1yEN/wds4u+HsLEl7B19oKbrjJ69af4p121DMPFEa+qwwR/e"
    "y5HON1vI+7y95cCZQWTYOZ92fEUCAwEAAQ=="
)
"""An RSA key of 512 bits."""


def domain(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The zones of good.example; `changes` replace what stands at a name, None takes it away."""
    table: dict[str, Any] = {
        "example": {},
        "com": {},
        "good.example": {"MX": ["10 mx.good.example"], "TXT": [f"v=spf1 ip4:{ADDRESS} -all"]},
        "mx.good.example": {"A": [ADDRESS]},
        "44.33.22.11.in-addr.arpa": {"PTR": ["mx.good.example"]},
        "_dmarc.good.example": {"TXT": ["v=DMARC1; p=reject; rua=mailto:dmarc@good.example"]},
        "s1._domainkey.good.example": {"TXT": [KEYS[2048]]},
        "_mta-sts.good.example": {"TXT": ["v=STSv1; id=20260101"]},
        "_smtp._tls.good.example": {"TXT": ["v=TLSRPTv1; rua=mailto:tls@good.example"]},
    }
    table |= changes or {}
    return {name: entry for name, entry in table.items() if entry is not None}


def facts_of(
    table: dict[str, Any], policy: PolicyFile | str = POLICY, *, authenticated: bool = False, **question: Any
) -> DomainFacts:
    """What is found out about good.example."""

    async def fetch(name: str) -> PolicyFile:
        url = f"https://mta-sts.{name}/.well-known/mta-sts.txt"
        return policy if isinstance(policy, PolicyFile) else PolicyFile(url, policy.encode(), content_type="text/plain")

    resolver = TableResolver(table, authenticated=authenticated)
    asked = DomainQuestion(**{"domain": "good.example", **question})
    return asyncio.run(gather_facts(resolver, asked, fetch))
