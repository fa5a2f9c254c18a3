"""Where in the file the keys stand that decided something: `staffetta.toml:12`; `default` for what is not written."""

from __future__ import annotations

from pathlib import Path as FilePath

from staffetta.config.explain import origin
from staffetta.config.load import Loaded
from staffetta.config.positions import Path, positions
from staffetta.mail.address import fold_local_part
from staffetta.mail.domain import Domain, DomainError, Host, parse_domain


class Places:
    """The places of one loaded file; its text is read again, because a loaded configuration keeps no positions.

    A file that changed or went since then gives no lines, never an error.
    """

    def __init__(self, loaded: Loaded, file: FilePath) -> None:
        try:
            text = file.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
        except OSError:
            text = ""
        self._index = positions(text)
        self._file = loaded.file
        self._settings = {setting.path: setting for setting in loaded.settings}
        self._domains: dict[Host, str] = {}
        for path in self._index.keys:
            if len(path) == 2 and path[0] == "domain" and isinstance(path[1], str):
                try:
                    self._domains[parse_domain(path[1])] = path[1]
                except DomainError:
                    continue

    def at(self, *path: str | int) -> str:
        """The place of a key: where it is written or why it has its value, else the line of the table around it."""
        if path in self._index.keys:
            return self._line(path)
        setting = self._settings.get(path)
        if setting is not None:
            return origin(setting, self._file)
        while path := path[:-1]:
            if path in self._index.keys:
                return self._line(path)
        return ""

    def domain(self, domain: Host) -> Path:
        """The path of a local domain's table, as its header spells it."""
        return ("domain", self._domains.get(domain, domain.ascii if isinstance(domain, Domain) else str(domain)))

    def alias(self, domain: Host, name: str) -> str:
        """The place of an alias, whose name is given folded."""
        table = (*self.domain(domain), "aliases")
        for path in self._index.keys:
            if path[:-1] == table and isinstance(path[-1], str) and fold_local_part(path[-1]) == name:
                return self._line(path)
        return self.at(*table)

    def written(self, *path: str | int) -> bool:
        """True when the key stands in the file."""
        return path in self._index.keys

    def _line(self, path: Path) -> str:
        return f"{self._file}:{self._index.place(self._index.keys[path]).line}"
