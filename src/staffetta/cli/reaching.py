"""Finding the relay that runs, also when its file is wrong by now: that is when one needs it most."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from staffetta.cli import exits
from staffetta.cli.options import find_file, read
from staffetta.cli.output import Stop

if TYPE_CHECKING:
    from staffetta.config.schema import Config

VARIABLE: Final = "STAFFETTA_DATA_DIR"
_LINE: Final = re.compile(r"""[ \t]*data_dir[ \t]*=[ \t]*(?:"([^"\\]*)"|'([^']*)')[ \t]*(?:#.*)?\r?""")
"""The key as a file that is no TOML (any more) may still have it."""


def data_dir_of(config: Path | None) -> tuple[Path, Config | None]:
    """The data directory, and the configuration where the file is right. Raises Stop when there is no file."""
    from staffetta.config.load import Loaded  # noqa: PLC0415

    loaded = read(config, files=False)
    if isinstance(loaded, Loaded):
        return loaded.config.data_dir, loaded.config
    return _guessed(find_file(config)), None


def _guessed(file: Path | None) -> Path:
    """What a wrong file says about the folder, else the default."""
    from staffetta.config.schema import Config  # noqa: PLC0415
    from staffetta.mail.domain import Domain  # noqa: PLC0415

    default = Config(Domain("localhost")).data_dir
    base = file.absolute().parent if file is not None else Path()
    named = os.environ.get(VARIABLE)
    if named:
        return base / named
    try:
        text = file.read_text("utf-8", "replace") if file is not None else ""
    except OSError as error:
        raise Stop(f"the file cannot be read: {error.strerror}", exits.CONFIGURATION) from error
    for line in text.split("\n"):
        if line.lstrip().startswith("["):
            break
        found = _LINE.fullmatch(line)
        if found is not None:
            return base / (found[1] or found[2] or "")
    return default
