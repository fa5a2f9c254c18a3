"""Alarms: a state that is there until its cause is gone."""

from __future__ import annotations

from staffetta.observe.alarms import LONGEST_TEXT, MOST_ALARMS, Alarms
from staffetta.observe.events import AlarmCleared, AlarmRaised, Event, moment


def test_an_alarm_stands_until_it_is_cleared_and_keeps_its_beginning() -> None:
    now = 100.0
    alarms = Alarms(lambda: now)
    assert alarms.sound("clock", "the clock is wrong")
    now = 200.0
    assert not alarms.sound("clock", "the clock is an hour ahead")
    assert alarms.sound("blocklist", "x" * 1000)
    first, second = alarms.active()
    assert (first.name, first.text, first.since) == ("clock", "the clock is an hour ahead", moment(100.0))
    assert len(second.text) == LONGEST_TEXT
    assert alarms.clear("clock")
    assert not alarms.clear("clock")
    assert [alarm.name for alarm in alarms.active()] == ["blocklist"]


def test_there_is_an_end_to_alarms() -> None:
    alarms = Alarms(lambda: 0.0)
    for number in range(MOST_ALARMS + 10):
        alarms.sound(f"n{number:03}", "x")
    assert len(alarms.active()) == MOST_ALARMS
    assert not alarms.sound("n000", "its text can still change")
    assert alarms.active()[0].text == "its text can still change"


def test_the_beginning_and_the_end_are_told_once() -> None:
    told: list[Event] = []
    alarms = Alarms(lambda: 100.0, told.append)
    for text in ("the clock is wrong", "the clock is an hour ahead"):
        alarms.sound("clock", text)
    alarms.clear("clock")
    alarms.clear("clock")
    at = moment(100.0)
    assert told == [
        AlarmRaised(time=at, name="clock", reason="the clock is wrong"),
        AlarmCleared(time=at, name="clock"),
    ]
