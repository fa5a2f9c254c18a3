"""TLSA records of mail servers: where they stand, and which of them a sender can use.

RFC 6698 section 2.1 (the fields), RFC 7671, RFC 7672 section 3.1 (for SMTP: only DANE-TA and DANE-EE).
This module refuses to know certificates; whether the answer was authenticated is the resolver's word.
"""

from __future__ import annotations

from typing import Final

from staffetta.dns.resolver import TlsAssociation

_DIGEST_OCTETS: Final = {1: 32, 2: 64}
"""SHA-256 and SHA-512."""


def tlsa_name(host: str, port: int = 25) -> str:
    """Where the TLSA records of a mail server stand."""
    return f"_{port}._tcp.{host}"


def why_unusable(record: TlsAssociation) -> str:
    """Why a sender passes over this record; "" when it can be used."""
    if record.usage in {0, 1}:
        return f"usage {record.usage} leans on public authorities, which has no meaning for mail"
    if record.usage > 3:
        return f"usage {record.usage} is unknown"
    if record.selector > 1:
        return f"selector {record.selector} is unknown"
    if record.matching_type > 2:
        return f"matching type {record.matching_type} is unknown"
    expected = _DIGEST_OCTETS.get(record.matching_type)
    if not record.data:
        return "it holds no data"
    if expected is not None and len(record.data) != expected:
        return f"its digest has {len(record.data)} octets where {expected} are due"
    return ""


def tlsa_text(record: TlsAssociation) -> str:
    """The record as a zone file has it."""
    return f"{record.usage} {record.selector} {record.matching_type} {record.data.hex()}"


__all__ = ["tlsa_name", "tlsa_text", "why_unusable"]
