"""Who does this message really come from? Everything that is asked about mail from outside, gathered for the judge.

RFC 7208 (SPF), RFC 6376 (DKIM), RFC 9989 (DMARC), RFC 8617 (ARC), RFC 8601 section 2.7.3 (iprev), RFC 5782 (lists).
What does not depend on one another is asked side by side; all of it shares one budget of questions and time
(mailauth/asking). Nothing here decides anything: see policy/authentication.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from staffetta.dns.blocklist import Listing
from staffetta.dns.hello import HelloWord, check_hello
from staffetta.dns.list_health import ListHealth, ListSettings
from staffetta.dns.resolver import Resolver
from staffetta.dns.reverse import Reverse, find_name
from staffetta.intake.signing import BodyToSign, body_to_sign
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.mail.domain import Domain, DomainError, parse_domain
from staffetta.mailauth.arc.chain import ArcVerification
from staffetta.mailauth.asking import Asker
from staffetta.mailauth.dkim.verify import Verification
from staffetta.mailauth.dmarc.evaluate import DmarcFacts, check_dmarc
from staffetta.mailauth.results import Checks, DkimResult, SpfResult, Word
from staffetta.mailauth.spf.check import SpfQuestion, check_helo, check_spf
from staffetta.mailauth.turns import Turns
from staffetta.message.authorship import HeaderIdentity, identity_facts
from staffetta.message.header import Header
from staffetta.policy.authentication import AuthenticationSettings, Mode


class ExaminingRoom(msgspec.Struct, frozen=True):
    """What examinations share. `clock` gives seconds since the epoch, `monotonic` measures spans."""

    resolver: Resolver
    settings: AuthenticationSettings
    hostname: str
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    health: ListHealth
    lists: tuple[ListSettings, ...] = ()
    turns: Turns = msgspec.field(default_factory=Turns)
    seals: bool = False


class Origin(msgspec.Struct, frozen=True, gc=False):
    """What the session knows of a message: who brought it, and in whose name."""

    client: str
    helo: str
    sender: ReversePath


class Examination:
    """One message's. Made when its header is complete; looks at the body while it streams past."""

    __slots__ = ("_arc", "_dkim", "body", "identity", "room")

    def __init__(self, room: ExaminingRoom, header: Header) -> None:
        settings = room.settings
        self.room = room
        self.identity: HeaderIdentity = identity_facts(header)
        self._dkim = Verification(header) if settings.dkim is not Mode.OFF else None
        self._arc = ArcVerification(header) if settings.arc is not Mode.OFF else None
        self.body: BodyToSign | None = body_to_sign() if room.seals else None

    def after_header(self, data: bytes) -> None:
        """See intake.transaction.Watch."""
        if self.body is not None:
            self.body.after_header(data)
        if self._dkim is not None and self._dkim.wants_body:
            self._dkim.after_header(data)
        if self._arc is not None and self._arc.wants_body:
            self._arc.after_header(data)

    async def finish(self, origin: Origin) -> Checks:
        """Ask. Never raises for what the world does."""
        room = self.room
        asker = Asker(room.resolver, room.monotonic)
        before = asker.left
        # The order within a group is the order of need: what decides most is asked while there is budget.
        async with asyncio.TaskGroup() as group:
            spf = group.create_task(self._ask_spf(asker, origin))
            signatures = group.create_task(self._ask_signatures(asker))
            about_client = group.create_task(self._ask_about_client(asker, origin))
        helo, mail_from = spf.result()
        dkim = signatures.result()
        reverse, hello, listings = about_client.result()
        dmarc = None
        if room.settings.dmarc is not Mode.OFF:
            dmarc = await check_dmarc(asker, DmarcFacts(self.identity, mail_from, helo, dkim or ()))
        # After DMARC, which decides: a chain of custody may use up all questions that are left.
        arc = None if self._arc is None else await self._arc.finish(asker, room.clock(), room.turns.next)
        listings += await self._ask_about_domains(asker, origin, dkim or ())
        return Checks(helo, mail_from, dkim, dmarc, arc, reverse, listings, before - asker.left, hello)

    async def _ask_spf(self, asker: Asker, origin: Origin) -> tuple[SpfResult | None, SpfResult | None]:
        if self.room.settings.spf is Mode.OFF:
            return None, None
        sender = origin.sender
        local_part, domain = "", ""
        if isinstance(sender, Mailbox):
            local_part, domain = sender.local_part, str(sender.domain)
        room = self.room
        question = SpfQuestion(origin.client, origin.helo, local_part, domain, room.hostname, room.clock())
        mail_from = await check_spf(asker, question, room.turns.next)
        return (await check_helo(asker, question, room.turns.next) if domain else mail_from), mail_from

    async def _ask_signatures(self, asker: Asker) -> tuple[DkimResult, ...] | None:
        return None if self._dkim is None else await self._dkim.finish(asker, self.room.clock(), self.room.turns.next)

    async def _ask_about_client(
        self, asker: Asker, origin: Origin
    ) -> tuple[Reverse | None, HelloWord | None, tuple[Listing, ...]]:
        room = self.room
        lists = [one for one in room.lists if not one.of_domains]
        if not lists:
            return *await self._ask_names(asker, origin), ()
        asked = asyncio.gather(*(room.health.ask_address(asker, one, origin.client) for one in lists))
        names, listings = await asyncio.gather(self._ask_names(asker, origin), asked)
        return *names, tuple(listings)

    async def _ask_names(self, asker: Asker, origin: Origin) -> tuple[Reverse | None, HelloWord | None]:
        """The name of the client's address, and whether the one that it greeted with is its own."""
        room = self.room
        reverse = hello = None
        if room.settings.reverse is not Mode.OFF:
            reverse = await find_name(asker, origin.client)
        if room.settings.helo is not Mode.OFF:
            hello = await check_hello(asker, origin.helo, origin.client, room.hostname, reverse or Reverse())
        return reverse, hello

    async def _ask_about_domains(
        self, asker: Asker, origin: Origin, dkim: tuple[DkimResult, ...]
    ) -> tuple[Listing, ...]:
        """Lists of domains: of the envelope sender, of the HELO name, and of signatures that verify."""
        room = self.room
        lists = [one for one in room.lists if one.of_domains]
        if not lists:
            return ()
        subjects = [str(origin.sender.domain)] if isinstance(origin.sender, Mailbox) else []
        subjects.append(origin.helo)
        subjects += [one.domain for one in dkim if one.word is Word.PASS]
        names = dict.fromkeys(name for name in map(_domain_name, subjects) if name)
        seconds = asker.deadline - room.monotonic()
        asked = [
            asyncio.ensure_future(room.health.ask_domain(asker, one, name))
            for one in lists
            for name in names
            if seconds > 0
        ]
        if not asked:
            return ()
        # A list tries itself with questions of its own; the time of the message is over all the same.
        done, late = await asyncio.wait(asked, timeout=seconds)
        for one in late:
            one.cancel()
        return tuple([one.result() for one in asked if one in done])


def _domain_name(text: str) -> str:
    """A domain name in ASCII; "" for what is none, like an address literal or a single label."""
    try:
        domain: Domain = parse_domain(text)
    except DomainError:
        return ""
    return domain.ascii if "." in domain.ascii else ""
