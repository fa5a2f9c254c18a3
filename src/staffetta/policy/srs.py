"""In whose name forwarded mail goes on, so that SPF passes at its target and bounces come back (SRS).

There is no RFC; the form is the one that other forwarders know and recognise:

    SRS0=TAG=DAY=DOMAIN=LOCAL@OURS                for a sender that was never rewritten
    SRS1=TAG=FORWARDER==REST@OURS                 for one that another forwarder rewrote: bounces skip to that one

RFC 7208 section 11.3 (forwarding breaks SPF), RFC 5321 section 3.6.3 and 4.4. TAG is keyed, so that nobody can make an
address of ours that sends to a third party, and DAY ends its use. Only bounces may come back this way: the caller
sees to it. An address that does not fit into a local part stays as it is: then SPF fails at the target as it would
without all this, and its DKIM signature still speaks for it.
This module refuses to know who exists.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Final

import msgspec

from staffetta.mail.address import LOCAL_PART_OCTETS, AddressError, Mailbox, parse_mailbox
from staffetta.mail.domain import Domain

DAY_SECONDS: Final = 86_400

LIFETIME_DAYS: Final = 21
"""How long bounces may come: servers give up after five days or a week, and some hold mail for longer."""

TAG_OCTETS: Final = 5
"""Of a keyed hash, eight characters when written; a guess costs its maker one refused recipient."""

_DAYS: Final = 1024
_DIGITS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_FLAGS: Final = re.IGNORECASE | re.ASCII  # or a long s would be one of the letters, and no tag
_FIRST = re.compile(r"srs0[=+-]([a-z2-7]{8})=([a-z2-7]{2})=([^=@]+)=(.+)", _FLAGS)
_FOREIGN_FIRST = re.compile(r"srs0([=+-].+)", _FLAGS)
_SECOND = re.compile(r"srs1[=+-]([a-z2-7]{8})=([^=@]+)=([=+-].+)", _FLAGS)
_FOREIGN_SECOND = re.compile(r"srs1[=+-][^=]*=([^=@]+)=([=+-].+)", _FLAGS)
_PREFIX = re.compile(r"srs[01][=+-]", _FLAGS)


class Forwarding(msgspec.Struct, frozen=True):
    """`secret` is this installation's; who knows it can make addresses that we send bounces to."""

    secret: bytes

    def forward(self, sender: Mailbox, ours: Domain, now: float) -> Mailbox:
        """The sender of mail that `ours` forwards; `sender` itself where it cannot be rewritten."""
        local = sender.local_part
        if not isinstance(sender.domain, Domain) or not local.isascii():
            return sender
        second = _FOREIGN_SECOND.fullmatch(local)
        first = _FOREIGN_FIRST.fullmatch(local)
        if second is not None:
            forwarder, rest = second.groups()
            text = f"SRS1={self._tag(f'{forwarder}={rest}')}={forwarder}={rest}"
        elif first is not None:
            forwarder, rest = sender.domain.ascii, first[1]
            text = f"SRS1={self._tag(f'{forwarder}={rest}')}={forwarder}={rest}"
        else:
            day = _day(now)
            original = f"{day}={sender.domain.ascii}={local}"
            text = f"SRS0={self._tag(original)}={original}"
        return sender if len(text) > LOCAL_PART_OCTETS else Mailbox(text, ours)

    def backward(self, local_part: str, now: float) -> Mailbox | None:
        """The sender that a bounce to one of our rewritten addresses is for; None when it is not ours, or too old."""
        first = _FIRST.fullmatch(local_part)
        if first is not None:
            tag, day, domain, local = first.groups()
            if not self._is_ours(tag, f"{day.lower()}={domain}={local}") or _age(day, now) > LIFETIME_DAYS:
                return None
            return _parsed(f"{_quoted(local)}@{domain}")
        second = _SECOND.fullmatch(local_part)
        if second is None:
            return None
        tag, forwarder, rest = second.groups()
        if not self._is_ours(tag, f"{forwarder}={rest}"):
            return None
        return _parsed(f"{_quoted(f'SRS0{rest}')}@{forwarder}")

    def _is_ours(self, tag: str, text: str) -> bool:
        return hmac.compare_digest(tag.lower(), self._tag(text))

    def _tag(self, text: str) -> str:
        # The case of an address does not always survive its way; the tag must.
        digest = hmac.digest(self.secret, b"srs\0" + text.lower().encode(), "sha256")
        return base64.b32encode(digest[:TAG_OCTETS]).decode().lower()


def looks_rewritten(local_part: str) -> bool:
    """Whether a local part has the form of a rewritten sender, ours or anybody's."""
    return _PREFIX.match(local_part) is not None


def _day(now: float) -> str:
    number = int(now // DAY_SECONDS) % _DAYS
    return _DIGITS[number >> 5] + _DIGITS[number & 31]


def _age(day: str, now: float) -> int:
    """In days, counted around the circle; a day that is still to come is very old."""
    day = day.lower()
    return (int(now // DAY_SECONDS) - (_DIGITS.index(day[0]) * 32 + _DIGITS.index(day[1]))) % _DAYS


def _quoted(local: str) -> str:
    """The local part as an address writes it: ours are dot-atoms unless the original had to be quoted."""
    return str(Mailbox(local, Domain("example"))).rpartition("@")[0]


def _parsed(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except AddressError:
        return None
