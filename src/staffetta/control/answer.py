"""What every answer to an operator has: its fields are the JSON contract, in this order, after `"schema": 1`.

Times are aware datetimes, RFC 3339 UTC when encoded.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

SCHEMA: Final = 1
"""The version of all field names. New fields may come; a meaning never changes under one number."""


class Answer(msgspec.Struct, frozen=True, gc=False, tag_field="schema", tag=SCHEMA):
    """One object of `--json`."""


def versioned(fields: dict[str, Any]) -> dict[str, Any]:
    """The same for an answer whose fields are not known here, such as an event."""
    return {"schema": SCHEMA, **fields}


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as an answer says them."""
    return datetime.fromtimestamp(seconds, UTC)
