"""The times in trace fields, read as generously as they are written.

RFC 5322 sections 3.3 and 4.3 (date-time, obsolete zones and years); the form of `asctime`, which some programs write.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

TEXT_CHARACTERS: Final = 120
"""Longest text that is taken for a time."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONES: Final = {
    **dict.fromkeys(("ut", "utc", "gmt", "z"), 0),
    "edt": -4,
    **dict.fromkeys(("est", "cdt"), -5),
    **dict.fromkeys(("cst", "mdt"), -6),
    **dict.fromkeys(("mst", "pdt"), -7),
    "pst": -8,
    "bst": 1,
    "cet": 1,
    "cest": 2,
}
"""Hours east of Greenwich. RFC 5322 section 4.3, and the European ones that are met; others count as UTC."""

_CLOCK: Final = r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(?:\.[0-9]{1,9})?"
_DATE = re.compile(
    r"(?:[A-Za-z]{3,9},? +)?([0-9]{1,2})[ -]([A-Za-z]{3,9})[ -]([0-9]{2,4}),? +"
    rf"{_CLOCK} *([+-][0-9]{{4}}|[A-Za-z]{{1,5}})?"
)
_ASCTIME = re.compile(rf"[A-Za-z]{{3}} ([A-Za-z]{{3}}) +([0-9]{{1,2}}) {_CLOCK}(?: ([A-Za-z]{{1,5}}))? ([0-9]{{4}})")


def parse_time(text: str) -> float | None:
    """The time that `text` (without comments) begins with, in seconds since the epoch; None when it is none."""
    text = " ".join(text[:TEXT_CHARACTERS].split())
    found = _DATE.match(text)
    if found is not None:
        day, month, year, hour, minute, second, zone = found.groups()
        return _moment((_year(year), month, day), (hour, minute, second or "0"), zone or "")
    found = _ASCTIME.match(text)
    if found is not None:
        month, day, hour, minute, second, zone, year = found.groups()
        return _moment((int(year), month, day), (hour, minute, second or "0"), zone or "")
    return None


def _year(text: str) -> int:
    year = int(text)
    if len(text) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year


def _moment(date: tuple[int, str, str], clock: tuple[str, str, str], zone: str) -> float | None:
    year, month, day = date
    name = month[:3].lower()
    if name not in _MONTHS:
        return None
    hour, minute, second = map(int, clock)
    try:
        moment = datetime(year, _MONTHS.index(name) + 1, int(day), hour, minute, min(second, 59), tzinfo=UTC)
        return (moment - _offset(zone)).timestamp()
    except (ValueError, OverflowError):
        return None


def _offset(zone: str) -> timedelta:
    if zone[:1] in {"+", "-"}:
        span = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
        return -span if zone[0] == "-" else span
    return timedelta(hours=_ZONES.get(zone.lower(), 0))
