"""Taking what programs left in the drop directory: look, judge, commit, remove; and tell who sent what is refused.

A file is removed after its message is on disk, so one that is there at the start may have been taken already: the
journal knows the session that is named after the file. The directory is looked at every second; it costs one question
to the file system while nothing changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from staffetta.accounts.store import AccountsUnavailable
from staffetta.app.pickup_folder import NAMES_AT_ONCE, Dropped, Folder, Unusable
from staffetta.app.pickup_header import Writer, completed
from staffetta.app.pickup_letter import Brought, Letter, bring, door_settings
from staffetta.app.pickup_people import DOOR_NAME, People, User, user_of
from staffetta.config.schema import Config
from staffetta.intake.door import House
from staffetta.mail.address import (
    NULL_PATH,
    AddressError,
    ForwardPath,
    Mailbox,
    NullPath,
    Postmaster,
)
from staffetta.mail.reply import Reply
from staffetta.message.report import make_report, original_part
from staffetta.message.report_input import Action, Kind, ReportedRecipient, ReportInput
from staffetta.message.scan import Scan
from staffetta.net.channel import ChannelClosed, ChannelTimeout
from staffetta.observe.events import Refuse, encode, moment
from staffetta.policy.door import Door, Role
from staffetta.sendmail.drop import Damaged
from staffetta.spool.contract import JournalEntry

LOOK_SECONDS: Final = 1.0
"""How often the directory is looked at."""

AGAIN_SECONDS: Final = 10.0
"""How long to wait when the relay cannot take anything now: a full disk, a list of accounts that cannot be read."""

FAILURES_AT_ONCE: Final = 5
"""After so many the trouble is not with one message: nothing more is tried for a while."""

SETTLED_SECONDS: Final = 2.0
"""A change this young may have a younger one that shows the same time."""

HEADER_OCTETS: Final = 512 * 1024
"""How much of the content is looked at for the header."""


class Pickup:
    """Watches one directory for one relay. `config` and `house` are asked anew for every file: a reload changes them.

    `was_taken` says whether the journal knows a session by that name; it may block.
    """

    def __init__(
        self,
        directory: Path,
        config: Callable[[], Config],
        house: Callable[[], House],
        was_taken: Callable[[str], bool],
    ) -> None:
        self.directory = directory
        self._config = config
        self._house = house
        self._was_taken = was_taken
        self._folder: Folder | None = None
        self._task: asyncio.Task[None] | None = None
        self._started_at = time.time()
        self._seen = -1
        self._put_off: dict[str, float] = {}

    def start(self) -> str:
        """Begin to watch; "" or why nothing is watched."""
        try:
            self._folder = Folder(self.directory)
        except Unusable as error:
            return str(error)
        self._task = asyncio.create_task(self._watch(), name="pickup")
        return ""

    async def stop(self) -> None:
        """Look no more; what is being taken now is finished or left as it was."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # the directory may be gone for a moment, and come back
                self._house().report(error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Take what is there. What cannot be taken now is put off; what others left does not wait for it."""
        folder = self._folder
        if folder is None:
            return
        now = time.time()
        self._put_off = {name: until for name, until in self._put_off.items() if until > now}
        changed_at = folder.changed_at()
        if changed_at == self._seen:
            return
        failures = 0
        names = [""] * NAMES_AT_ONCE
        while len(names) == NAMES_AT_ONCE and failures < FAILURES_AT_ONCE:
            names = await asyncio.to_thread(folder.names, now, frozenset(self._put_off))
            for name in names:
                if failures < FAILURES_AT_ONCE and not await self._taken(folder, name):
                    self._put_off[name] = time.time() + AGAIN_SECONDS
                    failures += 1
        # What we removed ourselves changed it too: it is looked at once more before it counts as quiet.
        quiet = not self._put_off and changed_at / 1e9 < time.time() - SETTLED_SECONDS
        self._seen = changed_at if quiet else -1

    async def _taken(self, folder: Folder, name: str) -> bool:
        try:
            return await self._take(folder, name)
        except Exception as error:  # a bug over one file must not end the pickup of all others
            self._house().report(error)
            return False

    async def _take(self, folder: Folder, name: str) -> bool:
        """One file; False when it cannot be taken now."""
        largest = 2 * self._config().limits.message_size + HEADER_OCTETS
        try:
            dropped = await asyncio.to_thread(folder.open, name, largest)
        except FileNotFoundError:
            return True
        except Damaged as error:
            self._put_aside(folder, name, str(error))
            return True
        try:
            old = dropped.changed_at < self._started_at
            if old and await asyncio.to_thread(self._was_taken, dropped.identity):
                folder.remove(name)
                return True
            if not await self._bring(dropped):
                return False
            folder.remove(name)
        except Damaged as error:
            self._put_aside(folder, name, str(error))
        except (ChannelClosed, ChannelTimeout, AccountsUnavailable):
            return False
        except OSError as error:
            self._refuse(name, "", "drop_stuck", f"{name} was taken and cannot be removed: {error.strerror}")
        finally:
            dropped.close()
        return True

    async def _bring(self, dropped: Dropped) -> bool:
        """The message into the queue, and what was refused of it back to its sender; False: not now."""
        config, house, envelope = self._config(), self._house(), dropped.envelope
        if not envelope.recipients:
            raise Damaged("its envelope names nobody to send to")
        people, user = People(config, house.directory), user_of(dropped.uid)
        content = dropped.content()
        beginning = await asyncio.to_thread(_beginning, content)
        try:
            letter = Letter(
                dropped.identity,
                user.name,
                f"local user {user.uid}",
                people.rights(user),
                people.sender(envelope.sender, user),
                tuple(dict.fromkeys(map(people.recipient, envelope.recipients))),
                envelope.notify,
                envelope.ret,
                envelope.envid,
            )
            header = _completed(beginning, self._writer(people, dropped, user))
        except AddressError as error:
            raise Damaged(f"an address in its envelope is none: {error}") from error
        whole = _chain(header, content)
        brought = await bring(house, door_settings(config, people.door(user)), letter, whole)
        if brought.again:
            return False
        if brought.refused or not brought.answer.is_positive:
            return await self._tell(people, user, letter, brought, header)
        return True

    def _writer(self, people: People, dropped: Dropped, user: User) -> Writer:
        config, envelope = self._config(), dropped.envelope
        author = people.mailbox(envelope.sender) if envelope.sender else people.own(user)
        name = user.full_name if envelope.full_name is None else envelope.full_name
        if envelope.sender and envelope.full_name is None:
            name = ""  # the name of who calls is not that of another address
        return Writer(author, name, min(dropped.written_at, time.time()), config.hostname.ascii)

    async def _tell(self, people: People, user: User, letter: Letter, brought: Brought, header: bytes) -> bool:
        """A report to the sender, or to the user when the sender is not his to use; False: not now."""
        config, house = self._config(), self._house()
        to = people.sender(None, user) if brought.sender_refused else letter.sender
        if letter.notify == ("NEVER",):
            return True
        if isinstance(to, NullPath):
            if brought.answer.is_positive:
                return True
            raise Damaged(f"it was refused ({brought.answer}), and its sender is nobody who could be told")
        told = brought.refused or tuple((path, brought.answer) for path in letter.recipients)
        report = make_report(
            ReportInput(
                Kind.FAILED,
                house.identities.new(house.clock()),
                config.hostname.ascii,
                to,
                house.clock(),
                house.clock(),
                tuple(_reported(path, answer, config) for path, answer in told),
                original_part(header, len(header), full=False),
                letter.envid,
            )
        )
        door = door_settings(config, Door(DOOR_NAME, Role.RELAY, auth=False, local=True))
        back = Letter(letter.identity, user.name, "report", None, NULL_PATH, (to,))
        return not (await bring(house, door, back, iter((report.content,)))).again

    def _put_aside(self, folder: Folder, name: str, why: str) -> None:
        self._refuse(name, "", "drop_damaged", f"{name!a}: {why}; {folder.put_aside(name)}")

    def _refuse(self, name: str, login: str, rule: str, reason: str) -> None:
        """One `refuse` event, in the log and in the journal."""
        house = self._house()
        now = house.clock()
        event = Refuse(
            time=moment(now),
            stage="pickup",
            client="local",
            sender=None,
            recipient="",
            reply="",
            rule=rule,
            reason=reason,
            listener=DOOR_NAME,
            login=login,
        )
        house.emit(event)
        house.refusals.add(JournalEntry(encode(event), now))


def _beginning(content: Iterator[bytes]) -> bytes:
    """As much of the content as holds the header."""
    found = b""
    for block in content:
        found += block
        if b"\r\n\r\n" in found or found[:2] == b"\r\n" or len(found) > HEADER_OCTETS:
            break
    return found


def _completed(beginning: bytes, writer: Writer) -> bytes:
    scan = Scan()
    scan.feed(beginning)
    scan.finish()
    if scan.problem is not None:
        return beginning  # the door refuses it
    block = scan.header.block
    return completed(block, writer) + (beginning[len(block) :] or b"\r\n")


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _reported(path: ForwardPath, answer: Reply, config: Config) -> ReportedRecipient:
    address = path if not isinstance(path, Postmaster) else Mailbox("postmaster", config.hostname)
    return ReportedRecipient(address, Action.FAILED, answer)
