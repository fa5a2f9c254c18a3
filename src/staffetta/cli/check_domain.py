"""`check domain`: can others send as it, can it be reached safely, will bulk-sender rules accept it?"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staffetta.cli import exits, given
from staffetta.cli.options import config_option, find_file, json_option, load_or_exit
from staffetta.cli.output import line, print_json, safe, say
from staffetta.mail.domain import Domain

if TYPE_CHECKING:
    from staffetta.control.check_domain import DomainReport
    from staffetta.policy.posture.findings import Finding, Opinion

_QUESTIONS = {
    "spoofable": "Can others send as you?",
    "reachable": "Can you be reached safely?",
    "bulk": "Will bulk-sender rules accept you?",
}


@click.command()
@click.argument("name", metavar="DOMAIN", callback=given.domain)
@click.option(
    "--selector",
    "selectors",
    multiple=True,
    metavar="S",
    callback=given.selectors,
    help="A DKIM selector of the domain; several times for several.",
)
@click.option(
    "--list",
    "lists",
    multiple=True,
    metavar="ZONE",
    callback=given.domains,
    help="Ask this block list about the addresses of the MX hosts, beside those of [[checks.blocklist]].",
)
@config_option
@json_option
def domain(
    name: Domain, selectors: tuple[str, ...], lists: tuple[Domain, ...], config: Path | None, as_json: bool
) -> None:
    """Can others send as DOMAIN, can it be reached safely, will bulk-sender rules accept it?

    Asks the DNS, and for the MTA-STS policy file where one is announced; sends nothing. Exit status 0: nothing worse
    than a note; 1: a fault or a warning; 2: not a domain; 6: the DNS does not answer.
    """
    known = load_or_exit(config, files=False).config if find_file(config) is not None else None
    from staffetta.control.check_domain import Asked, Outcome, ask  # noqa: PLC0415 - after the arguments are right

    report = asyncio.run(ask(Asked(name, selectors, lists), known, time.monotonic))
    if as_json:
        print_json(report.answer)
    else:
        _print(report)
    status = {Outcome.FINE: exits.DONE, Outcome.PROBLEM: exits.PROBLEM, Outcome.UNKNOWN: exits.TEMPORARY}
    click.get_current_context().exit(status[report.outcome])


def _print(report: DomainReport) -> None:
    answer = report.answer
    for name, question in _QUESTIONS.items():
        opinion: Opinion | None = getattr(answer.verdicts, name)
        word = "not known" if opinion is None else opinion.value
        line(f"{question:<35} {word.upper():<7} {safe(getattr(answer.sentences, name))}")
    for finding in answer.findings:
        _print_finding(finding)
    records = dict.fromkeys(finding.publish for finding in answer.findings if finding.publish)
    if records:
        line("")
        line("Records to publish, those for faults first:")
        for record in records:
            line(f"  {safe(record)}")
    say(f"Next: {safe(report.next_command)}")


def _print_finding(finding: Finding) -> None:
    line("")
    line(f"{finding.level.value.upper():<8} {finding.code}  {safe(finding.text)}")
    line(f"{'':14} {safe(finding.record)}: {safe(finding.evidence)}")
    if finding.advice != "Nothing.":
        line(f"{'':14} {safe(finding.advice)}")
