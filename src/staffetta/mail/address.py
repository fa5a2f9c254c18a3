"""Mailboxes, the null reverse path and bare `postmaster`: parsed once, never repaired.

RFC 5321 section 4.1.2 (Path, Mailbox, Local-part, source routes), section 4.5.1 (postmaster); RFC 6531 section 3.3
(UTF-8 local parts and U-labels); sizes from RFC 5321 section 4.5.3.1.
This module refuses to know who exists and who may relay.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import msgspec

from staffetta.mail.domain import AddressLiteral, Domain, DomainError, Host, parse_host

LOCAL_PART_OCTETS: Final = 64
"""Longest local part, RFC 5321 section 4.5.3.1.1."""

PATH_OCTETS: Final = 256
"""Longest path with its brackets, RFC 5321 section 4.5.3.1.3."""

# Negated sets: the same characters as ATEXT and everything beyond ASCII, a hundred times faster to compile.
_UTF8_ATEXT = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]'
_is_dot_string: Final = re.compile(rf"{_UTF8_ATEXT}++(?:\.{_UTF8_ATEXT}++)*+").fullmatch
_QUOTED = re.compile(r'"((?:[^\x00-\x1f"\\\x7f]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_ROUTE = re.compile(r"@[^@:,<>\s]+(?:,@[^@:,<>\s]+)*:")
_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_FORBIDDEN_IN_UTF8 = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


class AddressError(ValueError):
    """The text is not an address; the message says why, without echoing the text."""


class Mailbox(msgspec.Struct, frozen=True, order=True, gc=False):
    """`local_part@domain`. The local part is its meaning, unquoted, case kept; quoting is added when written."""

    local_part: str
    domain: Host

    def __str__(self) -> str:
        local_part, domain = self.local_part, self.domain
        host = domain.ascii if isinstance(domain, Domain) else str(domain)
        if _is_dot_string(local_part):
            return f"{local_part}@{host}"
        escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"@{host}'

    @property
    def is_ascii(self) -> bool:
        """False when this address can only travel with SMTPUTF8 (RFC 6531)."""
        return self.local_part.isascii()

    def folded(self) -> Mailbox:
        """The same mailbox with ASCII letters in lower case: how the names of our own users are compared.

        Only for mailboxes of ours; elsewhere the case of a local part is its owner's business (RFC 5321 section 2.4).
        """
        return Mailbox(fold_local_part(self.local_part), self.domain)


class NullPath(msgspec.Struct, frozen=True, gc=False):
    """`<>`: the reverse path of notifications, RFC 5321 section 4.5.5."""

    def __str__(self) -> str:
        return ""

    @property
    def is_ascii(self) -> bool:
        """Always true."""
        return True


class Postmaster(msgspec.Struct, frozen=True, gc=False):
    """`<postmaster>` with no domain, RFC 5321 section 4.5.1: a recipient at every server."""

    def __str__(self) -> str:
        return "postmaster"


def fold_local_part(local_part: str) -> str:
    """ASCII letters in lower case, all else untouched: `str.lower` would turn the Kelvin sign into a `k`."""
    return local_part.lower() if local_part.isascii() else local_part.translate(_ASCII_LOWER)


NULL_PATH: Final = NullPath()
POSTMASTER: Final = Postmaster()

ReversePath = Mailbox | NullPath
ForwardPath = Mailbox | Postmaster


def parse_mailbox(text: str, *, smtputf8: bool = False) -> Mailbox:
    """The mailbox that `text` (no brackets) names. Raises AddressError.

    Without `smtputf8` any non-ASCII character is refused; with it, UTF-8 local parts must be NFC and free of control,
    format, private and separator characters (RFC 6532 section 3.1), so that what looks the same is the same.
    """
    if not smtputf8 and not text.isascii():
        raise AddressError("a non-ASCII address needs SMTPUTF8")
    if text[:1] == '"':
        local_text, rest = _split_quoted(text)
    else:
        local_text, at, rest = text.partition("@")
        if not at:
            raise AddressError("an address needs a domain")
        if not _is_dot_string(local_text):
            raise AddressError("malformed local part")
    try:
        domain = parse_host(rest)
    except DomainError as error:
        raise AddressError(str(error)) from error
    octets = len(local_text)
    if not local_text.isascii():
        _check_utf8_local_part(local_text)
        octets = len(local_text.encode("utf-8", "surrogatepass"))
    if octets > LOCAL_PART_OCTETS:
        raise AddressError(f"local part longer than {LOCAL_PART_OCTETS} octets")
    return Mailbox(local_text, domain)


def parse_reverse_path(text: str, *, smtputf8: bool = False) -> ReversePath:
    """The path of MAIL FROM, brackets included: `<>` or `<mailbox>`; a source route is stripped.

    Raises AddressError.
    """
    inner = _inside_brackets(text)
    if not inner:
        return NULL_PATH
    return parse_mailbox(_behind_route(inner) if inner[0] == "@" else inner, smtputf8=smtputf8)


def parse_forward_path(text: str, *, smtputf8: bool = False) -> ForwardPath:
    """The path of RCPT TO, angle brackets included: `<postmaster>` or `<mailbox>`; a source route is stripped.

    Raises AddressError.
    """
    inner = _inside_brackets(text)
    if not inner:
        raise AddressError("a recipient cannot be empty")
    if "@" not in inner and inner.isascii() and inner.lower() == "postmaster":
        return POSTMASTER
    return parse_mailbox(_behind_route(inner) if inner[0] == "@" else inner, smtputf8=smtputf8)


def _inside_brackets(text: str) -> str:
    octets = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if octets > PATH_OCTETS:
        raise AddressError(f"path longer than {PATH_OCTETS} octets")
    if len(text) < 2 or text[0] != "<" or text[-1] != ">":
        raise AddressError("an address stands in angle brackets")
    return text[1:-1]


def _behind_route(text: str) -> str:
    # RFC 5321 appendix C: a source route is to be accepted and ignored. Its hosts must still be hosts.
    match = _ROUTE.match(text)
    if match is None:
        raise AddressError("malformed source route")
    for host in match.group()[:-1].split(","):
        try:
            parse_host(host[1:])
        except DomainError as error:
            raise AddressError("malformed source route") from error
    return text[match.end() :]


def _split_quoted(text: str) -> tuple[str, str]:
    match = _QUOTED.match(text)
    if match is None or text[match.end() : match.end() + 1] != "@":
        raise AddressError("malformed quoted local part")
    content = _QUOTED_PAIR.sub(r"\1", match.group(1))
    if not content:
        raise AddressError("empty local part")
    return content, text[match.end() + 1 :]


def _check_utf8_local_part(local_text: str) -> None:
    if unicodedata.normalize("NFC", local_text) != local_text:
        raise AddressError("local part is not in NFC")
    if any(unicodedata.category(character) in _FORBIDDEN_IN_UTF8 for character in local_text if character > "\x7f"):
        raise AddressError("local part has an invisible or control character")
    if any(_imitates_syntax(character) for character in local_text if character > "\x7f"):
        raise AddressError("local part has a character that imitates the syntax of addresses")


def _imitates_syntax(character: str) -> bool:
    """True for a full-width `@` and the like: a program that folds compatibility forms would see another address."""
    folded = unicodedata.normalize("NFKC", character)
    return any(one <= "\x7f" and not one.isalnum() for one in folded)


__all__ = [
    "NULL_PATH",
    "POSTMASTER",
    "AddressError",
    "AddressLiteral",
    "Domain",
    "ForwardPath",
    "Mailbox",
    "NullPath",
    "Postmaster",
    "ReversePath",
    "fold_local_part",
    "parse_forward_path",
    "parse_mailbox",
    "parse_reverse_path",
]
