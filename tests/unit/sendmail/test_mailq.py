"""The queue in the form that people know."""

from __future__ import annotations

import time

import pytest

from staffetta.sendmail.mailq import HEAD, entries
from staffetta.spool.contract import State
from staffetta.spool.operator import Waiting

ID = "01M86VEKT67JPB4XF1QGH5VVBE"


def waiting(recipient: str, **more: object) -> Waiting:
    facts = {
        "id": ID,
        "index": 0,
        "sender": "anna@a.example",
        "recipient": recipient,
        "state": State.DEFERRED,
        "destination": "mx:b.example",
        "size": 2048,
        "received_at": 86_400.0,
        "attempts": 1,
        "next_attempt_at": 0.0,
        "last_reply": "",
        "in_doubt": False,
        "bounce_by": "",
        **more,
    }
    return Waiting(**{name: facts[name] for name in Waiting.__struct_fields__})


def test_recipients_of_one_message_stand_together() -> None:
    first = [waiting("b@b.example", last_reply="451 no"), waiting("c@b.example", last_reply="451 no")]
    other = waiting("d@d.example", id="01M86VEKT67JPB4XF1QGH5VVBF", sender="")
    (text, size), (second, _) = entries([*first, other])
    lines = text.split("\n")
    when = time.strftime("%a %b %e %H:%M:%S", time.localtime(86_400))
    assert lines[0] == f"{ID:<27} {2048:>8} {when:<20} anna@a.example"
    assert [line.strip() for line in lines[1:]] == ["(451 no)", "b@b.example", "c@b.example", ""]
    assert len(lines[1]) == len(HEAD)
    assert size == 2048
    assert second.split("\n")[0].endswith(" MAILER-DAEMON")


@pytest.mark.parametrize(("state", "mark"), [(State.ACTIVE, "* "), (State.HELD, "! "), (State.DEFERRED, "  ")])
def test_states_are_marked(state: State, mark: str) -> None:
    ((text, _),) = entries([waiting("b@b.example", state=state)])
    assert text.startswith(ID + mark)


def test_nothing_from_outside_moves_the_cursor() -> None:
    ((text, _),) = entries([waiting('"\x1b[2J"@b.example', sender="\u202ea@a.example", last_reply="550 \x1b]0;x\x07")])
    assert text.replace("\n", "").isprintable()
    assert "\\x1b[2J" in text
