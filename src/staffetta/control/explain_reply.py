"""`explain reply`: what a server's reply means, who has to act, and what this relay does with it.

Known replies stand in a table (`reply_rows`). For others the enhanced status and the code speak, and the answer says
that it is no more than that.
"""

from __future__ import annotations

from typing import Final

from staffetta.config.schema import Config
from staffetta.control.answer import Answer
from staffetta.control.reply_rows import find_row
from staffetta.control.reply_status import by_code, by_status
from staffetta.control.reply_text import PastedReply, find_reply
from staffetta.mail.reply import EnhancedStatus
from staffetta.policy.retry import RetrySettings

DEFAULT_RETRY: Final = RetrySettings()

_ACTOR_OF_CLASS: Final = {
    "reputation": "relay operator",
    "policy": "sender",
    "authentication": "relay operator",
    "content": "sender",
    "mailbox": "sender",
    "quota": "recipient",
    "rate": "relay operator",
    "greylist": "nobody",
    "network": "nobody",
    "tls": "relay operator",
    "configuration": "relay operator",
    "size": "sender",
    "relay": "relay operator",
    "temporary": "nobody",
    "accepted": "nobody",
}
"""Who acts most often, where only the class is known."""

_UNKNOWN_ADVICE: Final = {
    "nobody": "Wait: the relay tries again by itself. If it lasts, ask the other side's postmaster.",
    "sender": "Read the reply's own words, check the address, and ask the other side's postmaster.",
    "relay operator": "Read the reply's own words, which nobody wrote down here, and follow the link if it has one.",
    "recipient": "Tell the recipient in another way.",
}


class ReplyExplanation(Answer, frozen=True, rename={"kind": "class"}):
    """`explain reply`. `text` is the reply without code and status; `code` is None when only a status was found.

    `kind` (in JSON `class`) is one of reply_rows.CLASSES and `actor` one of reply_rows.ACTORS. `matched` is the row of
    the table and `source` where its words are documented; None and "" when only code or status speak.
    """

    text: str
    code: int | None
    enhanced_status: str | None
    permanent: bool
    kind: str
    cause: str
    actor: str
    advice: str
    relay_does: str
    matched: str | None
    source: str


def classify(text: str, retry: RetrySettings = DEFAULT_RETRY) -> ReplyExplanation | None:
    """What `text`, a reply or whatever quotes one, means; None when there is no reply in it. Total and bounded.

    `retry` is `[queue]` of the relay that is asked about.
    """
    reply = find_reply(text)
    return None if reply is None else explain(reply, retry)


def explain(reply: PastedReply, retry: RetrySettings = DEFAULT_RETRY) -> ReplyExplanation:
    """The same for a reply that is found already."""
    status = str(reply.enhanced) if reply.enhanced is not None else None
    permanent = is_permanent(reply)
    found = find_row(reply)
    if found is not None:
        kind, cause, actor, advice = found.kind, found.cause, found.actor, found.advice
    else:
        kind, cause, actor, advice = _by_itself(reply)
    return ReplyExplanation(
        reply.text,
        reply.code,
        status,
        permanent,
        kind,
        cause,
        actor,
        advice,
        _what_we_do(reply, retry),
        found.id if found is not None else None,
        found.source if found is not None else "",
    )


def is_permanent(reply: PastedReply) -> bool:
    """Whether the same will fail again. The code decides, as it does for the relay; the status only without a code."""
    if reply.code is not None:
        return reply.code >= 500
    return reply.enhanced is not None and reply.enhanced.kind == 5


def _by_itself(reply: PastedReply) -> tuple[str, str, str, str]:
    """Class, cause, actor and advice from status and code alone, in words that claim no more."""
    status = reply.enhanced
    meaning = by_status(status) if status is not None and (status.subject, status.detail) != (0, 0) else None
    said = f"status {status}"
    if meaning is None:
        if reply.code is None:
            meaning = ("temporary", "nothing that is registered")
        else:
            meaning = by_code(reply.code)
            said = f"code {reply.code}"
    kind, words = meaning
    cause = f"These words are not in the table; by its {said} it means: {words}."
    if _is_contradiction(reply.code, status):
        cause += f" Code {reply.code} and status {status} contradict each other; the code counts."
    actor = _ACTOR_OF_CLASS[kind]
    if not is_permanent(reply) and actor != "recipient":
        actor = "nobody"
    elif actor == "nobody":
        actor = "sender"
    return kind, cause, actor, _UNKNOWN_ADVICE[actor]


def _is_contradiction(code: int | None, status: EnhancedStatus | None) -> bool:
    return code is not None and status is not None and code // 100 != status.kind


# What this relay does: the rules of protocol/verdict, protocol/client and policy/retry in words.

_LOGIN_CODES: Final = frozenset({530, 534, 535, 538})


def _what_we_do(reply: PastedReply, retry: RetrySettings) -> str:
    if reply.code is not None and reply.code < 400:
        return "counts the recipient as delivered, if this is the answer to the content"
    if not is_permanent(reply):
        return tries_again(retry)
    if reply.code == 552 and (reply.enhanced is None or (reply.enhanced.subject, reply.enhanced.detail) == (5, 3)):
        return f"after RCPT takes it for too many recipients and {tries_again(retry)}; else {_RETURNS}"
    if reply.code in _LOGIN_CODES:
        return f"at the login of a route waits for the operator to mend it and {tries_again(retry)}; else {_RETURNS}"
    return f"{_RETURNS}; when a greeting or EHLO is answered so, other hosts of the domain come first"


_RETURNS: Final = "returns the message to its sender at once and does not try again"


def retry_of(config: Config) -> RetrySettings:
    """`[queue]` of a configuration."""
    queue = config.queue
    return RetrySettings(
        queue.retry_seconds, queue.lifetime_seconds, queue.bounce_lifetime_seconds, queue.delay_notice_seconds
    )


def tries_again(retry: RetrySettings) -> str:
    """`[queue]` in words."""
    waits = retry.retry_seconds
    shown = ", ".join(map(_span, waits[:-1]))
    again = (
        f"tries again after {shown}, then every {_span(waits[-1])}" if shown else f"tries again every {_span(waits[0])}"
    )
    said = f"{again}, until the message is {_span(retry.lifetime_seconds)} old"
    said += f" (a notice {_span(retry.bounce_lifetime_seconds)})"
    if retry.delay_notice_seconds is not None:
        said += f"; the sender hears of the delay after {_span(retry.delay_notice_seconds)}"
    return said


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


__all__ = ["ReplyExplanation", "classify", "explain", "is_permanent", "retry_of", "tries_again"]
