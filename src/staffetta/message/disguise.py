"""What makes a text look like another one: look-alike letters, scripts mixed in a word, marks that turn the direction.

Unicode Technical Standard 39 (confusables, mixed scripts) in a small table of the letters that are met in forged names,
and Unicode Annex 9 (direction marks). Accents are no disguise: `münchen` is written so.
This module refuses to know who somebody is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from staffetta.mail.domain import Domain

TEXT_CHARACTERS: Final = 2000
"""How much of a text is looked at."""

_CYRILLIC: Final = (
    "\u0430a\u0435e\u043eo\u0440p\u0441c\u0443y\u0445x\u0456i\u0458j\u0455s\u0501d\u051bq\u051dw"
    "\u04bbh\u04cfl\u0475v\u04c0l"
)
_CYRILLIC_CAPITALS: Final = (
    "\u0410A\u0412B\u0415E\u0406I\u0408J\u041aK\u041cM\u041dH\u041eO\u0420P\u0421C\u0405S\u0422T\u0425X\u04aeY"
)
_GREEK: Final = "\u03bfo\u03b1a\u03bdv\u03c1p\u03b9i\u03bak\u03c4t\u03c5u\u03c7x\u03f2c\u03f3j"
_GREEK_CAPITALS: Final = (
    "\u0391A\u0392B\u0395E\u0396Z\u0397H\u0399I\u039aK\u039cM\u039dN\u039fO\u03a1P\u03a4T\u03a5Y\u03a7X"
)
_OTHERS: Final = (
    "\u0131i\u0261g\u0251a\u026ai\u0269i\u0578n\u057du\u0585o\u0566q\u0570h\u01c0l\u0280r\u1d0fo\u1d1cu"
    "\u1d20v\u1d21w\u1d22z"
)
_TABLE: Final = "".join((_CYRILLIC, _CYRILLIC_CAPITALS, _GREEK, _GREEK_CAPITALS, _OTHERS))

LOOK_ALIKES: Final = dict(zip(map(ord, _TABLE[::2]), _TABLE[1::2], strict=True))
"""A letter, and the ASCII letter that it is taken for."""

_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200d\u2060-\u2064\u3164\ufeff\uffa0]"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_WORD = re.compile(r"[^\W\d_]{2,64}")
_SCRIPTS: Final = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")
"""Scripts whose letters look like one another's."""


def hidden_marks(text: str) -> tuple[str, ...]:
    """Kinds of characters in `text` that are not seen but act: `direction`, `invisible`, `control`."""
    text = text[:TEXT_CHARACTERS]
    kinds = (("direction", _DIRECTION), ("invisible", _INVISIBLE), ("control", _CONTROL))
    return tuple([kind for kind, pattern in kinds if pattern.search(text)])


def looks_like(text: str) -> str:
    """What `text` would be taken for, in ASCII; "" when it is ASCII itself or not all of it has an ASCII look-alike."""
    if text.isascii():
        return ""
    seen = unicodedata.normalize("NFKC", text[:TEXT_CHARACTERS]).translate(LOOK_ALIKES)
    return seen if seen.isascii() else ""


def mixed_words(text: str) -> tuple[str, ...]:
    """Words whose letters come from several scripts that look alike."""
    if text.isascii():
        return ()
    words = dict.fromkeys(_WORD.findall(text[:TEXT_CHARACTERS]))
    return tuple([word for word in words if not word.isascii() and len(_scripts(word)) > 1])


def disguised_domain(domain: Domain) -> str:
    """What a domain name looks like though it is another: its letters' look-alikes in ASCII, or the name itself when it
    mixes scripts in a label; "" when there is nothing odd."""
    shown = domain.unicode
    if shown.isascii():
        return ""
    return looks_like(shown) or (shown if any(mixed_words(label) for label in shown.split(".")) else "")


def _scripts(word: str) -> set[str]:
    return {script for letter in word for script in _SCRIPTS if unicodedata.name(letter, "").startswith(script)}
