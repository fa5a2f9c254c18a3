"""Names of ends: what the system calls a socket's end, and what `bind` means in the configuration."""

from __future__ import annotations

from typing import Any

import msgspec

from staffetta.net.contract import Endpoint


class BindError(ValueError):
    """The text is not `HOST:PORT`, `*:PORT`, `[IPV6]:PORT` or `unix:PATH`; the message says why."""


class Bind(msgspec.Struct, frozen=True, gc=False):
    """Where to listen. `host` is "*" for all addresses of both families; `path` is set for a Unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_bind(text: str) -> Bind:
    """The `bind` that `text` means. Raises BindError. Port 0 lets the system choose."""
    if text.startswith("unix:"):
        if len(text) == len("unix:"):
            raise BindError("unix: needs a path")
        return Bind("", 0, text[len("unix:") :])
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise BindError("HOST:PORT is needed, such as *:25 or 127.0.0.1:25")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BindError("an IPv6 address stands in brackets, such as [::1]:25")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise BindError("the port is a number from 0 to 65535")
    return Bind(host, int(port))


def endpoint_of(name: Any) -> Endpoint | None:
    """A socket name as an Endpoint; an IPv4-mapped address is the IPv4 address, a zone is dropped. None: unknown."""
    if name is None:
        return None
    if isinstance(name, tuple):
        address: str = name[0]
        if ":" in address:
            address = address.partition("%")[0]
            if address.startswith("::ffff:") and "." in address:
                address = address[7:]
        return Endpoint(address, name[1])
    path = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    return Endpoint(path or "unix", 0)
