"""Exit statuses. They are a contract: scripts rely on them."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
PROBLEM: Final = 1
USAGE: Final = 2
NOTHING_MATCHED: Final = 3
NOT_REACHABLE: Final = 4
NOT_ALLOWED: Final = 5
TEMPORARY: Final = 6
REFUSED: Final = 7
CONFIGURATION: Final = 8
