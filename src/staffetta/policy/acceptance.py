"""One verdict over a complete message: its form, its size, how far it has come, and whose name it bears.

RFC 5321 section 2.3.8 (line ends), 4.5.3.1 (sizes), 6.3 (loops); RFC 3463 (codes). The order is fixed: what endangers
others downstream (line ends that can be read in two ways) comes before what is merely too much.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.reply import reply
from staffetta.message.header import HeaderProblem
from staffetta.policy.verdict import Allowed, Refusal, Verdict
from staffetta.protocol.framing import ContentProblem

ACCEPTED: Final = Allowed("accepted")

BARE_LINE_ENDING: Final = Refusal(
    reply(554, "5.6.0", "lines must end in CRLF and nothing else"), "bare_line_ending", "a bare CR or LF in the content"
)
NUL_OCTET: Final = Refusal(reply(554, "5.6.0", "the message has a NUL octet"), "nul", "a NUL octet in the content")
LINE_TOO_LONG: Final = Refusal(
    reply(554, "5.6.0", "the message has a line that is too long"), "line_too_long", "a line longer than the limit"
)
TOO_BIG: Final = Refusal(reply(552, "5.3.4", "the message is too big"), "too_big", "larger than message_size")
HEADER_TOO_BIG: Final = Refusal(
    reply(552, "5.3.4", "the header of the message is too big"), "header_too_big", "a header beyond the limits"
)
BEGINS_WITH_SPACE: Final = Refusal(
    reply(554, "5.6.0", "the message begins with white space, where its header should be"),
    "header_begins_with_space",
    "the first line of the header is a continuation of nothing: of a field that we put in front, it would be a part",
)
TOO_MANY_HOPS: Final = reply(554, "5.4.6", "too many hops: this looks like a mail loop")

RETURNED: Final = reply(554, "5.4.6", "this message was in that mailbox already: this looks like a mail loop")

_BY_PROBLEM: Final = {
    ContentProblem.BARE_LINE_ENDING: BARE_LINE_ENDING,
    ContentProblem.NUL: NUL_OCTET,
    ContentProblem.LINE_TOO_LONG: LINE_TOO_LONG,
    ContentProblem.TOO_BIG: TOO_BIG,
}


class ContentFacts(msgspec.Struct, frozen=True, gc=False):
    """What is known when the content is complete.

    `problem` is what the framing found, `header_problem` why the header could not be kept, `octets` the size as it
    came, `hops` the number of Received fields. `author` is what policy/alignment said of the header. `returned` is the
    recipient whose mailbox it was in already by its Delivered-To; refused here it needs no bounce to a forged sender.
    `begins_with_space`: the header does.
    """

    problem: ContentProblem | None
    octets: int
    hops: int
    author: Verdict = ACCEPTED
    header_problem: HeaderProblem | None = None
    returned: str = ""
    begins_with_space: bool = False


class AcceptanceSettings(msgspec.Struct, frozen=True, gc=False):
    """`[limits]`: `message_octets`, and the most Received fields a message may come with."""

    message_octets: int = 26_214_400
    hops: int = 50


def may_accept(facts: ContentFacts, settings: AcceptanceSettings) -> Verdict:
    """May the message be taken? The first rule that is broken decides."""
    if facts.problem is not None:
        return _BY_PROBLEM[facts.problem]
    if facts.octets > settings.message_octets:
        return TOO_BIG
    if facts.header_problem is not None:
        return HEADER_TOO_BIG
    if facts.begins_with_space:
        return BEGINS_WITH_SPACE
    if facts.hops > settings.hops:
        return Refusal(TOO_MANY_HOPS, "too_many_hops", f"{facts.hops} Received fields, {settings.hops} allowed")
    if facts.returned:
        return Refusal(RETURNED, "delivered_to", f"Delivered-To names {facts.returned}")
    return facts.author
