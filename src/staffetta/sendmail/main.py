"""The commands `sendmail`, `mailq` and `newaliases`, from the command line to the exit status.

They start many thousand times a day on some machines: what one mode does not need is imported in the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from staffetta.sendmail.flags import Mode, Wish, read_flags
from staffetta.sendmail.statuses import IO_ERROR, OK, TRY_LATER, USAGE, Stop

if TYPE_CHECKING:
    from staffetta.sendmail.letter import Source

HELP: Final = """\
usage: sendmail [-t] [-i] [-f SENDER] [-F NAME] [RECIPIENT]...
       sendmail -bs | -bp | -bi | -q

Reads a message and leaves it for the relay. More: man sendmail.

"""


def sendmail() -> None:
    """The command `sendmail`; by the name of `mailq` or `newaliases` it is those."""
    name = os.path.basename(sys.argv[0])
    words = sys.argv[1:]
    if name == "mailq":
        words = ["-bp", *words]
    elif name == "newaliases":
        words = ["-bi", *words]
    _run(words)


def mailq() -> None:
    """The command `mailq`: what waits."""
    _run(["-bp", *sys.argv[1:]])


def newaliases() -> None:
    """The command `newaliases`: there is nothing to build."""
    _run(["-bi", *sys.argv[1:]])


def run(words: Sequence[str]) -> int:
    """Do what the words of the command line ask for; the exit status."""
    if list(words) == ["--help"]:
        return _help()
    try:
        wish = read_flags(words)
        if wish.verbose and wish.ignored:
            _say(f"{len(wish.ignored)} flags are not known here and were ignored: {' '.join(wish.ignored)!a}")
        return _MODES[wish.mode](wish)
    except Stop as stop:
        _say(str(stop))
        return stop.status


def _help() -> int:
    from staffetta.sendmail.manual_words import FLAGS  # noqa: PLC0415

    sys.stdout.write(HELP)
    for flag, value, text in FLAGS:
        sys.stdout.write(f"  {flag} {value}".ljust(16) + text.replace("`", "") + "\n")
    return OK


def _run(words: Sequence[str]) -> None:
    try:
        status = run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = TRY_LATER
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = OK
    sys.exit(status)


def _deliver(wish: Wish) -> int:
    from staffetta.sendmail.letter import Letter, addresses, header_recipients, one_address  # noqa: PLC0415
    from staffetta.sendmail.place import drop_directory  # noqa: PLC0415

    directory = drop_directory(wish.config, os.environ)
    sender = one_address(wish.sender) if wish.sender else wish.sender
    recipients = [address for word in wish.recipients for address in addresses(word)]
    if not recipients and not wish.from_header:
        raise Stop("nobody is named to send to: name recipients, or use -t", USAGE)
    letter = Letter(_Input(), dot_ends=wish.dot_ends)
    letter.read_header()
    if wish.from_header:
        recipients += header_recipients(letter.header)
        if not recipients:
            raise Stop("the header names nobody to send to", USAGE)
    from staffetta.sendmail.drop import DropFile, Envelope  # noqa: PLC0415

    envelope = Envelope(
        tuple(dict.fromkeys(recipients)), sender, wish.full_name, wish.notify, wish.ret, _printable(wish.envid)
    )
    file = DropFile(directory)
    try:
        file.write(letter.header)
        for block in letter.rest():
            file.write(block)
    except BaseException:
        file.discard()
        raise
    file.commit(envelope)
    if wish.verbose:
        _say(f"stored as {file.name} for {len(envelope.recipients)} recipients")
    return OK


class _Input:
    """Standard input, octet by octet as it comes."""

    def read(self, size: int, /) -> bytes:
        """At most `size` octets. Raises Stop."""
        try:
            return os.read(0, size)
        except OSError as error:
            raise Stop(f"the message cannot be read: {error.strerror}", IO_ERROR) from error


def _smtp(wish: Wish) -> int:
    from staffetta.sendmail.dialogue import serve  # noqa: PLC0415
    from staffetta.sendmail.place import drop_directory  # noqa: PLC0415

    source: Source = _Input()
    return serve(drop_directory(wish.config, os.environ), source, _write)


def _write(octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(1, view) :]


def _queue(wish: Wish) -> int:
    from staffetta.sendmail.mailq import show  # noqa: PLC0415

    return show(wish.config)


def _wake(wish: Wish) -> int:
    from staffetta.sendmail.mailq import retry  # noqa: PLC0415

    return retry(wish.config)


def _aliases(wish: Wish) -> int:
    sys.stdout.write("Nothing to build: aliases stand in the configuration, and hold when the relay reads it.\n")
    return OK


def _elsewhere(wish: Wish) -> int:
    what = {
        Mode.DAEMON: "the relay is started with: staffetta run",
        Mode.VERIFY: "where mail for an address goes, says: staffetta explain route ADDRESS",
        Mode.TEST: "the configuration is checked with: staffetta config check",
    }
    raise Stop(what[wish.mode], USAGE)


_MODES: Final[dict[Mode, Callable[[Wish], int]]] = {
    Mode.DELIVER: _deliver,
    Mode.SMTP: _smtp,
    Mode.QUEUE: _queue,
    Mode.WAKE: _wake,
    Mode.ALIASES: _aliases,
    Mode.DAEMON: _elsewhere,
    Mode.VERIFY: _elsewhere,
    Mode.TEST: _elsewhere,
}


def _printable(envid: str | None) -> str | None:
    if envid is not None and not (envid.isascii() and envid.isprintable() and 0 < len(envid) <= 100):
        raise Stop("-V takes up to 100 printable ASCII characters", USAGE)
    return envid


def _say(text: str) -> None:
    safe = text if text.isprintable() else ascii(text)[1:-1]
    sys.stderr.write(f"sendmail: {safe}\n")
