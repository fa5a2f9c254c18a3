"""What a reply means and what to do about it, in lines beside the reply. The rows are read only when one is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from staffetta.cli.output import safe

if TYPE_CHECKING:
    from staffetta.config.schema import Config


class Meanings:
    """Explains replies of one relay: how long it goes on trying is its configuration's."""

    def __init__(self, config: Config | None = None) -> None:
        self._config = config
        self._said: set[str] = set()

    def lines(self, reply: str) -> Iterator[str]:
        """The lines for a reply that no recipient was accepted with; nothing for one that was explained before."""
        if not reply or reply[:1] not in "45" or reply in self._said:
            return
        from staffetta.control.explain_reply import DEFAULT_RETRY, classify, retry_of  # noqa: PLC0415 - reads all rows

        self._said.add(reply)
        found = classify(reply, retry_of(self._config) if self._config is not None else DEFAULT_RETRY)
        if found is None:
            return
        yield f"means: {safe(found.cause)}"
        if found.advice:
            yield f"to do: {safe(found.advice)}"
