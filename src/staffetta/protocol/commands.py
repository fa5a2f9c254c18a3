"""The arguments of commands, parsed once into values. RFC 5321 sections 4.1.1 and 4.1.2.

Parameters: SIZE (RFC 1870), BODY (6152), SMTPUTF8 (6531), RET, ENVID, NOTIFY, ORCPT (3461, 6533), AUTH (4954, ignored).
Everything given is printable text of one line (framing sees to that). What is wrong raises CommandError with the reply;
texts of replies never echo the client. This module refuses to know which command may come when.
"""

from __future__ import annotations

import re
from typing import Final

from staffetta.mail.address import AddressError, ForwardPath, ReversePath, parse_forward_path, parse_reverse_path
from staffetta.mail.envelope import Body, Notify, Recipient, Return, Sender
from staffetta.mail.reply import Reply, reply

HELLO_NAME_OCTETS: Final = 255
"""Longest name in EHLO and HELO, RFC 5321 section 4.5.3.1.2."""

ENVID_OCTETS: Final = 100
"""Longest ENVID, RFC 3461 section 4.4."""

ORCPT_OCTETS: Final = 500
"""Longest ORCPT, RFC 3461 section 4.2."""

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")
_CHUNK = re.compile(r"([0-9]{1,19})( [Ll][Aa][Ss][Tt])?")
_QUOTED_PATH = re.compile(r'<[^"<>]*"(?:[^"\\]|\\.)*"[^"<>]*>')
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_XTEXT_PAIR = re.compile(r"\+([0-9A-F]{2})")
_UTF8_ADDRESS = re.compile(r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-F]{2,6}\})+")
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")

NO_BRACKETS: Final = reply(501, "5.5.4", "the address stands in angle brackets")
MAIL_SYNTAX: Final = reply(501, "5.5.4", "syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX: Final = reply(501, "5.5.4", "syntax: RCPT TO:<address> [parameters]")
AFTER_PATH: Final = reply(501, "5.5.4", "there is text behind the address")
BAD_PARAMETER: Final = reply(501, "5.5.4", "malformed parameter")
PARAMETER_TWICE: Final = reply(501, "5.5.4", "a parameter is given twice")
UNKNOWN_PARAMETER: Final = reply(555, "5.5.4", "parameter not recognised")
NOT_ASCII: Final = reply(501, "5.5.2", "non-ASCII text needs SMTPUTF8")
ADDRESS_NEEDS_UTF8: Final = reply(553, "5.6.7", "a non-ASCII address needs SMTPUTF8")
DECLARED_TOO_BIG: Final = reply(552, "5.3.4", "the message is bigger than this server accepts")
HELLO_SYNTAX: Final = reply(501, "5.5.4", "a domain or an address literal is needed")
BDAT_SYNTAX: Final = reply(501, "5.5.4", "syntax: BDAT octets [LAST]")


class CommandError(Exception):
    """The command is refused with `reply`; `rule` names why."""

    def __init__(self, reply: Reply, rule: str = "syntax") -> None:
        super().__init__(rule)
        self.reply: Final = reply
        self.rule: Final = rule


def parse_hello(argument: str) -> str:
    """The name in EHLO or HELO: printable ASCII, whatever it claims to be. Raises CommandError."""
    if not argument or len(argument) > HELLO_NAME_OCTETS or not argument.isascii():
        raise CommandError(HELLO_SYNTAX)
    return argument


def parse_mail(argument: str, message_size: int) -> Sender:
    """What stands behind `MAIL `. Raises CommandError, also for a declared size above `message_size` octets."""
    if argument[:5] not in {"FROM:", "from:"} and not (argument[:5].isascii() and argument[:5].upper() == "FROM:"):
        raise CommandError(MAIL_SYNTAX)
    path, rest = _split_path(argument, 5)
    if not rest:
        return Sender(_reverse_path(path, smtputf8=False))
    given = _parameters(rest)
    smtputf8 = "SMTPUTF8" in given
    if not smtputf8 and not rest.isascii():
        raise CommandError(NOT_ASCII, "non_ascii")
    values = _mail_values(given)
    size = int(values["SIZE"]) if "SIZE" in values else None
    if size is not None and size > message_size:
        raise CommandError(DECLARED_TOO_BIG, "message_size")
    return Sender(
        _reverse_path(path, smtputf8=smtputf8),
        body=Body.EIGHT_BIT_MIME if values.get("BODY") == "8BITMIME" else Body.SEVEN_BIT,
        smtputf8=smtputf8,
        declared_size=size,
        ret=Return(values["RET"]) if "RET" in values else None,
        envid=values.get("ENVID"),
    )


def parse_rcpt(argument: str, *, smtputf8: bool) -> Recipient:
    """What stands behind `RCPT `. Raises CommandError."""
    if argument[:3] not in {"TO:", "to:"} and not (argument[:3].isascii() and argument[:3].upper() == "TO:"):
        raise CommandError(RCPT_SYNTAX)
    path, rest = _split_path(argument, 3)
    if not rest:
        return Recipient(_forward_path(path, smtputf8=smtputf8))
    if not smtputf8 and not rest.isascii():
        raise CommandError(NOT_ASCII, "non_ascii")
    notify: tuple[Notify, ...] = ()
    orcpt: str | None = None
    for keyword, value in _parameters(rest).items():
        if keyword == "NOTIFY":
            notify = _notify(value)
        elif keyword == "ORCPT":
            orcpt = _original_recipient(value)
        else:
            raise CommandError(UNKNOWN_PARAMETER, "unknown_parameter")
    return Recipient(_forward_path(path, smtputf8=smtputf8), notify, orcpt)


def parse_bdat(argument: str) -> tuple[int, bool]:
    """Octets of the chunk, and whether it is the last. Raises CommandError."""
    match = _CHUNK.fullmatch(argument)
    if match is None:
        raise CommandError(BDAT_SYNTAX)
    return int(match[1]), match[2] is not None


def _split_path(argument: str, begin: int) -> tuple[str, str]:
    """The path with its brackets, and the parameters behind it."""
    if argument[begin : begin + 1] != "<":
        if argument[begin : begin + 2] != " <":
            raise CommandError(NO_BRACKETS)
        begin += 1  # a space before the path is forbidden by RFC 5321 section 3.3, and common
    end = argument.find(">", begin)
    if end < 0:
        raise CommandError(NO_BRACKETS)
    if '"' in argument and argument.find('"', begin, end) >= 0:
        match = _QUOTED_PATH.match(argument, begin)
        if match is None:
            raise CommandError(NO_BRACKETS)
        end = match.end() - 1
    end += 1
    if end == len(argument):
        return argument[begin:], ""
    if argument[end] != " " or end + 1 == len(argument):
        raise CommandError(AFTER_PATH)
    return argument[begin:end], argument[end + 1 :]


def _reverse_path(path: str, *, smtputf8: bool) -> ReversePath:
    try:
        return parse_reverse_path(path, smtputf8=smtputf8)
    except AddressError as error:
        raise _bad_address(path, smtputf8, "5.1.7", error) from error


def _forward_path(path: str, *, smtputf8: bool) -> ForwardPath:
    try:
        return parse_forward_path(path, smtputf8=smtputf8)
    except AddressError as error:
        raise _bad_address(path, smtputf8, "5.1.3", error) from error


def _bad_address(path: str, smtputf8: bool, enhanced: str, error: AddressError) -> CommandError:
    if not smtputf8 and not path.isascii():
        return CommandError(ADDRESS_NEEDS_UTF8, "non_ascii")
    return CommandError(reply(501, enhanced, str(error)), "address")


def _parameters(text: str) -> dict[str, str]:
    """Keywords in upper case, and their values; "" for none."""
    given: dict[str, str] = {}
    for item in text.split(" "):
        match = _PARAMETER.fullmatch(item)
        if match is None:
            raise CommandError(BAD_PARAMETER)
        keyword = match[1].upper()
        if keyword in given:
            raise CommandError(PARAMETER_TWICE)
        given[keyword] = match[2] or ""
    return given


def _mail_values(given: dict[str, str]) -> dict[str, str]:
    """The values of MAIL's parameters, checked and in one form."""
    values: dict[str, str] = {}
    for keyword, value in given.items():
        if not value.isascii():
            raise CommandError(BAD_PARAMETER)
        if keyword == "SIZE" and _SIZE.fullmatch(value):
            values[keyword] = value
        elif keyword == "BODY" and value.upper() in {"7BIT", "8BITMIME"}:
            values[keyword] = value.upper()
        elif keyword == "SMTPUTF8" and not value:
            values[keyword] = ""
        elif keyword == "RET" and value.upper() in {"FULL", "HDRS"}:
            values[keyword] = value.upper()
        elif keyword == "ENVID" and len(value) <= ENVID_OCTETS:
            values[keyword] = decode_xtext(value)
        elif keyword == "AUTH":
            decode_xtext(value)
        elif keyword in {"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"}:
            raise CommandError(BAD_PARAMETER)
        else:
            raise CommandError(UNKNOWN_PARAMETER, "unknown_parameter")
    return values


def decode_xtext(text: str) -> str:
    """RFC 3461 section 4. What comes out is printable ASCII. Raises CommandError."""
    if not _XTEXT.fullmatch(text):
        raise CommandError(BAD_PARAMETER)
    decoded = _XTEXT_PAIR.sub(lambda match: chr(int(match[1], 16)), text) if "+" in text else text
    if not (decoded.isascii() and decoded.isprintable()):
        raise CommandError(BAD_PARAMETER, "control_character")
    return decoded


def _notify(value: str) -> tuple[Notify, ...]:
    words = value.upper().split(",") if value.isascii() else [""]
    if words == ["NEVER"]:
        return (Notify.NEVER,)
    if len(set(words)) != len(words) or not {"SUCCESS", "FAILURE", "DELAY"}.issuperset(words):
        raise CommandError(BAD_PARAMETER)
    return tuple([Notify(word) for word in words])


def _original_recipient(value: str) -> str:
    kind, semicolon, address = value.partition(";")
    if not semicolon or len(value.encode()) > ORCPT_OCTETS or not _ADDRESS_TYPE.fullmatch(kind):
        raise CommandError(BAD_PARAMETER)
    if kind.upper() == "RFC822" and (unlabelled := _unlabelled_utf8(address)):
        return f"utf-8;{unlabelled}"
    if kind.upper() != "UTF-8":
        return f"{kind};{decode_xtext(address)}"
    if not _UTF8_ADDRESS.fullmatch(address):
        raise CommandError(BAD_PARAMETER)
    decoded = _EMBEDDED.sub(_embedded_character, address)
    if not decoded.isprintable():
        raise CommandError(BAD_PARAMETER, "control_character")
    return f"{kind};{decoded}"


def _unlabelled_utf8(text: str) -> str:
    """The address behind `rfc822;` whose octets are UTF-8, "" for any other.

    Postfix (3.7) sends it so for a recipient beyond ASCII, although RFC 6533 section 3 has a type of its own for those.
    """
    if not _XTEXT.fullmatch(text):
        return ""
    octets = _XTEXT_PAIR.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1")
    try:
        decoded = octets.decode()
    except UnicodeDecodeError:
        return ""
    return decoded if decoded.isprintable() and not decoded.isascii() else ""


def _embedded_character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    if number > 0x10FFFF:
        raise CommandError(BAD_PARAMETER)
    return chr(number)
