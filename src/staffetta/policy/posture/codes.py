"""The codes of findings about a domain, and what each is about, for `staffetta help` and the reference page.

A code never changes its meaning; one that is no longer used is not given to anything else.
"""

from __future__ import annotations

from typing import Final

GROUPS: Final = {
    "0": "the DNS itself",
    "1": "where mail goes: MX, hosts, addresses and their names",
    "2": "SPF",
    "3": "DKIM",
    "4": "DMARC",
    "5": "TLS on the way: MTA-STS, TLS-RPT, DANE",
    "6": "block lists",
}
"""What the first digit says."""

CODES: Final = {
    "D001": "The DNS does not answer a question without which a verdict cannot be had.",
    "D002": "The domain does not exist.",
    "D101": "There is no MX and no address: mail to the domain is returned.",
    "D102": "The domain says that it takes no mail (null MX).",
    "D103": "There is no MX, so that mail goes to the domain's own address.",
    "D104": "An MX host has no address.",
    "D105": "An MX host is an alias (CNAME), which some servers refuse.",
    "D106": "An MX host has an address that nobody outside reaches.",
    "D107": "A null MX stands beside other MX records.",
    "D108": "An MX record names no host, but an address or nonsense.",
    "D110": "An address of an MX host has no reverse name. A warning where SPF lets it send.",
    "D111": "The reverse name of an address of an MX host does not lead back to it. A warning where SPF lets it send.",
    "D112": "The addresses of an MX host are not known, because the DNS does not answer.",
    "D113": "The reverse name of an address is not known, because the DNS does not answer.",
    "D201": "There is no SPF record.",
    "D202": "There are several SPF records, which count for nothing.",
    "D203": "The SPF record has a term that is malformed, and so says nothing.",
    "D204": "SPF needs more than ten DNS lookups.",
    "D205": "SPF has more than two lookups that find nothing.",
    "D206": "SPF passes everybody.",
    "D207": "SPF ends with ?all and refuses nobody. A note beside an enforced DMARC policy.",
    "D208": "SPF ends with ~all. An opinion, never a fault.",
    "D209": "SPF does not end with all and refuses nobody. A note beside an enforced DMARC policy.",
    "D210": "SPF uses ptr, which is slow and often ignored.",
    "D211": "SPF includes a domain without a record, itself, or too many MX hosts: checks end in permerror.",
    "D212": "A term of SPF finds nothing. Whoever gets hold of the name may send.",
    "D213": "A term of SPF stands behind all and is never looked at.",
    "D214": "The SPF record is so long that an answer may not fit one datagram.",
    "D215": "SPF passes a sender that many customers share. A warning unless a DMARC policy is enforced.",
    "D216": "How many lookups SPF needs.",
    "D218": "SPF cannot be followed to its end, because the DNS does not answer.",
    "D300": "The DKIM keys that were found and that receivers accept.",
    "D301": "No DKIM key was found under the selectors that were asked for.",
    "D302": "The record of a key of this relay that signs is missing, or holds another key.",
    "D303": "An RSA key shorter than 1024 bits, which receivers ignore and others can calculate.",
    "D304": "An RSA key shorter than 2048 bits.",
    "D305": "A selector is revoked.",
    "D306": "A key is in test mode (t=y).",
    "D307": "A DKIM record cannot be used.",
    "D308": "There is no key under a selector that was named.",
    "D309": "Only Ed25519 keys were found, which many receivers do not check.",
    "D310": "There are several records under one selector.",
    "D311": "The record of a key of this relay that does not sign now is missing.",
    "D312": "The keys of this relay could not be read.",
    "D313": "A key is not known, because the DNS does not answer.",
    "D400": "What the DMARC policy asks for.",
    "D401": "There is no DMARC record.",
    "D402": "There are several DMARC records, which count for nothing.",
    "D403": "The DMARC policy asks for nothing (p=none).",
    "D404": "The DMARC policy asks for quarantine.",
    "D405": "The DMARC policy asks for less in the name of subdomains.",
    "D407": "The DMARC policy is in test mode (t=y).",
    "D408": "The DMARC record has no valid policy.",
    "D409": "The DMARC record has a pct, which is history.",
    "D410": "Nobody gets DMARC reports.",
    "D411": "DMARC reports go to a domain that does not say that it wants them.",
    "D412": "The DMARC record of the organization applies.",
    "D413": "The DMARC record says that the domain is a public suffix.",
    "D415": "DMARC reports have no mail address to go to.",
    "D416": "Whether DMARC reports may go to another domain is not known.",
    "D501": "Neither MTA-STS nor DANE makes senders insist on TLS.",
    "D502": "The MTA-STS record is malformed, or there are several.",
    "D503": "The MTA-STS policy cannot be fetched.",
    "D504": "The MTA-STS policy is malformed.",
    "D505": "The MTA-STS policy does not name an MX host.",
    "D506": "The MTA-STS policy is not in force.",
    "D507": "The MTA-STS policy is forgotten within a day.",
    "D508": "Whether there is an MTA-STS policy is not known.",
    "D509": "The MTA-STS policy is not served as text/plain.",
    "D510": "There is no TLS-RPT record.",
    "D511": "The TLS-RPT record counts for nothing.",
    "D520": "DANE verifies an MX host.",
    "D521": "There are TLSA records, which this resolver does not vouch for.",
    "D522": "A TLSA record cannot be used.",
    "D524": "Some MX hosts have TLSA records, some have none.",
    "D525": "The question for TLSA gets no answer: senders that know DANE keep mail waiting.",
    "D601": "An address of an MX host is on a block list. A fault where SPF lets it send.",
    "D602": "A block list says nothing that counts.",
}


def page() -> str:
    """The reference page, `docs/reference/checks.md`."""
    lines = [
        "# Findings of `staffetta check domain`",
        "",
        "<!-- Made by staffetta.policy.posture.codes. Do not edit. -->",
        "",
        "A **fault** breaks something, a **warning** allows or risks something, a **note** is for who wants to know;",
        "what is a matter of opinion is a note. Codes are stable. `staffetta help D401` says one line of this page.",
    ]
    for digit, about in GROUPS.items():
        lines += ["", f"## D{digit}xx: {about}", "", "| code | what is so |", "| --- | --- |"]
        lines += [f"| `{code}` | {text} |" for code, text in CODES.items() if code[1] == digit]
    return "\n".join(lines) + "\n"


__all__ = ["CODES", "GROUPS", "page"]
