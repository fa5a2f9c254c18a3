"""`mailq` and `sendmail -q`: the queue in the form that people and programs know from other mail systems.

One entry for each message: id (`*` while it is being sent, `!` while it is held), size, time of arrival, sender; below
it every waiting recipient, with the last reply in brackets; a last line with the sum. What has not been picked up from
the drop directory yet is counted too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from staffetta.control.place import drop_of
from staffetta.mail.identity import is_identity
from staffetta.sendmail.place import data_directory
from staffetta.sendmail.statuses import NOT_ALLOWED, OK, TRY_LATER, UNAVAILABLE, Stop
from staffetta.spool.operator import Waiting

HEAD: Final = f"{'-Queue ID-':<27} {'--Size--':>8} ----Arrival Time---- -Sender/Recipient-------"
EMPTY: Final = "Mail queue is empty"
_INDENT: Final = " " * 58
_KILO: Final = 1024


def show(config: str | None) -> int:
    """Print the queue; the exit status. Raises Stop."""
    from staffetta.control.queue import open_queue  # noqa: PLC0415
    from staffetta.spool import operator  # noqa: PLC0415
    from staffetta.spool.operator import Filter  # noqa: PLC0415

    data_dir = data_directory(config, os.environ)
    messages = octets = 0
    with _Store(), open_queue(data_dir) as store:
        for text, size in entries(operator.waiting(store, Filter(), time.time())):
            if not messages:
                _line(HEAD)
            messages += 1
            octets += size
            _line(text)
    dropped = _dropped(drop_of(data_dir))
    if messages:
        _line(f"-- {octets // _KILO} Kbytes in {messages} Request{'s' if messages != 1 else ''}.")
    elif not dropped:
        _line(EMPTY)
    if dropped:
        _line(f"-- {dropped} more wait in {drop_of(data_dir)} for the relay to pick them up.")
    return OK


def retry(config: str | None) -> int:
    """Try everything now; the exit status. Raises Stop."""
    from staffetta.control.place import who_asks  # noqa: PLC0415
    from staffetta.control.queue import open_queue  # noqa: PLC0415
    from staffetta.control.queue_acts import Wish, carry_out  # noqa: PLC0415
    from staffetta.spool.operator import Filter  # noqa: PLC0415
    from staffetta.spool.operator_acts import Act  # noqa: PLC0415

    with _Store(), open_queue(data_directory(config, os.environ)) as store:
        carry_out(store, Wish(Act.RETRY, Filter(), who_asks(), "sendmail -q"), time.time())
    return OK


def entries(waiting: Iterable[Waiting]) -> Iterator[tuple[str, int]]:
    """The text of each message with all its recipients, and its size; recipients of one message come together."""
    gathered: list[Waiting] = []
    for one in waiting:
        if gathered and one.id != gathered[0].id:
            yield _entry(gathered), gathered[0].size
            gathered = []
        gathered.append(one)
    if gathered:
        yield _entry(gathered), gathered[0].size


def _entry(recipients: list[Waiting]) -> str:
    first = recipients[0]
    states = {one.state.value for one in recipients}
    mark = "*" if "active" in states else "!" if "held" in states else ""
    when = time.strftime("%a %b %e %H:%M:%S", time.localtime(first.received_at))
    lines = [f"{first.id + mark:<27} {first.size:>8} {when:<20} {_safe(first.sender) or 'MAILER-DAEMON'}"]
    said = None
    for one in recipients:
        if one.last_reply and one.last_reply != said:
            lines.append(f"{'(' + _safe(one.last_reply) + ')':>{len(HEAD)}}")
        said = one.last_reply
        lines.append(f"{_INDENT}{_safe(one.recipient)}")
    return "\n".join([*lines, ""])


def _dropped(drop: Path) -> int:
    """How many messages nobody has picked up yet."""
    try:
        with os.scandir(drop) as found:
            return sum(is_identity(entry.name) for entry in found)
    except OSError:
        return 0


def _safe(text: str) -> str:
    """Text from outside as a terminal may show it."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _line(text: str) -> None:
    sys.stdout.write(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode("utf-8", "replace") + "\n")


class _Store:
    """What a store raises, as the end of the command."""

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        import apsw  # noqa: PLC0415

        from staffetta.control.place import NotAllowed, NothingThere  # noqa: PLC0415
        from staffetta.spool.contract import SpoolUnavailable  # noqa: PLC0415
        from staffetta.spool.database import StoreError  # noqa: PLC0415

        if isinstance(error, NotAllowed):
            raise Stop(f"{error}; your own mail is on its way or comes back to you", NOT_ALLOWED) from error
        if isinstance(error, NothingThere):
            raise Stop(f"{error}: has the relay run?", UNAVAILABLE) from error
        if isinstance(error, SpoolUnavailable | apsw.BusyError):
            raise Stop(f"the queue cannot be read now: {error}", TRY_LATER) from error
        if isinstance(error, StoreError | apsw.Error):
            raise Stop(str(error), UNAVAILABLE) from error
