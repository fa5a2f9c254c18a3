"""Every effective value and where it came from: a text that could stand as a configuration file itself."""

from __future__ import annotations

from staffetta.config.load import Loaded
from staffetta.config.reader import Setting
from staffetta.config.toml import toml_key


def origin(setting: Setting, file: str) -> str:
    """`staffetta.toml:12`, `environment STAFFETTA_LOG_LEVEL`, `default`, or `default (why)`."""
    if setting.variable:
        return f"environment {setting.variable}"
    if setting.line:
        return f"{file}:{setting.line}" + (f" ({setting.why})" if setting.why else "")
    return f"default ({setting.why})" if setting.why else "default"


def explain(loaded: Loaded) -> str:
    """One line per value, `key = value  # origin`; what has no value is a comment. Secrets are shown as `***`."""
    rows = []
    for setting in loaded.settings:
        key = toml_key(setting.path)
        rows.append(
            (f"{key} = {setting.text}" if setting.text else f"# {key} is not set", origin(setting, loaded.file))
        )
    width = min(72, max((len(text) for text, _ in rows), default=0))
    return "".join(f"{text:<{width}}  # {source}\n" for text, source in rows)


def fields(loaded: Loaded) -> list[dict[str, str | int]]:
    """The same for `--json`: `key, value` (TOML text, empty for none), `origin`, `line` (0 for a default)."""
    return [
        {
            "key": toml_key(setting.path),
            "value": setting.text,
            "origin": origin(setting, loaded.file),
            "line": setting.line,
        }
        for setting in loaded.settings
    ]
