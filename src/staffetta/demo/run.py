"""Runs the demo from start to end and prints it."""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from staffetta.demo.internet import COMPANY, PROVIDER, Internet, running
from staffetta.demo.journeys import JOURNEYS, JourneyFailed


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def demo(*, keep: bool) -> int:
    """All five journeys; 0 when each ended as it should have. With `keep` it then serves until interrupted."""
    password = secrets.token_urlsafe(12)
    with tempfile.TemporaryDirectory(prefix="staffetta-demo-") as name:
        async with running(Path(name), password) as internet:
            _print(f"A small internet is up on loopback: {PROVIDER} sends, {COMPANY} receives.\n")
            failures = 0
            for number, (title, journey) in enumerate(JOURNEYS, 1):
                _print(f"{number}. {title}")
                try:
                    await journey(internet, password, lambda text: _print(f"     {text}"))
                    _print("   ok\n")
                except (JourneyFailed, OSError, RuntimeError) as error:
                    failures += 1
                    _print(f"   FAILED: {error}\n")
            _print("All five ended as they should." if not failures else f"{failures} of {len(JOURNEYS)} went wrong.")
            if keep and not failures:
                await _keep(internet, password)
            return 1 if failures else 0


async def _keep(internet: Internet, password: str) -> None:
    provider, company = internet.provider, internet.company
    _print(f"""
It keeps running; stop it with Ctrl-C.
  send     {provider.address} port {provider.submission_port}, STARTTLS, anna@{PROVIDER}, password {password}
           certificate authority: {internet.authority}
  mail in  {provider.address}:{provider.mx_port} for {PROVIDER}, {company.address}:{company.mx_port} for {COMPANY}
  console  http://{provider.address}:{provider.console_port}/metrics, and /livez, /readyz; the company's is at
           http://{company.address}:{company.console_port}/metrics
  look     staffetta queue list -c {provider.config}""")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        _print("stopping")
