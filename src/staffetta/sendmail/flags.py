"""The command line of `sendmail`, read as generously as programs write it.

Flags stand glued (`-fanna`), apart (`-f anna`), in clusters (`-ti`), before and behind recipients. A flag that nobody
knows is remembered and otherwise ignored: mail must not be lost because a program asks for more than we do. Envelope
wishes are those of RFC 3461 (`-N`, `-R`, `-V`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from staffetta.sendmail.manual_words import IGNORED
from staffetta.sendmail.statuses import USAGE, Stop


class Mode(StrEnum):
    """What `sendmail` is to do: the letter of `-b`."""

    DELIVER = "m"
    SMTP = "s"
    QUEUE = "p"
    ALIASES = "i"
    DAEMON = "d"
    VERIFY = "v"
    TEST = "t"
    WAKE = "q"
    """`-q`, which is no `-b` elsewhere."""


class Wish(msgspec.Struct, frozen=True):
    """What the command line asks for.

    `sender` None: whoever calls; "": the null path. `ignored` are the flags that mean nothing here.
    """

    mode: Mode = Mode.DELIVER
    recipients: tuple[str, ...] = ()
    from_header: bool = False
    dot_ends: bool = True
    sender: str | None = None
    full_name: str | None = None
    notify: tuple[str, ...] = ()
    ret: str | None = None
    envid: str | None = None
    config: str | None = None
    verbose: bool = False
    ignored: tuple[str, ...] = ()


_TAKES_VALUE: Final = frozenset("ABCDFLMNOPRVXbefhopr")
"""Flags whose value is the rest of the word, or else the next word."""

_GLUED_VALUE: Final = frozenset("dq")
"""Flags whose value is the rest of the word, if there is any."""

_NOTIFY: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})


def read_flags(words: Sequence[str]) -> Wish:
    """The wish behind the words of a command line, without the program's name. Raises Stop (usage)."""
    return _Reader(list(words)).read()


class _Reader:
    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._at = 0
        self._found: dict[str, object] = {}
        self._recipients: list[str] = []
        self._ignored: list[str] = []

    def read(self) -> Wish:
        words = self._words
        while self._at < len(words):
            word = words[self._at]
            self._at += 1
            if word == "--":
                self._recipients += words[self._at :]
                break
            if not word.startswith("-") or word == "-":
                self._recipients.append(word)
            elif word.startswith("--"):
                self._ignored.append(word)
            else:
                self._cluster(word[1:])
        wish = Wish(recipients=tuple(self._recipients), ignored=tuple(self._ignored))
        return msgspec.structs.replace(wish, **self._found)

    def _cluster(self, letters: str) -> None:
        for place, letter in enumerate(letters):
            rest = letters[place + 1 :]
            if letter in _TAKES_VALUE:
                self._valued(letter, rest or self._next(letter))
                return
            if letter in _GLUED_VALUE:
                self._valued(letter, rest)
                return
            if not self._plain(letter):
                # What follows could be the value of a flag that nobody knows.
                self._ignored.append(f"-{letter}{rest}")
                return

    def _next(self, letter: str) -> str:
        if self._at >= len(self._words):
            raise Stop(f"the flag -{letter} needs a value", USAGE)
        self._at += 1
        return self._words[self._at - 1]

    def _plain(self, letter: str) -> bool:
        if letter == "t":
            self._found["from_header"] = True
        elif letter == "i":
            self._found["dot_ends"] = False
        elif letter == "v":
            self._found["verbose"] = True
        elif letter == "I":
            self._found["mode"] = Mode.ALIASES
        elif letter not in IGNORED:
            return False
        return True

    def _valued(self, letter: str, value: str) -> None:
        found = self._found
        if letter in "fr":
            found["sender"] = "" if value in {"", "<>"} else value
        elif letter == "F":
            found["full_name"] = value
        elif letter == "b":
            found["mode"] = _mode(value)
        elif letter == "q":
            # With a time it is the daemon that is meant, whose retries are in the configuration.
            found.setdefault("mode", Mode.WAKE)
        elif letter == "C":
            found["config"] = value
        elif letter == "N":
            found["notify"] = _notify(value)
        elif letter == "R":
            found["ret"] = _ret(value)
        elif letter == "V":
            found["envid"] = value
        elif letter in "oO":
            self._option(value.replace(" ", "").lower())

    def _option(self, option: str) -> None:
        if option in {"i", "i=true", "ignoredots", "ignoredots=true"}:
            self._found["dot_ends"] = False
        elif option == "v":
            self._found["verbose"] = True


def _mode(value: str) -> Mode:
    if value[:1] == "a":  # ARPANET mode, which nothing uses
        return Mode.DELIVER
    try:
        return Mode(value[:1])
    except ValueError:
        raise Stop(f"there is no mode -b{value}", USAGE) from None


def _notify(value: str) -> tuple[str, ...]:
    words = tuple(word.strip().upper() for word in value.split(","))
    if words == ("NEVER",) or (words and set(words) <= _NOTIFY):
        return tuple(dict.fromkeys(words))
    raise Stop("-N takes never, or any of success, failure, delay with commas between", USAGE)


def _ret(value: str) -> str:
    word = value.upper()
    if word not in {"FULL", "HDRS"}:
        raise Stop("-R takes full or hdrs", USAGE)
    return word
