"""Lists of mailboxes in header fields, read strictly: what two programs could read differently is named, never guessed.

RFC 5322 section 3.4 and 4.4 (addresses, obsolete forms), RFC 6854 (groups in From), RFC 2047 section 5 (encoded words
belong into phrases only), RFC 6532 (UTF-8). Time and memory are linear in the size of the field, and that is bounded.
This module refuses to know who may use an address.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from typing import Final

import msgspec

from staffetta.mail.address import AddressError, Mailbox, parse_mailbox
from staffetta.message.phrases import addresses_in, mentions_too_many

FIELD_OCTETS: Final = 16 * 1024
"""How much of one field is examined: at most some 10 ms of work. Longer ones are a problem by themselves."""

ADDRESSES: Final = 20
"""How many addresses of one field are examined. Only Resent-From may hold more than one here, and nobody resends for
twenty; a domain with eighteen A-labels costs 0.3 ms, and several fields are read in one go."""

_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff"
_TOKEN = re.compile(
    rf'(?P<atom>[{_ATEXT}]++)|(?P<space>[ \t]++)|(?P<quoted>"(?:[^"\\]|\\.)*+")'
    r"|(?P<literal>\[[^\[\]\\]*+\])|(?P<special>[<>@,:;.])",
    re.DOTALL,
)
_COMMENT_PART = re.compile(r"[^()\\]++|\\.", re.DOTALL)
_PLAIN_ADDRESS: Final = rf"([{_ATEXT}.]++@[A-Za-z0-9.\-]++)"
_SIMPLE = re.compile(rf'(?:(?:[{_ATEXT} .]*+|"[^"\\<>@,:;()]*+"[ \t]*+)<{_PLAIN_ADDRESS}>|{_PLAIN_ADDRESS})')
"""The everyday forms, for which no token is made."""

_WIDE_AT = re.compile("[\ufe6b\uff20]")
_CONTROL = re.compile(r"[\x01-\x08\x0a-\x1f\x7f]")
_DOT_ATOM = re.compile(rf'"[{_ATEXT}]++(?:\.[{_ATEXT}]++)*+"')
_WORDS: Final = frozenset({"atom", "quoted", "space", "comment", "."})

Token = tuple[str, str]
"""Kind and text as written. Kinds: atom, quoted, literal, space, comment, and each special as its own kind."""


class AddressProblem(StrEnum):
    """Why a list of addresses cannot be trusted to mean the same to everybody; the worst come first."""

    NUL = "nul"
    CONTROL = "control_character"
    NOT_UTF8 = "not_utf8"
    TOO_LONG = "field_too_long"
    TOO_MANY = "too_many_addresses"
    SYNTAX = "malformed_address"
    EMPTY = "empty_address"
    GROUP = "group"
    ROUTE = "source_route"
    QUOTED_LOCAL_PART = "quoted_local_part"
    ENCODED_WORD = "encoded_word_in_address"
    COMMENT = "comment_in_address"
    SPACE = "white_space_in_address"
    HIDDEN_ADDRESS = "another_address_in_quotes_or_comment"


class AddressList(msgspec.Struct, frozen=True, gc=False):
    """What a field says. `mailboxes` are those that could be read, also when there are `problems` (worst first).

    `shown` are other addresses that a reader would see: in display names, in comments, behind encoded words. They
    make nothing ambiguous, but a display name can claim what the address does not.
    """

    mailboxes: tuple[Mailbox, ...] = ()
    problems: tuple[AddressProblem, ...] = ()
    shown: tuple[Mailbox, ...] = ()


def parse_address_list(value: bytes) -> AddressList:
    """The addresses in an unfolded field value. Total: it never raises."""
    problems: set[AddressProblem] = set()
    if len(value) > FIELD_OCTETS:
        problems.add(AddressProblem.TOO_LONG)
        value = value[:FIELD_OCTETS]
    try:
        text = value.decode()
    except UnicodeDecodeError:
        problems.add(AddressProblem.NOT_UTF8)
        text = value.decode("utf-8", "surrogateescape")
    simple = _SIMPLE.fullmatch(text)
    if simple and not problems and "=?" not in text and (text.isascii() or not _WIDE_AT.search(text)):
        try:
            return AddressList((parse_mailbox(simple[1] or simple[2], smtputf8=True),))
        except AddressError:
            return AddressList((), (AddressProblem.SYNTAX,))
    if "\0" in text:
        problems.add(AddressProblem.NUL)
    if _CONTROL.search(text):
        problems.add(AddressProblem.CONTROL)
    reader = _Reader(problems)
    tokens = _tokens(text, problems)
    reader.read(tokens)
    mailboxes = tuple(reader.mailboxes)
    shown = _shown(text, mailboxes)
    if shown and any(map(_is_tricky, tokens)):
        problems.add(AddressProblem.HIDDEN_ADDRESS)
    if mentions_too_many(text):
        problems.add(AddressProblem.TOO_MANY)
    order = tuple(AddressProblem)
    return AddressList(mailboxes, tuple(sorted(problems, key=order.index)), shown)


def _tokens(text: str, problems: set[AddressProblem]) -> list[Token]:
    """The tokens up to the first place that is none."""
    tokens: list[Token] = []
    at = 0
    size = len(text)
    while at < size:
        match = _TOKEN.match(text, at)
        if match is not None:
            found = match.group()
            kind = match.lastgroup or ""
            tokens.append((found if kind == "special" else kind, found))
            at = match.end()
            continue
        end = _comment_end(text, at) if text[at] == "(" else -1
        if end < 0:
            problems.add(AddressProblem.SYNTAX)
            break
        tokens.append(("comment", text[at:end]))
        at = end
    return tokens


def _comment_end(text: str, at: int) -> int:
    """Where the comment that opens at `at` ends; comments nest. -1 when it does not end."""
    depth = 0
    while at < len(text):
        if text[at] == "(":
            depth += 1
            at += 1
        elif text[at] == ")":
            depth -= 1
            at += 1
            if not depth:
                return at
        else:
            match = _COMMENT_PART.match(text, at)
            if match is None:
                return -1
            at = match.end()
    return -1


class _Reader:
    """Cuts tokens into elements at commas and group marks, and reads each."""

    __slots__ = ("_element", "_group", "_in_angle", "_left_group", "_tried", "mailboxes", "problems")

    def __init__(self, problems: set[AddressProblem]) -> None:
        self.problems = problems
        self.mailboxes: list[Mailbox] = []
        self._element: list[Token] = []
        self._in_angle = False
        self._group = False
        self._left_group = False
        self._tried = 0  # what is no address costs as much as one

    def read(self, tokens: list[Token]) -> None:
        for token in tokens:
            kind = token[0]
            if kind in {"<", ">"}:
                self._in_angle = kind == "<"
                self._element.append(token)
            elif self._in_angle or kind not in {",", ":", ";"}:
                self._element.append(token)
            elif kind == ",":
                self._end_element(may_be_empty=False)
            elif kind == ":":
                self._open_group()
            else:
                self._close_group()
            if self._tried >= ADDRESSES:
                self.problems.add(AddressProblem.TOO_MANY)
                return
        if self._group:
            self.problems.add(AddressProblem.SYNTAX)
        self._end_element(may_be_empty=False)

    def _open_group(self) -> None:
        self.problems.add(AddressProblem.GROUP)
        name = _trim(self._element)
        if self._group or not name or any(kind not in _WORDS for kind, _ in name):
            self.problems.add(AddressProblem.SYNTAX)
        self._group = True
        self._element = []

    def _close_group(self) -> None:
        if not self._group:
            self.problems.add(AddressProblem.SYNTAX)
        self._end_element(may_be_empty=True)
        self._group = False
        self._left_group = True

    def _end_element(self, *, may_be_empty: bool) -> None:
        element = _trim(self._element)
        self._element = []
        self._in_angle = False
        if self._left_group:
            # Between the `;` of a group and the next comma there is nothing.
            self._left_group = False
            if element:
                self.problems.add(AddressProblem.SYNTAX)
            return
        if element:
            self._read_element(element)
        elif not may_be_empty:
            self.problems.add(AddressProblem.EMPTY)

    def _read_element(self, element: list[Token]) -> None:
        kinds = [kind for kind, _ in element]
        if "<" not in kinds:
            self._read_address(element)
            return
        start = kinds.index("<")
        if kinds[-1] != ">":
            self.problems.add(AddressProblem.SYNTAX)
            return
        if any(kind not in _WORDS for kind in kinds[:start]):
            self.problems.add(AddressProblem.SYNTAX)
        inner = element[start + 1 : -1]
        if not _trim(inner):
            self.problems.add(AddressProblem.EMPTY)
            return
        kinds = [kind for kind, _ in inner]
        if _trim(inner)[0][0] == "@" and ":" in kinds:
            self.problems.add(AddressProblem.ROUTE)
            inner = inner[kinds.index(":") + 1 :]
        self._read_address(inner)

    def _read_address(self, tokens: list[Token]) -> None:
        written = "".join([text for kind, text in tokens if kind not in {"space", "comment"}])
        for kind, text in tokens:
            if kind == "space":
                self.problems.add(AddressProblem.SPACE)
            elif kind == "comment":
                self.problems.add(AddressProblem.COMMENT)
            elif kind == "quoted" and not _DOT_ATOM.fullmatch(text):
                self.problems.add(AddressProblem.QUOTED_LOCAL_PART)
            elif kind in {",", ":", ";", "<", ">"}:
                self.problems.add(AddressProblem.SYNTAX)
                return
        if "=?" in written:
            self.problems.add(AddressProblem.ENCODED_WORD)
        words = [kind in {"atom", "quoted", "literal"} for kind, _ in tokens if kind not in {"space", "comment"}]
        if any(one and other for one, other in pairwise(words)):
            self.problems.add(AddressProblem.SYNTAX)
            return
        self._tried += 1
        try:
            self.mailboxes.append(parse_mailbox(written, smtputf8=True))
        except AddressError:
            self.problems.add(AddressProblem.SYNTAX)


def _trim(tokens: list[Token]) -> list[Token]:
    """Without white space and comments at both ends."""
    start, end = 0, len(tokens)
    while start < end and tokens[start][0] in {"space", "comment"}:
        start += 1
    while start < end and tokens[end - 1][0] in {"space", "comment"}:
        end -= 1
    return tokens[start:end]


def _shown(text: str, mailboxes: tuple[Mailbox, ...]) -> tuple[Mailbox, ...]:
    if text.isascii() and "=?" not in text and text.count("@") <= len(mailboxes):
        return ()
    known = set(map(comparable, mailboxes))
    return tuple(mailbox for mailbox in addresses_in(text) if comparable(mailbox) not in known)


def comparable(mailbox: Mailbox) -> tuple[str, str]:
    """What to compare when two spellings may mean the same mailbox: ASCII letters of the local part in lower case."""
    local = mailbox.local_part
    return (local.lower() if local.isascii() else local), str(mailbox.domain)


def _is_tricky(token: Token) -> bool:
    """Whether a program that does not know quotes or comments would see marks of its own in this one."""
    kind, text = token
    if kind == "quoted":
        return "<" in text or ">" in text or "\\" in text
    return kind == "comment" and ("@" in text or "<" in text or ">" in text)
