"""The shapes of control/relay_shapes as messages to try: what to say, at once or line by line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from staffetta.control.relay_shapes import (
    FORGED_HEADER,
    PROXY_HEADERS,
    Names,
    claiming_senders,
    claims,
    forms,
    senders,
    tricks,
)

CONTENT: Final = b"Subject: relayed\r\n\r\nrelayed\r\n."
"""A message, and the dot that ends it."""

DISGUISES: Final = ("::ffff:203.0.113.99", "2001:db8::99", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0")
"""Addresses of clients that are not loopback, whatever they look like."""


class Trial(msgspec.Struct, frozen=True):
    """One message. `shape` says what is tried. `lines` are said one by one, the content where a DATA is allowed.

    `whole`, where it is not empty, is said in one piece instead, at the end of which the door hangs up; `lines` then
    only show it. `at_once`: before the door has greeted. `plain`: worth trying from every address.
    """

    shape: str
    lines: tuple[str, ...]
    content: bytes = CONTENT
    whole: bytes = b""
    at_once: bool = False
    plain: bool = False


def shaped(names: Names) -> Iterator[Trial]:
    """Every form of a recipient from every sender, every trick with the state of a session, every claim."""
    for who, sender in senders(names).items():
        for form in forms(names):
            utf8 = "" if form.isascii() else " SMTPUTF8"
            lines = (f"MAIL FROM:{sender}{utf8}", f"RCPT {form}", "DATA")
            yield Trial(f"{form} from {who}", lines, plain=form == f"TO:<u@{names.outside}>")
    for trick in tricks(names):
        yield _whole(f"state: {trick[0]}, {trick[1]}", trick, plain=True)
    for claim, said in claims(names).items():
        for sender in claiming_senders(names):
            asked = [f"MAIL FROM:{sender}", f"RCPT TO:<u@{names.outside}>", f"RCPT TO:<{names.user}>", "DATA"]
            yield _whole(f"claim: {claim}, {sender}", [*said, *asked], header=FORGED_HEADER)


def proxied(names: Names) -> Iterator[Trial]:
    """Headers of the PROXY protocol from somebody who is no proxy."""
    for name, header in PROXY_HEADERS.items():
        talk = ["EHLO localhost", f"MAIL FROM:<x@{names.outside}>", f"RCPT TO:<u@{names.outside}>", "DATA"]
        trial = _whole(f"PROXY {name}", talk)
        yield msgspec.structs.replace(trial, whole=header + trial.whole, at_once=True)


def _whole(shape: str, lines: list[str], *, header: bytes = b"", plain: bool = False) -> Trial:
    """Lines, then content and QUIT, whatever the door makes of them: an end for every state that it may be in."""
    octets = "".join(f"{line}\r\n" for line in lines).encode()
    ending = header + CONTENT + b"\r\nRSET\r\nQUIT\r\nQUIT\r\n"
    return Trial(shape, tuple(lines), whole=octets + ending, plain=plain)
