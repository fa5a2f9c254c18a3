"""`explain headers`: where a message came from, and what of its header is proven."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from staffetta.cli import exits
from staffetta.cli.options import config_option, find_file, json_option, load_or_exit
from staffetta.cli.output import Stop, line, on_terminal, print_json, record, safe, say, span

if TYPE_CHECKING:
    from staffetta.config.schema import Config
    from staffetta.control.explain_headers import HeadersReport, HopReport
    from staffetta.control.explain_headers_trust import Trusted

BAR_CHARACTERS: Final = 16
"""Length of the bar of the longest delay."""


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--trust", multiple=True, metavar="HOST", help="Believe this host, .domain, address or network too.")
@click.option("--no-dns", is_flag=True, help="Ask nobody: nothing can be proven then.")
@config_option
@json_option
def headers(file: str, trust: tuple[str, ...], no_dns: bool, config: Path | None, as_json: bool) -> None:
    """Where the message in FILE came from, who sent it, and what of that is proven; `-` reads standard input.

    Received fields are believed down to the last one that we or a host named with --trust wrote; what stands below is a
    claim. Exit status 0: the domain in From is proven; 1: not proven, or suspicious; 2: not a mail; 6: the DNS does not
    answer.
    """
    from staffetta.control.explain_headers_trust import parse_trust  # noqa: PLC0415 - not for --help

    try:
        given = parse_trust(trust)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--trust") from error
    known = load_or_exit(config, files=False).config if config is not None or find_file(None) is not None else None
    report = _explain(file, given, known, no_dns=no_dns)
    if as_json:
        print_json(report)
    else:
        _print(report)
    verdict = report.verdict
    status = exits.DONE if verdict.proven and not verdict.suspicious else exits.PROBLEM
    click.get_current_context().exit(exits.TEMPORARY if verdict.undecided else status)


def _explain(file: str, given: Trusted, known: Config | None, *, no_dns: bool) -> HeadersReport:
    from staffetta.control.explain_headers import Desk, explain_headers  # noqa: PLC0415
    from staffetta.control.explain_headers_file import MailFile, NotMail  # noqa: PLC0415
    from staffetta.control.mx import resolver_settings  # noqa: PLC0415
    from staffetta.dns.live import LiveResolver  # noqa: PLC0415

    async def whole(stream: BinaryIO) -> HeadersReport:
        resolver = None if no_dns else LiveResolver(resolver_settings(known))
        try:
            desk = Desk(resolver, given, known, time.time, time.monotonic)
            return await explain_headers(MailFile(stream), desk)
        finally:
            if resolver is not None:
                await resolver.close()

    try:
        with _opened(file) as stream:
            return asyncio.run(whole(stream))
    except NotMail as error:
        raise Stop(f"{file}: {error}", exits.USAGE) from error
    except OSError as error:
        raise Stop(f"{file}: {error.strerror or error}", exits.USAGE) from error


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as stream:
        yield stream


def _print(report: HeadersReport) -> None:
    _print_hops(report)
    boundary = report.boundary
    if boundary.caveat:
        say(f"Note: {safe(boundary.caveat)}")
    line("")
    line(f"From         {safe(report.from_shown) or '-'}")
    line(f"envelope     {_envelope(report)}")
    for one in report.results:
        text = f"{one.method}={one.result}"
        reason = f"  ({safe(one.reason)})" if one.reason else ""
        line(f"{text:<12} {safe(one.subject)}{reason}".rstrip())
    for written in report.recorded:
        if not written.trusted:
            continue
        text = f"{written.by} recorded {written.method}={written.result}"
        line(f"recorded     {safe(text)}" + (f", today {written.now}" if written.now else ""))
    for finding in report.findings:
        line(f"{finding.level:<12} {safe(finding.text)}")
    line("")
    line(safe(report.verdict.sentence))


def _envelope(report: HeadersReport) -> str:
    if report.envelope_from is None:
        return "not known"
    return safe(report.envelope_from) or "<> (the null path)"


def _print_hops(report: HeadersReport) -> None:
    if on_terminal():
        longest = max((hop.delay_seconds or 0 for hop in report.hops), default=0)
        for hop in report.hops:
            _print_hop(hop, report.boundary.index, longest)
    else:
        for hop in report.hops:
            record(_cells(hop, report.boundary.index))
    if report.more_hops:
        line(f"and {report.more_hops} more Received fields, not read")
    for hop in report.hops:
        if hop.problem:
            line(f"hop {hop.index}: {safe(hop.problem)}")


def _print_hop(hop: HopReport, boundary: int, longest: float) -> None:
    """Two lines: who wrote it, when and how long after the hop below; and whom they had it from."""
    number, kind, by, client, address, protocol, when, delay = map(safe, _cells(hop, boundary))
    bar = ""
    if hop.delay_seconds is not None and hop.delay_seconds > 0:
        bar = "#" * max(1, round(BAR_CHARACTERS * hop.delay_seconds / longest))
    line(f"{number:>3}  {kind:<8}  {when:<19}  {by}  {delay:>7} {bar}".rstrip())
    line(f"{'':>15}from {client} {address}  {protocol}".rstrip())


def _cells(hop: HopReport, boundary: int) -> tuple[str, ...]:
    kind = "claim" if not hop.trusted else "boundary" if hop.index == boundary else "fact"
    client = hop.helo or hop.from_ or "-"
    address = f"({hop.reverse} [{hop.address}])" if hop.reverse else f"[{hop.address}]" if hop.address else ""
    protocol = f"{hop.with_} {hop.tls}".strip()
    when = hop.time.strftime("%Y-%m-%d %H:%M:%S") if hop.time is not None else "no time"
    return (str(hop.index), kind, hop.by or "-", client, address, protocol, when, _delay(hop))


def _delay(hop: HopReport) -> str:
    delay = hop.delay_seconds
    if delay is None:
        return ""
    return f"-{span(-delay)}" if delay < 0 else span(delay)


__all__ = ["headers"]
