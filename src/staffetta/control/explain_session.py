"""`explain session`: what a client would hear at a door, command by command, and which rule decided. The answers come
from a real session in a dry run; the rules from the events that it tells, and from the judges that it asked.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import msgspec

from staffetta.config.schema import Config
from staffetta.control.answer import Answer
from staffetta.control.dialogue import Dialogue, DialogueOver
from staffetta.control.dry_run import DryDoor, DryRun
from staffetta.control.places import Places
from staffetta.control.rule_places import Subject, place_of_rule
from staffetta.intake.judgement import judge_sender
from staffetta.intake.session import Session
from staffetta.mail.address import ForwardPath, Mailbox, ReversePath
from staffetta.observe.events import Accept, Login, LoginRefused, Refuse
from staffetta.policy.relay import may_send
from staffetta.policy.verdict import Allowed

ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
PUT_OFF: Final = "put off"


class Question(msgspec.Struct, frozen=True):
    """Who asks for what. `login` logs in without a password, after TLS. `header_from` stands in the made-up message;
    None: the envelope sender."""

    client: str
    helo: str
    sender: ReversePath
    recipients: tuple[ForwardPath, ...]
    login: Mailbox | None = None
    tls: bool = False
    header_from: str | None = None


class SessionStep(msgspec.Struct, frozen=True, gc=False):
    """One command and its reply. `rule` decided, `reason` is the operator's sentence, `where` it can be changed."""

    command: str
    reply: str
    rule: str
    reason: str
    where: str


class SessionReport(Answer, frozen=True):
    """`explain session`. `verdict` is `accepted`, `refused` or `put off`, of the message as a whole: refused when no
    recipient of it was taken. `recipients` are those that it would go to, aliases followed."""

    door: str
    client: str
    verdict: str
    recipients: tuple[str, ...]
    checks: dict[str, str]
    steps: tuple[SessionStep, ...]


async def explain_session(
    config: Config, dry: DryRun, places: Places, door: DryDoor, question: Question
) -> SessionReport:
    """Play the session to its end, or to where the door ends it."""
    dialogue, session = dry.meet(door, question.client)
    play = _Play(config, dry, places, session, dialogue)
    verdict = PUT_OFF
    try:
        verdict = await play.through(question, door)
    except DialogueOver:
        verdict = play.worst()
    finally:
        dialogue.close()
    accepted = next((event for event in dry.events if isinstance(event, Accept)), None)
    return SessionReport(
        door.name,
        question.client,
        verdict,
        accepted.recipients if accepted is not None else (),
        accepted.checks if accepted is not None else {},
        tuple(play.steps),
    )


def choose_door(doors: Sequence[DryDoor], name: str | None, *, login: bool) -> DryDoor | None:
    """The door of that name; without a name, the one that such a client would use. None when there is none.

    Mail from strangers comes to an `mx` door; who logs in uses `submission`.
    """
    if name is not None:
        return next((door for door in doors if door.name == name), None)
    order = ("submission", "relay", "mx") if login else ("mx", "relay", "submission")
    return min(doors, key=lambda door: order.index(door.settings.door.role.value), default=None)


class _Play:
    """One session, line by line."""

    def __init__(self, config: Config, dry: DryRun, places: Places, session: Session, dialogue: Dialogue) -> None:
        self._config = config
        self._dry = dry
        self._places = places
        self._session = session
        self._dialogue = dialogue
        self._seen = 0
        self.steps: list[SessionStep] = []

    async def through(self, question: Question, door: DryDoor) -> str:
        """The verdict. Raises DialogueOver when the door hangs up."""
        greeting = await self._dialogue.hear()
        rule, reason = self._told()
        self._note("(connection)", str(greeting), (rule, reason), self._subject())
        if not greeting.is_positive:
            return _verdict(greeting.code)
        await self._say(f"EHLO {question.helo}")
        wants_tls = (question.tls or question.login is not None) and not door.settings.implicit_tls
        if wants_tls and await self._say("STARTTLS") == 220:
            await self._say(f"EHLO {question.helo}")
        if question.login is not None:
            guess = base64.b64encode(f"\0{question.login}\0-".encode()).decode()
            code = await self._say(f"AUTH PLAIN {guess}", shown=f"AUTH PLAIN (as {question.login})")
            if code != 235:
                return _verdict(code)
        return await self._message(question)

    async def _message(self, question: Question) -> str:
        paths = (question.sender, *question.recipients)
        utf8 = "" if str(paths).isascii() else " SMTPUTF8"
        code = await self._say(f"MAIL FROM:<{question.sender}>{utf8}", sender=question.sender)
        if code != 250:
            return _verdict(code)
        codes = [await self._say(f"RCPT TO:<{path}>", recipient=path) for path in question.recipients]
        if 250 not in codes:
            return _verdict(max(codes))
        code = await self._say("DATA")
        if code == 354:
            author = question.header_from if question.header_from is not None else f"<{question.sender}>"
            message = f"From: {author}\r\nSubject: dry run\r\n\r\ndry run\r\n.".encode("utf-8", "surrogateescape")
            code = await self._say(message, shown=f"(a message with From: {author})")
        await self._say("QUIT")
        return ACCEPTED if code == 250 else _verdict(code)

    async def _say(
        self,
        line: str | bytes,
        *,
        shown: str = "",
        sender: ReversePath | None = None,
        recipient: ForwardPath | None = None,
    ) -> int:
        reply = await self._dialogue.say(line)
        rule, reason = self._told()
        found = ""
        if sender is not None and reply.is_positive:
            rule = self._why_sender(sender)
        if recipient is not None:
            resolution = self._session.house.directory.resolve(recipient)
            found = resolution.rule
            if reply.is_positive and self._session.transaction is not None:
                rule = self._session.transaction.rule
                reason = _found(found, tuple(str(target.mailbox) for target in resolution.targets))
        path = recipient if recipient is not None else sender if isinstance(sender, Mailbox) else None
        self._note(shown or str(line), str(reply), (rule, reason), self._subject(path, found))
        return reply.code

    def _subject(self, path: ForwardPath | None = None, found: str = "") -> Subject:
        return Subject(self._session.door.name, path, found)

    def _note(self, command: str, reply: str, why: tuple[str, str], subject: Subject) -> None:
        rule, reason = why
        where = place_of_rule(self._config, self._places, rule, subject) if rule else ""
        self.steps.append(SessionStep(command, reply, rule, reason, where))

    def _why_sender(self, sender: ReversePath) -> str:
        """The judges of MAIL, asked once more: they are functions of what the session knows."""
        session = self._session
        transaction = session.transaction
        if transaction is None:
            return ""
        verdict = judge_sender(session, sender, transaction.client)
        if isinstance(verdict, Allowed) and verdict.rule not in {"door_without_sender_list", "null_path", "mx"}:
            return verdict.rule
        return may_send(session.door.door, transaction.client).rule

    def _told(self) -> tuple[str, str]:
        """Rule and reason out of the events since the last command."""
        events = self._dry.events[self._seen :]
        self._seen = len(self._dry.events)
        for event in reversed(events):
            if isinstance(event, Refuse):
                return event.rule, event.reason
            if isinstance(event, LoginRefused):
                rule, _, reason = event.reason.partition(": ")
                return rule, reason
            if isinstance(event, Login):
                return "login", f"logged in as {event.login}"
            if isinstance(event, Accept):
                return "accepted", ", ".join(f"{name} {value}" for name, value in event.checks.items())
        return "", ""

    def worst(self) -> str:
        """The verdict of a session that the door has ended."""
        codes = [step.reply[:3] for step in self.steps]
        return REFUSED if any(code.startswith("5") for code in codes[-1:]) else PUT_OFF


def _found(rule: str, targets: tuple[str, ...]) -> str:
    """How the directory found a recipient, in words."""
    to = ", ".join(targets)
    words = {
        "account": "an account",
        "alias": f"an alias of {to}",
        "catch_all": f"taken by the catch-all, {to}",
        "any": "every local part exists in this domain",
        "postmaster": f"nobody has this role: goes to {to}",
        "outside": "a domain of somebody else",
    }
    return words.get(rule, rule)


def _verdict(code: int) -> str:
    return REFUSED if code >= 500 else PUT_OFF
