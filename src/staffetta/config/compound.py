"""Keys whose value has parts: deliver, via, aliases, dkim, discover, and text that may also be "off"."""

from __future__ import annotations

from typing import Any, Final

from staffetta.config import values
from staffetta.config.kinds import BROKEN, PATH, Many, Text, parse_path, unknown_word, wrong_type
from staffetta.config.positions import Path
from staffetta.config.reader import Reader, header, label
from staffetta.config.schema import Deliver, Discover, DkimKey, DkimMode, Hop, InnerServer, Lmtp, Maildir
from staffetta.config.values import Wrong, parse_hop, quoted


class _Deliver(Text):
    """`maildir`, `maildir:PATH`, `lmtp:…`, `smtp:…`."""

    def __init__(self) -> None:
        super().__init__("a way of delivery", '"maildir"', str)

    def parse(self, reader: Reader, text: str) -> Deliver:
        """See Text."""
        way, colon, rest = text.partition(":")
        if way == "maildir":
            return Maildir(parse_path(reader, rest) if colon else None)
        if way == "lmtp" and rest.startswith("unix:"):
            return Lmtp(None, parse_path(reader, rest[len("unix:") :]))
        if way == "lmtp" and rest:
            host, port = parse_hop(rest)
            if port is None:
                raise Wrong(f"{quoted(text)} has no port", f"LMTP has no usual port: write {quoted(text + ':24')}")
            return Lmtp(Hop(host, port))
        if way == "smtp" and rest:
            host, port = parse_hop(rest)
            return InnerServer(Hop(host, 25 if port is None else port))
        cure = 'write "maildir", "maildir:PATH", "lmtp:HOST:PORT", "lmtp:unix:PATH" or "smtp:HOST"'
        raise Wrong(f"{quoted(text)} is not a way of delivery", cure)


class _Via:
    """`"mx"` (then empty), or next hops as (host, port or None)."""

    word = '"mx" or list of HOST[:PORT]'

    def __init__(self) -> None:
        self._hops = Many(Text("a host", '"smtp.example.org:587"', parse_hop), "list of hosts", least=1, alone=True)

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        if raw in ("mx", ["mx"]):
            return ()
        if isinstance(raw, list) and "mx" in raw:
            message = f'{label(path)}: "mx" cannot stand beside hosts'
            reader.report("C106", (*path, raw.index("mx")), message, "write another route for it")
            return BROKEN
        return self._hops.read(reader, path, raw)


class _Aliases:
    """A table of lists."""

    word = "table of lists"

    def __init__(self) -> None:
        target = Text("a local part or address", '"anna"', values.parse_local_part_or_address)
        self._targets = Many(target, "list of local parts or addresses", least=1)

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        if not isinstance(raw, dict):
            return wrong_type(reader, path, raw, "a table", 'write { info = ["anna"] }')
        found: dict[str, tuple[Any, ...]] = {}
        for name, targets in raw.items():
            place = (*path, name)
            try:
                alias = values.parse_local_part(name)
            except Wrong as fault:
                reader.report(fault.code, place, f"{header(path)}: {fault}", fault.cure, at="key")
                continue
            if alias in found:
                reader.report("C218", place, f"{header(path)} has {quoted(alias)} twice", "write one of them", at="key")
                continue
            value = self._targets.read(reader, place, targets)
            if value is not BROKEN:
                found[alias] = value
        return tuple(found.items())


class _Dkim:
    """`"auto"`, `"off"` or `{ selector, key }`."""

    word = '"auto", "off" or table'

    def __init__(self) -> None:
        self._keys = {"selector": Text("a selector", '"s2025"', values.parse_selector), "key": PATH}

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        cure = 'write "auto", "off" or { selector = "s2025", key = "dkim.pem" }'
        if isinstance(raw, str):
            if raw in set(DkimMode):
                return DkimMode(raw)
            return unknown_word(reader, path, raw, [mode.value for mode in DkimMode])
        if not isinstance(raw, dict):
            return wrong_type(reader, path, raw, "a word in quotes or a table", cure)
        for name in raw:
            if name not in self._keys:
                reader.report(
                    "C103",
                    (*path, name),
                    f"unknown key {quoted(name)} in {header(path)}",
                    "known: selector, key",
                    at="key",
                )
        missing = [name for name in self._keys if name not in raw]
        if missing:
            reader.report("C105", path, f"{label(path)} has no {' and no '.join(missing)}", cure)
            return BROKEN
        found = [kind.read(reader, (*path, name), raw[name]) for name, kind in self._keys.items()]
        return BROKEN if BROKEN in found else DkimKey(*found)


class _Server(Text):
    """A server for reading mail, `HOST` or `HOST:PORT`."""

    def __init__(self, port: int) -> None:
        super().__init__("a server", f'"mail.example.org:{port}"', str)
        self._port = port

    def parse(self, reader: Reader, text: str) -> Hop:
        """See Text."""
        host, port = parse_hop(text)
        return Hop(host, self._port if port is None else port)


class _Discover:
    """true, false or `{ imap, pop3 }`; then None where nothing is told."""

    word = "true, false or table"

    def __init__(self) -> None:
        self._keys = {"imap": _Server(993), "pop3": _Server(995)}

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        cure = 'write true, or { imap = "mail.example.org:993" }'
        if isinstance(raw, bool):
            return Discover() if raw else None
        if not isinstance(raw, dict):
            return wrong_type(reader, path, raw, "true, false or a table", cure)
        for name in raw:
            if name not in self._keys:
                message = f"unknown key {quoted(name)} in {header(path)}"
                reader.report("C103", (*path, name), message, f"known: {', '.join(self._keys)}", at="key")
        if not set(raw) & set(self._keys):
            if not raw:
                reader.report("C105", path, f"{label(path)} names no server", cure)
            return BROKEN
        found = {name: kind.read(reader, (*path, name), raw[name]) for name, kind in self._keys.items() if name in raw}
        return BROKEN if BROKEN in found.values() else Discover(**found)


class _OrOff:
    """Text of a kind, or "off"; then None."""

    def __init__(self, kind: Text) -> None:
        self.word = f'{kind.word} or "off"'
        self._kind = kind

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        if raw is False:
            return wrong_type(reader, path, raw, f"{self.word} in quotes", 'write "off"')
        return None if raw == "off" else self._kind.read(reader, path, raw)


DELIVER: Final = _Deliver()
VIA: Final = _Via()
ALIASES: Final = _Aliases()
DKIM: Final = _Dkim()
DISCOVER: Final = _Discover()
OFF_OR_DURATION: Final = _OrOff(Text("a duration", '"4h"', values.parse_duration))
OFF_OR_BIND: Final = _OrOff(Text("an address with port", '"127.0.0.1:8080"', values.parse_bind_of))
