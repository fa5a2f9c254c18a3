"""What the sentinel says at the doors: the shapes of control/relay_shapes as far as they go without a login and without
content. `check relay` tries the rest, in memory.

A day's check asks every form of a recipient once, from a sender that changes from day to day, so that every pair of a
form and a sender is asked within a week or so; what strangers ask most is asked from every sender each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from staffetta.control.relay_shapes import Names, claiming_senders, claims, forms, senders, tricks
from staffetta.control.relay_trials import Trial

_CONTENT: Final = ("DATA", "BDAT")
_ELSEWHERE: Final = ("AUTH ", "STARTTLS")
"""Wrong logins would count against whoever has our address, and TLS that does not come ends the session."""


def spoken(names: Names, turn: int) -> list[Trial]:
    """The trials of one door; `turn` is another number each time."""
    return [*_forms(names, turn), *_tricks(names), *_claims(names)]


def _forms(names: Names, turn: int) -> Iterator[Trial]:
    who = senders(names)
    outside = f"TO:<u@{names.outside}>"
    for sender_name, sender in who.items():
        yield _trial(f"RCPT {outside} from {sender_name}", f"MAIL FROM:{sender}", f"RCPT {outside}")
    pairs = list(who.items())
    for number, form in enumerate(forms(names)):
        sender_name, sender = pairs[(number + turn) % len(pairs)]
        utf8 = "" if form.isascii() else " SMTPUTF8"
        yield _trial(f"RCPT {form} from {sender_name}", f"MAIL FROM:{sender}{utf8}", f"RCPT {form}", plain=False)


def _tricks(names: Names) -> Iterator[Trial]:
    for lines in tricks(names):
        said = lines[:-1] if lines[-1].startswith(_CONTENT) else lines
        if not any(line.startswith((*_CONTENT, *_ELSEWHERE)) for line in said):
            yield _trial(f"state: {', '.join(said)}", *said)


def _claims(names: Names) -> Iterator[Trial]:
    for claim, said in claims(names).items():
        for sender in claiming_senders(names):
            asked = (f"MAIL FROM:{sender}", f"RCPT TO:<u@{names.outside}>")
            yield _trial(f"claim: {claim}, {sender}", *said, *asked, plain=False)


def _trial(shape: str, *lines: str, plain: bool = True) -> Trial:
    return Trial(shape, lines, plain=plain)
