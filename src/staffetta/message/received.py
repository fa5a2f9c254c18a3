"""Reading Received fields: who wrote them, and what they say of whom.

RFC 5321 section 4.4 and the forms that are really met: Postfix, Exim, Sendmail, qmail, Exchange and Outlook, Gmail,
Amazon SES, Dovecot, Staffetta. Total: any octets make a Hop, if one with a problem. Work is linear in the field, and
the field is cut to a limit.
This module refuses to know whether a field is true: that depends on who wrote it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import msgspec

from staffetta.mail.network import address_number
from staffetta.message.received_time import parse_time

FIELD_CHARACTERS: Final = 4096
"""How much of one field is read. Real ones stay under 1 KiB."""

PART_CHARACTERS: Final = 255
"""Longest name, id or address that is kept."""

_PIECE = re.compile(r"(?P<word>[^\s();\"]+)|(?P<quoted>\"[^\"]*\"?)|(?P<mark>[();])|\s+")
_CLAUSES: Final = frozenset({"from", "by", "via", "with", "id", "for", "tls"})
_BRACKETED = re.compile(r"\[(?:ipv6:)?([0-9a-f.:]{2,45})(?:%[^\]]{0,40})?\]", re.IGNORECASE)
_BARE = re.compile(r"(?:\A|[@ ])([0-9a-f.:]{2,45})(?:%[^ ]{0,40})?(?=\Z|[ ,])", re.IGNORECASE)
_HELO = re.compile(r"\b(?:helo|ehlo)[= ] ?([^\s()]{1,255})", re.IGNORECASE)
_NAME_BEFORE = re.compile(r"(?:[^\s@\[\]()=]{1,64}@)?([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253}))\.? \[")
_TLS_VERSION = re.compile(r"\b(TLS ?v?1[._][0-3]|TLSv1|SSL ?v?[23])(?![0-9])", re.IGNORECASE)
_CIPHER = re.compile(r"\bcipher[= ]([A-Za-z0-9_:+-]{3,64})|\bTLS ?v?1[._][0-3]:([A-Za-z0-9_-]{3,64})", re.IGNORECASE)
_ENCRYPTED = re.compile(r"\A([A-Za-z0-9_-]{3,64}) encrypted\Z")
_ENVELOPE = re.compile(r"\benvelope-(?:from|sender)[ =]?<?([^<>\s()]{0,254})>?", re.IGNORECASE)
_SECURE_WITH = re.compile(r"(?:E?SMTP|UTF8SMTP|LMTP|UTF8LMTP|HTTP)S(?:A)?", re.IGNORECASE)
_USER = re.compile(r"\bfrom userid [0-9]|\binvoked by uid [0-9]|\Afrom [^\s@]{1,64}@localhost\b")
_NOBODY: Final = frozenset({"unknown", "localhost.invalid", "unverified"})


class Hop(msgspec.Struct, frozen=True, gc=False):
    """One Received field. Everything may be empty.

    `name` is the word behind `from` as written, `helo` what the client called itself, `reverse` the name that the
    writer found for `address`, `tls` version and cipher where they are told, `envelope_from` the reverse path where it
    is told (None: not told, "": the null path). `by_user`: an account of the writer's host handed the message over, not
    a connection. `time` is in seconds since the epoch. `problem` says what is odd.
    """

    name: str = ""
    helo: str = ""
    address: str = ""
    reverse: str = ""
    by: str = ""
    with_: str = ""
    via: str = ""
    tls: str = ""
    id: str = ""
    for_: str = ""
    envelope_from: str | None = None
    by_user: bool = False
    time: float | None = None
    problem: str = ""


class _Clause(msgspec.Struct):
    words: list[str]
    comments: list[str]


_NO_CLAUSE: Final = ""


def parse_received(value: bytes) -> Hop:
    """What one unfolded field value says."""
    problems: list[str] = []
    if len(value) > FIELD_CHARACTERS:
        problems.append("the field is too long and was cut")
    clauses, ending = _read(value[:FIELD_CHARACTERS].decode("utf-8", "replace"), problems)
    time = parse_time(ending)
    if time is None:
        problems.append("its time cannot be read" if ending.strip() else "it has no time")
    origin = clauses.get("from") or _Clause([], [])
    host = clauses.get("by")
    if "from" not in clauses and host is None and _NO_CLAUSE not in clauses:
        problems.append("not in the form of a trace field")
    name = _first(origin.words)
    peer = _Peer(name)
    for comment in origin.comments:
        peer.read(comment)
    if peer.forged:
        problems.append("its writer could not confirm the reverse name")
    comments = [comment for clause in clauses.values() for comment in clause.comments]
    return Hop(
        name=name,
        helo=peer.helo,
        address=peer.address,
        reverse=peer.reverse,
        by=_first(host.words) if host is not None else "",
        with_=_words(clauses, "with"),
        via=_words(clauses, "via"),
        tls=_tls(comments, clauses),
        id=_first(clauses["id"].words).strip("<>") if "id" in clauses else "",
        for_=_words(clauses, "for").replace("<", "").replace(">", ""),
        envelope_from=_envelope(comments),
        by_user=_words(clauses, "with").lower() == "local" or any(map(_USER.search, comments)),
        time=time,
        problem="; ".join(problems),
    )


def _read(text: str, problems: list[str]) -> tuple[dict[str, _Clause], str]:
    """The clauses, and what stands behind the last semicolon."""
    clauses: dict[str, _Clause] = {}
    current = _Clause([], [])
    opened = _NO_CLAUSE
    ending: list[str] = []
    dated = False
    for kind, piece in _pieces(text):
        if kind == "end":
            # What stood behind an earlier one belongs to the words before it.
            dated, ending = True, []
        elif kind == "comment":
            if not dated:
                current.comments.append(piece)
                clauses.setdefault(opened, current)
        elif dated:
            ending.append(piece)
        elif (lower := piece.lower()) in _CLAUSES and lower not in clauses and (current.words or not opened):
            opened, current = lower, _Clause([], [])
            clauses[opened] = current
        else:
            if lower in {"from", "by"} and not problems:
                problems.append(f"the word {lower} stands there twice")
            current.words.append(piece)
    return clauses, " ".join(ending)


def _pieces(text: str) -> list[tuple[str, str]]:
    """Words, whole comments without their outer brackets, and semicolons outside of them."""
    pieces: list[tuple[str, str]] = []
    depth = 0
    start = 0
    for found in _PIECE.finditer(text):
        piece = found.group()
        if piece == "(":
            if not depth:
                start = found.end()
            depth += 1
        elif piece == ")":
            if depth == 1:
                pieces.append(("comment", text[start : found.start()]))
            depth = max(depth - 1, 0)
        elif depth or not piece.strip():
            continue
        else:
            pieces.append(("end", "") if piece == ";" else ("word", piece))
    if depth:
        pieces.append(("comment", text[start:]))
    return pieces


class _Peer:
    """The client of a hop, from the word behind `from` and the comments behind it."""

    __slots__ = ("_found", "_literal", "_name", "_told", "address", "forged")

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = ""
        self._found = ""
        self.address = _address(_BRACKETED, name) or _address(_BARE, name)
        self._literal = bool(self.address)
        self.forged = False

    def read(self, comment: str) -> None:
        """One comment."""
        said = _HELO.search(comment)
        if said is not None and not self._told:
            self._told = said[1]
        address = _address(_BRACKETED, comment) or _address(_BARE, comment)
        if address:
            # What the client calls itself may look like an address and a comment; what the writer saw stands last.
            self.address = address
            before = _NAME_BEFORE.match(comment)
            named = before is not None and before[1].lower() not in _NOBODY
            self._found = before[1].rstrip(".") if before is not None and named else ""
        self.forged |= "may be forged" in comment

    @property
    def helo(self) -> str:
        """What the client called itself: the word itself, or where a comment tells it, that."""
        return self._told or self._name

    @property
    def reverse(self) -> str:
        """The name that the writer found: told before the address, or, where a comment tells HELO, the word itself."""
        if self._found:
            return self._found
        if self._told and not self._literal and self._name.lower() not in _NOBODY:
            return self._name.rstrip(".")
        return ""


def _first(words: list[str]) -> str:
    return words[0][:PART_CHARACTERS] if words else ""


def _words(clauses: dict[str, _Clause], name: str) -> str:
    return " ".join(clauses[name].words)[:PART_CHARACTERS] if name in clauses else ""


def _address(pattern: re.Pattern[str], text: str) -> str:
    for found in pattern.finditer(text[:PART_CHARACTERS]):
        number = address_number(found[1])
        if number is not None:
            version, value = number
            return str(ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value))
    return ""


def _envelope(comments: list[str]) -> str | None:
    for comment in comments:
        found = _ENVELOPE.search(comment)
        if found is not None:
            return found[1]
    return None


def _tls(comments: list[str], clauses: dict[str, _Clause]) -> str:
    version = cipher = ""
    for text in comments:
        spoken = _TLS_VERSION.search(text)
        if spoken is not None and not version:
            version = _version(spoken[1])
        named = _CIPHER.search(text) or _ENCRYPTED.match(text)
        if named is not None and not cipher:
            cipher = next(filter(None, named.groups()), "")
    cipher = cipher or _words(clauses, "tls")
    if version or cipher:
        return f"{version} {cipher}".strip()
    return "yes" if _SECURE_WITH.fullmatch(_words(clauses, "with")) else ""


def _version(written: str) -> str:
    kind = "SSL" if written[:3].lower() == "ssl" else "TLS"
    return f"{kind}v{written[3:].lstrip(' vV').replace('_', '.')}"
