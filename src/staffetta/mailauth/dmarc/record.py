"""A DMARC policy record: the text of one TXT record at `_dmarc.DOMAIN`, read tag by tag.

RFC 9989 sections 4.7 (tags) and 4.8 (grammar: unknown tags and broken values are ignored, the version is not). `pct`,
`rf` and `ri` are history and are not read.
This module refuses to know where the record was found and what follows from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from staffetta.mailauth.results import DmarcPolicy

RECORD_OCTETS: Final = 8192
"""Longest record that is read. Real ones stay under 500 octets; what lies beyond is not looked at."""

REMEMBERED_OCTETS: Final = 512
"""Records up to here are remembered as read; longer ones are somebody's experiment."""

REPORT_URIS: Final = 10
"""Most destinations of reports that are kept; two or three are usual."""

_TAG_NAME = re.compile(r"[A-Za-z]{1,16}")
_VALUE = re.compile(r"[ -:<-~]+")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:[^\s,!;\x00-\x20\x7f-\xff]{1,1000}")
_REPORT_SIZE = re.compile(r"![0-9]{1,20}[kmgtKMGT]?")
_READ: Final = frozenset({"p", "sp", "np", "adkim", "aspf", "psd", "t", "fo", "rua", "ruf"})
_POLICIES: Final = {policy.value: policy for policy in DmarcPolicy}
_FAILURE_OPTIONS: Final = frozenset({"0", "1", "d", "s"})
_WHITE: Final = " \t"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One valid record. `policy` and the others are None where the tag is missing or its value is none of the three.

    `psd` is `y`, `n` or `u`. `bad_policy` names the policy tags whose value was wrong. `reports` and
    `failure_reports` are URIs with the right shape, without the obsolete size.
    """

    policy: DmarcPolicy | None = None
    subdomain_policy: DmarcPolicy | None = None
    absent_policy: DmarcPolicy | None = None
    strict_dkim: bool = False
    strict_spf: bool = False
    psd: str = "u"
    testing: bool = False
    failure_options: str = "0"
    reports: tuple[str, ...] = ()
    failure_reports: tuple[str, ...] = ()
    bad_policy: tuple[str, ...] = ()

    @property
    def is_defective(self) -> bool:
        """No valid `p`, or a wrong `sp` or `np` (RFC 9989 section 4.10.1): then it means `none` if reports are asked
        for, and otherwise it is no policy at all."""
        return self.policy is None or bool(self.bad_policy)

    def published(self) -> tuple[tuple[str, str], ...]:
        """The tags as they apply, for aggregate reports (RFC 9990): only those that say more than nothing."""
        tags = [("p", (self.policy or DmarcPolicy.NONE).value)]
        if self.subdomain_policy is not None:
            tags.append(("sp", self.subdomain_policy.value))
        if self.absent_policy is not None:
            tags.append(("np", self.absent_policy.value))
        tags.append(("adkim", "s" if self.strict_dkim else "r"))
        tags.append(("aspf", "s" if self.strict_spf else "r"))
        if self.psd != "u":
            tags.append(("psd", self.psd))
        if self.testing:
            tags.append(("t", "y"))
        if self.failure_options != "0":
            tags.append(("fo", self.failure_options))
        if self.reports:
            tags.append(("rua", ",".join(self.reports)))
        return tuple(tags)


def the_record(texts: Iterable[bytes]) -> Record | None:
    """The one record among the TXT records of a name; None when there is none, or several (RFC 9989 section 4.10)."""
    found: Record | None = None
    for text in texts:
        record = parse_record(text)
        if record is None:
            continue
        if found is not None:
            return None
        found = record
    return found


def parse_record(text: bytes) -> Record | None:
    """The record that `text` is; None when it does not begin with `v=DMARC1`. Total."""
    if len(text) <= REMEMBERED_OCTETS:
        return _remembered(text)
    return _parse(text[:RECORD_OCTETS])


def _parse(text: bytes) -> Record | None:
    version, *parts = text.decode("latin-1").split(";")
    name, _, value = version.partition("=")
    if name.rstrip(_WHITE) not in {"v", "V"} or value.strip(_WHITE) != "DMARC1":
        return None
    return _record(_tags(parts))


_remembered = lru_cache(maxsize=2048)(_parse)


def _tags(parts: Iterable[str]) -> dict[str, str]:
    """The known tags; of one that stands twice the first counts."""
    tags: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip(_WHITE)
        value = value.strip(_WHITE)
        if not equals or not _TAG_NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            continue
        name = name.lower()
        if name in _READ:
            tags.setdefault(name, value)
    return tags


def _record(tags: dict[str, str]) -> Record:
    policies = {name: _POLICIES.get(tags[name].lower()) for name in ("p", "sp", "np") if name in tags}
    reports = _uris(tags.get("rua", ""))
    failure_reports = _uris(tags.get("ruf", ""))
    psd = tags.get("psd", "u").lower()
    return Record(
        policy=policies.get("p"),
        subdomain_policy=policies.get("sp"),
        absent_policy=policies.get("np"),
        strict_dkim=tags.get("adkim", "r").lower() == "s",
        strict_spf=tags.get("aspf", "r").lower() == "s",
        psd=psd if psd in {"y", "n"} else "u",
        testing=tags.get("t", "n").lower() == "y",
        failure_options=_failure_options(tags.get("fo", "0")) if failure_reports else "0",
        reports=reports,
        failure_reports=failure_reports,
        bad_policy=tuple([name for name, policy in policies.items() if policy is None]),
    )


def _uris(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for part in text.split(","):
        uri, mark, size = part.strip(_WHITE).partition("!")
        if mark and not _REPORT_SIZE.fullmatch(mark + size):
            continue
        if not _URI.fullmatch(uri) or (uri[:7].lower() == "mailto:" and "@" not in uri):
            continue
        found.append(uri)
        if len(found) == REPORT_URIS:
            break
    return tuple(found)


def _failure_options(text: str) -> str:
    options = [part.strip(_WHITE).lower() for part in text.split(":")]
    return ":".join(options) if set(options) <= _FAILURE_OPTIONS else "0"
