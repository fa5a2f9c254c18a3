"""The five journeys. Each sends real mail as a mail client or a stranger would, waits for the end, and says what came.

A journey fails by raising JourneyFailed; the command's exit status is 0 only when none did.
"""

from __future__ import annotations

import asyncio
import smtplib
import time
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any, Final

from staffetta.demo.internet import COMPANY, PROVIDER, STRANGER, Internet, Place

WAIT_SECONDS: Final = 30.0
"""How long a message may take from 250 to the mailbox."""

Say = Callable[[str], None]


class JourneyFailed(Exception):
    """A message did not end as it should have; the text says how."""


def _message(sender: str, recipient: str, subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = subject
    message["Date"] = formatdate(localtime=False)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message.set_content(f"{subject}\n\nThis message is real: it was sent by the demo, over SMTP.\n")
    return message


def _send_as_client(internet: Internet, place: Place, login: str, password: str, message: EmailMessage) -> None:
    """What Thunderbird does: connect, STARTTLS, log in, send."""
    with smtplib.SMTP(place.address, place.submission_port, timeout=20) as client:
        # The name to verify is the server's name; the demo's resolver is not the system's, so it is given by hand.
        client._host = place.hostname  # type: ignore[attr-defined]
        client.starttls(context=internet.client_context())
        client.login(login, password)
        client.send_message(message)


def _refusal(place: Place, sender: str, recipient: str) -> str:
    """What a stranger hears at the open door, or "" if he was let through."""
    with smtplib.SMTP(place.address, place.mx_port, local_hostname=f"mail.{STRANGER}", timeout=20) as client:
        client.ehlo()
        for code, text in (client.mail(sender), client.rcpt(recipient)):
            if code >= 400:
                return f"{code} {text.decode('ascii', 'replace')}"
    return ""


def _answer_to_forgery(place: Place, envelope_sender: str, message: EmailMessage) -> str:
    """What a stranger hears who hands over a whole message in somebody else's name; "" when it was taken."""
    with smtplib.SMTP(place.address, place.mx_port, local_hostname=f"mail.{STRANGER}", timeout=20) as client:
        try:
            client.send_message(message, from_addr=envelope_sender)
        except smtplib.SMTPDataError as refused:
            text = refused.smtp_error
            return f"{refused.smtp_code} {text.decode('ascii', 'replace') if isinstance(text, bytes) else text}"
    return ""


async def _arrival(place: Place, local_part: str, count: int) -> Path:
    """Wait for the `count`-th message of a mailbox."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        messages = place.mailbox(local_part)
        if len(messages) >= count:
            return messages[count - 1]
        await asyncio.sleep(0.05)
    raise JourneyFailed(f"nothing arrived for {local_part}@{place.domain} within {WAIT_SECONDS:.0f} s")


async def _trace(internet: Internet, place: Place, message: EmailMessage, last: str) -> list[dict[str, Any]]:
    """The journey as the relay tells it, once it has recorded its end."""
    events: list[dict[str, Any]] = []
    for _ in range(20):
        events = await internet.ask(place, "trace", str(message["Message-ID"]))
        if any(event["event"] == last for event in events):
            return events
        await asyncio.sleep(0.1)
    raise JourneyFailed(f"the trace has no {last!r}: {[event['event'] for event in events]}")


def _tell(say: Say, events: list[dict[str, Any]]) -> None:
    for event in events:
        name = event["event"]
        if name == "accept":
            say(f"accept   on disk, 250 said; login {event['login'] or '-'}, {event.get('tls') or 'no TLS'}")
            if event["checks"]:
                say("         " + ", ".join(f"{name} {event['checks'][name]}" for name in ("spf", "dkim", "dmarc")))
        elif name == "attempt":
            where = event["host"] or event["route"] or "mailbox"
            say(f"attempt  {where} {event['address']} {event['tls']} -> {event['reply'][:70]}")
        elif name == "defer":
            say(f"defer    until {event['next_attempt_at']}: {event['reply'][:70]}")
        elif name == "deliver":
            say(f"deliver  {event['recipient']}")


async def relayed(internet: Internet, password: str, say: Say) -> None:
    """(1) From a user of the provider to a mailbox at the company, found by MX."""
    login = f"anna@{PROVIDER}"
    message = _message(login, f"bruno@{COMPANY}", "Journey 1: relayed by MX")
    await asyncio.to_thread(_send_as_client, internet, internet.provider, login, password, message)
    arrived = await _arrival(internet.company, "bruno", 1)
    events = await _trace(internet, internet.provider, message, "deliver")
    _tell(say, events)
    if not any(event["event"] == "attempt" and event["host"] == internet.company.hostname for event in events):
        raise JourneyFailed("it arrived, but not by the company's MX")
    if str(message["Message-ID"]).encode() not in arrived.read_bytes():
        raise JourneyFailed("what arrived is not what was sent")
    taken = await _trace(internet, internet.company, message, "deliver")
    say(f"         and at {COMPANY}:")
    _tell(say, taken)
    if any(taken[0]["checks"][name] != "pass" for name in ("spf", "dkim", "dmarc")):
        raise JourneyFailed(f"an honest message was not proven: {taken[0]['checks']}")


async def local(internet: Internet, password: str, say: Say) -> None:
    """(2) Between two users of the provider: into the mailbox, nothing is relayed."""
    login = f"anna@{PROVIDER}"
    message = _message(login, f"carla@{PROVIDER}", "Journey 2: same domain")
    await asyncio.to_thread(_send_as_client, internet, internet.provider, login, password, message)
    await _arrival(internet.provider, "carla", 1)
    events = await _trace(internet, internet.provider, message, "deliver")
    _tell(say, events)
    if any(event["event"] == "attempt" and event["address"] for event in events):
        raise JourneyFailed("it was relayed although the mailbox is here")


async def stranger(internet: Internet, password: str, say: Say) -> None:
    """(3) A stranger asks the provider to relay to the company, and is refused."""
    recipient = f"bruno@{COMPANY}"
    heard = await asyncio.to_thread(_refusal, internet.provider, f"someone@{STRANGER}", recipient)
    say(f"refuse   MAIL FROM:<someone@{STRANGER}> RCPT TO:<{recipient}> -> {heard}")
    if not heard.startswith("550 5.7.1"):
        raise JourneyFailed(f"expected 550 5.7.1, heard {heard!r}")


async def forged(internet: Internet, password: str, say: Say) -> None:
    """(4) A stranger writes to the company as a user of the provider; one of its users writes as another."""
    forgery = _message(f"anna@{PROVIDER}", f"bruno@{COMPANY}", "Journey 4: please pay this bill")
    heard = await asyncio.to_thread(_answer_to_forgery, internet.company, f"anna@{PROVIDER}", forgery)
    (refuse,) = await _trace(internet, internet.company, forgery, "refuse")
    checks = refuse["checks"]
    say(f"refuse   From: anna@{PROVIDER}, sent by a stranger -> {heard}")
    say(f"         spf {checks['spf']}, dkim {checks['dkim']}, dmarc {checks['dmarc']}: {refuse['reason']}")
    if not heard.startswith("550 5.7.1") or (checks["spf"], checks["dmarc"]) != ("fail", "fail"):
        raise JourneyFailed(f"expected a refusal because of SPF and DMARC, heard {heard!r}: {checks}")
    message = _message(f"carla@{PROVIDER}", f"bruno@{COMPANY}", "Journey 4: not mine")
    try:
        await asyncio.to_thread(_send_as_client, internet, internet.provider, f"anna@{PROVIDER}", password, message)
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        text = error.smtp_error.decode("ascii", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        say(f"refuse   login anna@{PROVIDER} as carla@{PROVIDER} -> {error.smtp_code} {text}")
    else:
        raise JourneyFailed("a login could send as another user")


async def waits(internet: Internet, password: str, say: Say) -> None:
    """(5) The company's server is down: the message waits in the queue, and arrives once it is back."""
    await internet.stop(internet.company)
    login = f"anna@{PROVIDER}"
    message = _message(login, f"bruno@{COMPANY}", "Journey 5: the other side is down")
    await asyncio.to_thread(_send_as_client, internet, internet.provider, login, password, message)
    end = time.monotonic() + WAIT_SECONDS
    waiting: list[dict[str, Any]] = []
    while time.monotonic() < end:
        waiting = await internet.ask(internet.provider, "queue", "list", f"to:bruno@{COMPANY}")
        if waiting and waiting[0]["state"] == "deferred":
            break
        await asyncio.sleep(0.1)
    else:
        raise JourneyFailed(f"the message is not waiting in the queue: {waiting}")
    say(f"queue    {waiting[0]['recipient']} {waiting[0]['state']}: {waiting[0]['last_reply'][:70]}")
    await internet.start(internet.company)
    say("         the company's server is back")
    await _arrival(internet.company, "bruno", 2)
    events = await _trace(internet, internet.provider, message, "deliver")
    _tell(say, events[-2:])


Journey = Callable[[Internet, str, Say], Awaitable[None]]

JOURNEYS: Final[tuple[tuple[str, Journey], ...]] = (
    ("relayed by MX to the other company's mailbox", relayed),
    ("same domain, delivered with no relay", local),
    ("a stranger asks for relaying", stranger),
    ("a forged sender", forged),
    ("the receiving server is down", waits),
)
