"""Exit statuses of `sendmail`, as sysexits(3) numbers them. Programs that call it rely on them."""

from __future__ import annotations

from typing import Final

OK: Final = 0
USAGE: Final = 64
"""The command line was wrong, or nobody was named to send to."""
DATA: Final = 65
"""An address in the message or on the command line is none."""
NO_USER: Final = 67
"""Nobody of that name."""
UNAVAILABLE: Final = 69
"""Something that is needed is not there."""
SOFTWARE: Final = 70
"""A mistake of ours."""
IO_ERROR: Final = 74
"""The input could not be read."""
TRY_LATER: Final = 75
"""The message could not be stored now."""
NOT_ALLOWED: Final = 77
"""This user may not do that."""
CONFIGURATION: Final = 78
"""The configuration that was named cannot be used."""


class Stop(Exception):
    """The command ends here: a sentence for standard error and an exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
