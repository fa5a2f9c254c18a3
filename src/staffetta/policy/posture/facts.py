"""What was asked about a domain, and what came: the facts that the judges of this package read.

Answers are kept as they came; a question that was not answered has its `failure`, which is never an absence.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from staffetta.dns.blocklist import Listing
from staffetta.dns.resolver import TlsAssociation
from staffetta.dns.reverse import Reverse
from staffetta.mailauth.dmarc.discovery import Walk
from staffetta.mailauth.spf.count import SpfInspection


class Texts(msgspec.Struct, frozen=True, gc=False):
    """The TXT records of one name."""

    name: str
    texts: tuple[bytes, ...] = ()
    failure: str = ""


class TlsaFacts(msgspec.Struct, frozen=True, gc=False):
    """The TLSA records of one MX host. `authenticated`: by a validating resolver on this machine."""

    name: str = ""
    records: tuple[TlsAssociation, ...] = ()
    unusable: int = 0
    authenticated: bool = False
    failure: str = ""


class AddressFacts(msgspec.Struct, frozen=True, gc=False):
    """One address of an MX host. `denied`: why nobody outside can reach it, "" when they can."""

    address: str
    denied: str = ""
    reverse: Reverse = Reverse()
    listings: tuple[Listing, ...] = ()


class HostFacts(msgspec.Struct, frozen=True, gc=False):
    """One MX host. `alias` is the name that it is a CNAME of."""

    preference: int
    host: str
    addresses: tuple[AddressFacts, ...] = ()
    alias: str = ""
    failure: str = ""
    tlsa: TlsaFacts = TlsaFacts()


class MxFacts(msgspec.Struct, frozen=True, gc=False):
    """`exists` false: NXDOMAIN. `records` are the MX as they stand; `unusable` of them name nothing that can be a host.

    `implicit`: no MX, but an address. `authenticated`: the MX answer was.
    """

    exists: bool = True
    records: tuple[str, ...] = ()
    null: bool = False
    unusable: int = 0
    implicit: bool = False
    hosts: tuple[HostFacts, ...] = ()
    authenticated: bool = False
    failure: str = ""


class Origin(StrEnum):
    """Why a selector was asked for: it is of our keys, it was named, or many use it."""

    OURS = "ours"
    NAMED = "named"
    COMMON = "common"


class SelectorFacts(msgspec.Struct, frozen=True, gc=False):
    """One selector. `expected` is the record of our key there, and `signs` whether it signs now."""

    selector: str
    origin: Origin
    found: Texts
    expected: str = ""
    signs: bool = False


class ReportTarget(msgspec.Struct, frozen=True, gc=False):
    """A destination of DMARC reports outside the organization, and the record that must let it in (RFC 9990 section 4).

    `allowed` None: the DNS did not say.
    """

    uri: str
    record: str
    allowed: bool | None


class DmarcRecordFacts(msgspec.Struct, frozen=True, gc=False):
    """`own` is what stands at the domain itself; `applied` is the text of the record that applies, which may be that of
    the organization."""

    own: Texts
    walk: Walk
    applied: Texts
    outside: tuple[ReportTarget, ...] = ()


class PolicyFile(msgspec.Struct, frozen=True, gc=False):
    """The MTA-STS policy file. `problem`: why it could not be fetched. `content_type` as the server said."""

    url: str
    data: bytes = b""
    problem: str = ""
    content_type: str = ""


class StsFacts(msgspec.Struct, frozen=True, gc=False):
    """`file` None: not fetched, because nothing announces it."""

    record: Texts
    file: PolicyFile | None = None


class DomainFacts(msgspec.Struct, frozen=True, gc=False):
    """All of it. `local`: a domain of this relay. `keys_problem`: why our own keys could not be read."""

    domain: str
    mx: MxFacts
    spf: SpfInspection
    dmarc: DmarcRecordFacts
    sts: StsFacts
    tls_rpt: Texts
    selectors: tuple[SelectorFacts, ...] = ()
    local: bool = False
    keys_problem: str = ""
    lists: tuple[str, ...] = ()
