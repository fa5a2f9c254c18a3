"""The command lines that programs really write, and what they mean."""

from __future__ import annotations

import shlex

import pytest

from staffetta.sendmail.flags import Mode, Wish, read_flags
from staffetta.sendmail.statuses import Stop


@pytest.mark.parametrize(
    ("line", "wish"),
    [
        ("anna", Wish(recipients=("anna",))),
        ("-t -i", Wish(from_header=True, dot_ends=False)),
        ("-ti", Wish(from_header=True, dot_ends=False)),
        ("-oi -t", Wish(from_header=True, dot_ends=False)),
        ("-o i anna", Wish(dot_ends=False, recipients=("anna",))),
        ("-O IgnoreDots=true anna", Wish(dot_ends=False, recipients=("anna",))),
        (
            "-FCronDaemon -i -odi -oem -oi -t -f root",
            Wish(sender="root", full_name="CronDaemon", dot_ends=False, from_header=True),
        ),
        ("-f anna@example.org ben", Wish(sender="anna@example.org", recipients=("ben",))),
        ("-fanna@example.org ben", Wish(sender="anna@example.org", recipients=("ben",))),
        ("-r anna ben", Wish(sender="anna", recipients=("ben",))),
        ("-ranna ben", Wish(sender="anna", recipients=("ben",))),
        ("-f '' ben", Wish(sender="", recipients=("ben",))),
        ("-f '<>' ben", Wish(sender="", recipients=("ben",))),
        ("'-f<>' ben", Wish(sender="", recipients=("ben",))),
        ("-r '' ben", Wish(sender="", recipients=("ben",))),
        ("-F 'Anna Ä' ben", Wish(full_name="Anna Ä", recipients=("ben",))),
        ("ben -f anna -t", Wish(sender="anna", recipients=("ben",), from_header=True)),
        ("ben -- -f anna", Wish(recipients=("ben", "-f", "anna"))),
        ("-bm ben", Wish(recipients=("ben",))),
        ("-b m ben", Wish(recipients=("ben",))),
        ("-bs", Wish(mode=Mode.SMTP)),
        ("-bp", Wish(mode=Mode.QUEUE)),
        ("-bi", Wish(mode=Mode.ALIASES)),
        ("-I", Wish(mode=Mode.ALIASES)),
        ("-bd -q15m", Wish(mode=Mode.DAEMON)),
        ("-q", Wish(mode=Mode.WAKE)),
        ("-q30m", Wish(mode=Mode.WAKE)),
        ("-qRexample.org", Wish(mode=Mode.WAKE)),
        ("-v ben", Wish(verbose=True, recipients=("ben",))),
        ("-N success,delay ben", Wish(notify=("SUCCESS", "DELAY"), recipients=("ben",))),
        ("-Nnever ben", Wish(notify=("NEVER",), recipients=("ben",))),
        ("-R hdrs -V envelope-1 ben", Wish(ret="HDRS", envid="envelope-1", recipients=("ben",))),
        ("-B8BITMIME ben", Wish(recipients=("ben",))),
        ("-B 8BITMIME -L tag -X /tmp/log -p smtp -h 3 -U -G -n -m -s -Am ben", Wish(recipients=("ben",))),
        ("-Ac -d0.1 ben", Wish(recipients=("ben",))),
        ("-C /tmp/x.toml ben", Wish(config="/tmp/x.toml", recipients=("ben",))),
        ("-em -eq -ep -ew -ee ben", Wish(recipients=("ben",))),
        ("-o7 -oA/etc/aliases -oQ/x ben", Wish(recipients=("ben",))),
        ("-Z ben", Wish(ignored=("-Z",), recipients=("ben",))),
        ("-Zvalue --unknown=3 -t ben", Wish(recipients=("ben",), from_header=True, ignored=("-Zvalue", "--unknown=3"))),
        ("-tiZ", Wish(from_header=True, dot_ends=False, ignored=("-Z",))),
    ],
)
def test_command_lines(line: str, wish: Wish) -> None:
    assert read_flags(shlex.split(line)) == wish


@pytest.mark.parametrize("line", ["-f", "-t -F", "-N always x", "-N never,success x", "-R some x", "-bz", "-b"])
def test_lines_without_sense_are_usage(line: str) -> None:
    with pytest.raises(Stop) as stop:
        read_flags(shlex.split(line))
    assert stop.value.status == 64
