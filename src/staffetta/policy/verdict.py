"""What a judge says: allowed, or refused with a sentence for the peer and a reason for the operator.

Both name the rule that decided. The two texts never mix: the peer learns nothing about who exists and what is set up.
"""

from __future__ import annotations

import msgspec

from staffetta.mail.reply import Reply


class Allowed(msgspec.Struct, frozen=True, gc=False):
    """Go on. `rule` names why."""

    rule: str


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Stop. `reply` goes to the peer, `rule` and `reason` into the `refuse` event."""

    reply: Reply
    rule: str
    reason: str


Verdict = Allowed | Refusal
