"""`manual`: the manual pages, made from the commands, the configuration's keys and the flags of sendmail themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from staffetta import __version__
from staffetta.cli import exits
from staffetta.cli.output import Stop, raw, say
from staffetta.cli.roff import Page

PAGES: Final = ("staffetta.1", "staffetta.toml.5", "sendmail.1")
ALSO: Final = {"mailq.1": "sendmail.1", "newaliases.1": "sendmail.1"}
"""Pages that are others under a second name."""

STATUSES: Final = (
    (exits.DONE, "Done, or the check passed."),
    (exits.PROBLEM, "The check found a problem."),
    (exits.USAGE, "The command line was wrong."),
    (exits.NOTHING_MATCHED, "Nothing matched."),
    (exits.NOT_REACHABLE, "The relay cannot be reached."),
    (exits.NOT_ALLOWED, "Not allowed."),
    (exits.TEMPORARY, "A temporary failure: try again."),
    (exits.REFUSED, "Refused for good."),
    (exits.CONFIGURATION, "The configuration is invalid."),
)
_FILES: Final = (
    ("./staffetta.toml, /etc/staffetta/staffetta.toml", "The configuration, the first that exists."),
    ("/var/lib/staffetta", "Everything that must survive, unless `data_dir` says otherwise."),
    ("/var/lib/staffetta-drop", "Where `sendmail` leaves mail: beside `data_dir`, with -drop behind its name."),
)


@click.command()
@click.argument("page", required=False, type=click.Choice(PAGES))
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write all here.")
@click.pass_context
def manual(ctx: click.Context, page: str | None, folder: Path | None) -> None:
    """Print a manual page for `man -l`, or write all of them below DIR, such as /usr/local/share/man."""
    root = ctx.find_root().command
    if folder is None:
        raw(make(root, page or PAGES[0]).encode())
        return
    try:
        for name in (page,) if page else (*PAGES, *ALSO):
            _write(folder, name, _alias(name) or make(root, name))
    except OSError as error:
        raise Stop(f"cannot write below {folder}: {error.strerror}", exits.NOT_ALLOWED) from error
    say(f"The pages are in {folder}.")


def make(root: click.Command, name: str) -> str:
    """One page."""
    date = time.strftime("%Y-%m-%d", time.gmtime(_moment()))
    made = {"staffetta.1": _staffetta, "staffetta.toml.5": _configuration, "sendmail.1": _sendmail}
    return made[name](root, date)


def _moment() -> float:
    """Now, or when whoever builds a package says that it is."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return float(given) if given.isascii() and given.isdigit() and len(given) < 12 else time.time()


def _write(folder: Path, name: str, text: str) -> None:
    where = folder / f"man{name[-1]}"
    where.mkdir(parents=True, exist_ok=True)
    (where / name).write_text(text)


def _alias(name: str) -> str:
    return f".so man{name[-1]}/{ALSO[name]}\n" if name in ALSO else ""


def _staffetta(root: click.Command, date: str) -> str:
    page = Page("staffetta", 1, "an SMTP relay", date=date, version=__version__)
    page.section("SYNOPSIS")
    page.paragraph("`staffetta` [`-c` FILE] VERB ...")
    page.section("DESCRIPTION")
    page.paragraph(root.help or "")
    page.section("VERBS")
    with click.Context(root, info_name="staffetta") as context:
        for command_context in leaves(context):
            _verb(page, command_context)
    page.section("EXIT STATUS")
    page.items((str(status), text) for status, text in STATUSES)
    page.section("FILES")
    page.items(_FILES)
    page.section("SEE ALSO")
    page.paragraph("`staffetta.toml`(5), `sendmail`(1)")
    return page.text()


def leaves(context: click.Context) -> Iterator[click.Context]:
    """Every command that does something, in the order of the help."""
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            yield from leaves(click.Context(found, info_name=name, parent=context))


def _verb(page: Page, context: click.Context) -> None:
    command = context.command
    path = context.command_path.removeprefix("staffetta ")
    arguments = [one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)]
    page.subsection(" ".join([path, *arguments]))
    page.paragraph(command.help or "")
    records = [one.get_help_record(context) for one in command.params if isinstance(one, click.Option)]
    page.items(record for record in records if record is not None)
    if command.epilog:
        page.paragraph(command.epilog)


def _configuration(_: click.Command, date: str) -> str:
    from staffetta.config.codes import CODES  # noqa: PLC0415
    from staffetta.config.keys import TABLES  # noqa: PLC0415

    page = Page("staffetta.toml", 5, "the configuration of Staffetta", date=date, version=__version__)
    page.section("DESCRIPTION")
    page.paragraph(
        'One TOML file. Paths are relative to it. Durations are written `"30s"`, `"5m"`, `"4h"`, `"5d"`, sizes '
        '`"64KiB"`, `"25MiB"`, rates `"80/s"`, `"500/h"`, networks `"192.0.2.0/24"` or `"192.0.2.10-192.0.2.20"`. A '
        'secret is `"file:PATH"`, `"env:NAME"` or the text itself. `staffetta config check` reports every mistake.'
    )
    for table in TABLES:
        page.section(table.header or "TOP LEVEL")
        page.paragraph(table.meaning)
        page.items((f"{key.name} = {key.kind.word}", _meaning(key)) for key in table.keys.values())
    page.section("CODES")
    page.paragraph("`staffetta help CODE` explains each.")
    page.items((code, what.title) for code, what in CODES.items())
    page.section("SEE ALSO")
    page.paragraph("`staffetta`(1)")
    return page.text()


def _meaning(key: Any) -> str:
    default = key.words or (f"`{key.default}`" if key.default else "none")
    meaning = key.meaning[:1].upper() + key.meaning[1:]
    return f"{meaning}. Required." if key.required else f"{meaning}. Default: {default}."


def _sendmail(_: click.Command, date: str) -> str:
    from staffetta.sendmail.manual_words import FLAGS, IGNORED  # noqa: PLC0415
    from staffetta.sendmail.manual_words import STATUSES as SYSEXITS  # noqa: PLC0415

    page = Page("sendmail", 1, "leave mail for the relay", date=date, version=__version__)
    page.section("SYNOPSIS")
    page.paragraph("`sendmail` [`-t`] [`-i`] [`-f` SENDER] [`-F` NAME] [RECIPIENT]...")
    page.paragraph("`sendmail` `-bs` | `-bp` | `-bi` | `-q`")
    page.paragraph("`mailq`")
    page.paragraph("`newaliases`")
    page.section("DESCRIPTION")
    for text in _SENDMAIL:
        page.paragraph(text)
    page.section("OPTIONS")
    page.items((f"{flag} {value}".rstrip(), text) for flag, value, text in FLAGS)
    page.paragraph(
        f"Flags of other mail systems that need nothing done are ignored: {', '.join(f'-{one}' for one in IGNORED)}. "
        "So are all that nobody knows."
    )
    page.section("EXIT STATUS")
    page.items((str(status), text) for status, text in SYSEXITS)
    page.section("ENVIRONMENT")
    page.items(
        (
            ("STAFFETTA_DROP", "The drop directory."),
            ("STAFFETTA_CONFIG", "The configuration, from which `data_dir` is read."),
        )
    )
    page.section("FILES")
    page.items(_FILES[1:])
    page.section("SEE ALSO")
    page.paragraph("`staffetta`(1), `staffetta.toml`(5)")
    return page.text()


_SENDMAIL: Final = (
    (
        "`sendmail` reads a message from standard input, up to its end or to a line with a single dot, and leaves it "
        "in a directory that every user may write to and nobody may list. It returns when the message is on disk. The "
        "relay takes it within a second, or when it is started. From, Date and Message-ID are added where they are "
        "missing."
    ),
    (
        "A name without a domain is a name on this machine. Mail for it goes to the account or alias of that name in "
        "one of the local domains, or to the postmaster when it is a user of the system."
    ),
    (
        "The superuser and the account of the relay may send as anybody. Other users may do what the first `[listen]` "
        'with `role = "relay"` that trusts loopback allows, with its `from` and `from_fixed`; where there is none, '
        "they send under their own name. What is refused comes back to the sender as a report. What is damaged is "
        "kept in the folder `damaged` of the drop directory."
    ),
    "`mailq` lists the queue. `newaliases` does nothing: aliases stand in the configuration.",
)
