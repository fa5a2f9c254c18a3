"""What an aggregate report needs to know of one message (RFC 9990 section 3.1), small enough to be kept for each.

Equal records are one row of a report and are counted: the record is its own key. No user, no subject and no recipient
is in it. This module refuses to know how reports are made and sent.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mailauth.results import Checks, DmarcPolicy, DmarcResult, Word

SIGNATURES: Final = 8
"""Most signatures of one message that are kept."""


class DkimRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One signature: its domain, selector and result."""

    domain: str
    selector: str
    result: str


class DmarcRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One message as a report sees it.

    `published` is the policy as read, at `policy_domain`. `disposition` is what was done of what it asks for: `pass`,
    `none`, `quarantine` or `reject`. `dkim` and `spf` say whether they agreed with From. `override` is the reason of
    RFC 9990 for doing other than the policy asked, `comment` its explanation. SPF is that of MAIL FROM, the only one
    that DMARC knows.
    """

    source: str
    policy_domain: str
    header_from: str
    disposition: str
    published: tuple[tuple[str, str], ...] = ()
    envelope_from: str = ""
    dkim: bool = False
    spf: bool = False
    override: str = ""
    comment: str = ""
    signatures: tuple[DkimRow, ...] = ()
    spf_domain: str = ""
    spf_result: str = ""

    @property
    def wants_reports(self) -> bool:
        """Whether the domain asked for reports."""
        return any(name == "rua" for name, _ in self.published)


class Handling(msgspec.Struct, frozen=True, gc=False):
    """What became of the message: `refused`, `junked`, or neither; and why a policy was not followed."""

    refused: bool = False
    junked: bool = False
    override: str = ""
    comment: str = ""


def dmarc_record(client: str, envelope_from: str, checks: Checks, handling: Handling) -> DmarcRecord | None:
    """The record of one message; None when no policy applied to it, or none could be found out.

    `client` is the peer's address, `envelope_from` the domain of MAIL FROM ("" for the null path). A message that was
    put off is no record yet. One whose From was unclear is none: the domain in it may have nothing to do with it.
    """
    result = checks.dmarc
    if result is None or result.word not in {Word.PASS, Word.FAIL} or result.author_problem:
        return None
    return DmarcRecord(
        source=client,
        policy_domain=result.policy_domain,
        header_from=result.domain,
        disposition=_disposition(result, handling),
        published=result.published,
        envelope_from=envelope_from,
        dkim="dkim" in result.aligned_by,
        spf="spf" in result.aligned_by,
        override=handling.override,
        comment=handling.comment,
        signatures=tuple([DkimRow(one.domain, one.selector, one.word.value) for one in checks.dkim or ()][:SIGNATURES]),
        spf_domain=checks.spf.domain if checks.spf is not None else "",
        spf_result=checks.spf.word.value if checks.spf is not None else "",
    )


def _disposition(result: DmarcResult, handling: Handling) -> str:
    """What a message met for other reasons, such as a block list, is not the domain's business: it would look for a
    fault in its own mail."""
    if result.word is Word.PASS:
        return "pass"
    if handling.refused:
        return result.policy.value
    if handling.junked and result.policy is not DmarcPolicy.NONE:
        return DmarcPolicy.QUARANTINE.value
    return DmarcPolicy.NONE.value
