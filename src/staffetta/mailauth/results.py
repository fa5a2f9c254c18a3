"""What checking a message came to: one frozen value for each method, and all of them together.

RFC 8601 section 2.7 (the words of the results), RFC 7208 section 2.6 (SPF), RFC 6376 section 3.9 (DKIM), RFC 9989
(DMARC), RFC 8617 (ARC), RFC 5782 (lists). Domains are ASCII in lower case without the last dot; "" means nobody.
Texts that came from outside are as they came: whoever writes them somewhere escapes them there.
This module refuses to know how a result is reached and what follows from it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from staffetta.dns.blocklist import Listing
from staffetta.dns.hello import HelloWord
from staffetta.dns.reverse import Reverse


class SpfWord(StrEnum):
    """RFC 7208 section 2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class Word(StrEnum):
    """RFC 8601 sections 2.7.1 and 2.7.2: the results of DKIM, DMARC and ARC (each uses some of them)."""

    NONE = "none"
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    POLICY = "policy"
    NEUTRAL = "neutral"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class SpfResult(msgspec.Struct, frozen=True, gc=False):
    """One SPF check. `domain` is the one whose record was asked. `mechanism` is the term that matched, as written.

    `problem` says why it is an error; `explanation` is the domain owner's text (`exp`), printable ASCII, never trusted.
    """

    word: SpfWord
    domain: str = ""
    mechanism: str = ""
    problem: str = ""
    explanation: str = ""


class DkimResult(msgspec.Struct, frozen=True, gc=False):
    """One signature. `domain` is `d=`, `selector` `s=`, `agent` `i=` (the default filled in), `signature` the first
    octets of `b=` (RFC 6008). `body_limited`: `l=` covers less than the body, so the rest is anybody's."""

    word: Word
    domain: str = ""
    selector: str = ""
    agent: str = ""
    algorithm: str = ""
    signature: str = ""
    problem: str = ""
    key_bits: int = 0
    testing: bool = False
    body_limited: bool = False


class DmarcPolicy(StrEnum):
    """What the domain's owner asks for."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


class DmarcResult(msgspec.Struct, frozen=True, gc=False):
    """DMARC of one message. `domain` is the one of From; `policy_domain` where the record stands. `policy` is what
    applies to this From domain (p, sp or np, and weakened by `t=y`). `aligned_by` lists `spf` and `dkim` that agree.

    `published` are the tags of the record as read, for aggregate reports (RFC 9990). `author_problem`: From could be
    read in several ways, so that nothing passes and nobody vouches for the message.
    """

    word: Word
    domain: str = ""
    policy_domain: str = ""
    organizational_domain: str = ""
    policy: DmarcPolicy = DmarcPolicy.NONE
    aligned_by: tuple[str, ...] = ()
    testing: bool = False
    problem: str = ""
    published: tuple[tuple[str, str], ...] = ()
    author_problem: str = ""


class ArcResult(msgspec.Struct, frozen=True, gc=False):
    """The chain of custody. `sealers` are the `d=` of valid seals, oldest first; `instance` is the newest set."""

    word: Word
    instance: int = 0
    sealers: tuple[str, ...] = ()
    problem: str = ""


class Checks(msgspec.Struct, frozen=True, gc=False):
    """Everything that was found out about one message. None: not asked."""

    helo: SpfResult | None = None
    spf: SpfResult | None = None
    dkim: tuple[DkimResult, ...] | None = None
    dmarc: DmarcResult | None = None
    arc: ArcResult | None = None
    reverse: Reverse | None = None
    listings: tuple[Listing, ...] = ()
    queries: int = 0
    hello: HelloWord | None = None
