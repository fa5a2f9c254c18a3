"""Counts TCP connections as they are begun on loopback: SYN packets to one port, also where nobody listens.

Looks at the wire (root), so that nobody's own account of what it did has to be believed.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from bench.results import Missing

SO_ATTACH_FILTER = 26
ETH_P_IP = 0x0800
"""With this, not ETH_P_ALL, a packet is seen once: where it comes in."""


_SYN_TO_PORT = (
    # (code, jump if true, jump if false, constant): classic BPF over an Ethernet frame, IPv4 without options.
    (0x30, 0, 0, 23),  # protocol
    (0x15, 0, 7, 6),  # TCP
    (0x28, 0, 0, 36),  # destination port
    (0x15, 0, 5, 0),  # ours (the constant is filled in)
    (0x30, 0, 0, 47),  # flags
    (0x54, 0, 0, 0x12),
    (0x15, 0, 2, 0x02),  # SYN without ACK
    (0x06, 0, 0, 64),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0),
)


class ConnectCount:
    """How many connections to `address:port` were begun since it was entered."""

    def __init__(self, address: str, port: int) -> None:
        self.connects = 0
        self._address = socket.inet_aton(address)
        self._port = port
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        except PermissionError:
            raise Missing("only root can count packets on loopback") from None
        program = b"".join(
            struct.pack("HBBI", code, true, false, self._port if place == 3 else constant)
            for place, (code, true, false, constant) in enumerate(_SYN_TO_PORT)
        )
        kept = ctypes.create_string_buffer(program)
        head = struct.pack("HL", len(_SYN_TO_PORT), ctypes.addressof(kept))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)
        self._socket.bind(("lo", 0))
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(5)
        self._socket.close()

    def _count(self) -> None:
        while not self._stopping.is_set():
            if not select.select([self._socket], [], [], 0.1)[0]:
                continue
            frame = self._socket.recv(64)
            self.connects += frame[30:34] == self._address
