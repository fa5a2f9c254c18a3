"""What a peer has sent and nobody has read yet, asked of the system: who speaks before it was spoken to?"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios

_NOTHING = b"\0\0\0\0"


def unread_octets(transport: asyncio.BaseTransport) -> int:
    """Octets in the socket's buffer; 0 where there is no socket to ask. One system call."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    try:
        found: bytes = fcntl.ioctl(sock.fileno(), termios.FIONREAD, _NOTHING)
    except OSError:
        return 0
    return 0 if found == _NOTHING else int(struct.unpack("i", found)[0])
