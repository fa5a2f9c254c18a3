"""The handler of a stream before its owner is known and after it is gone: it hears and does nothing."""

from __future__ import annotations

from typing import Final

from staffetta.net.contract import TlsFacts


class Nobody:
    """The handler before the owner is known and after the stream is gone."""

    __slots__ = ()

    def bytes_received(self, data: bytes) -> None:
        pass

    def peer_finished(self) -> None:
        pass

    def tls_established(self, facts: TlsFacts) -> None:
        pass

    def write_blocked(self, blocked: bool) -> None:
        pass

    def stream_closed(self, error: Exception | None) -> None:
        pass


NOBODY: Final = Nobody()
