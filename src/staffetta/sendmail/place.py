"""Where `sendmail` leaves mail and where `mailq` looks, found by users who may not read the configuration.

The directory that `STAFFETTA_DROP` names; else the one beside the `data_dir` of the configuration, if that can be read;
else the default. `./staffetta.toml` is never read: `sendmail` runs in whatever directory a program is in, and a file
that somebody left there must not lead its mail astray.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from staffetta.control.place import drop_of
from staffetta.sendmail.drop import DEFAULT
from staffetta.sendmail.statuses import CONFIGURATION, Stop

CONFIG_FILE: Final = Path("/etc/staffetta/staffetta.toml")
DATA_DIR: Final = Path("/var/lib/staffetta")
DROP_VARIABLE: Final = "STAFFETTA_DROP"
CONFIG_VARIABLE: Final = "STAFFETTA_CONFIG"
LARGEST_FILE: Final = 1 << 20


def drop_directory(config: str | None, environment: Mapping[str, str]) -> Path:
    """Where mail is to be left. `config` is a file that the command line names. Raises Stop."""
    named = environment.get(DROP_VARIABLE, "")
    if named:
        return Path(named)
    data_dir = _data_dir(config, environment)
    return DEFAULT if data_dir is None else drop_of(data_dir)


def data_directory(config: str | None, environment: Mapping[str, str]) -> Path:
    """Where the relay keeps what must survive. Raises Stop."""
    return _data_dir(config, environment) or DATA_DIR


def _data_dir(config: str | None, environment: Mapping[str, str]) -> Path | None:
    """What the configuration says; None when there is none that this user may read."""
    named = config or environment.get(CONFIG_VARIABLE, "")
    path = Path(named) if named else CONFIG_FILE
    try:
        with path.open("rb") as file:
            document = tomllib.loads(file.read(LARGEST_FILE).decode())
    except (OSError, ValueError) as error:
        if not named and isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
            return None
        reason = error.strerror if isinstance(error, OSError) else "it is no TOML"
        raise Stop(f"the configuration {path} cannot be used: {reason}", CONFIGURATION) from error
    value = environment.get("STAFFETTA_DATA_DIR") or document.get("data_dir", str(DATA_DIR))
    return Path(os.path.abspath(path.parent / str(value)))
