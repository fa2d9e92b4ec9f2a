"""Read and write a run's settings as YAML; unknown keys stop with the nearest known ones."""

import argparse
from pathlib import Path
from typing import Any

import yaml

from open_clip.errors import ConfigError, suggest_nearest

# What a saved configuration leaves out: where it was read from, and what belongs to one start of one run folder.
_NOT_SAVED = ("config", "name", "resume")


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping of flag names (underscores or dashes) to values.

    Raises:
        ConfigError: When the file is missing, is not YAML, or is not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror or error}. Give the path of a YAML file.") from error
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--config {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"--config {path} holds a {type(loaded).__name__}; it must be a mapping of flag: value.")
    return {str(key).replace("-", "_"): value for key, value in loaded.items()}


def coerce_settings(parser: argparse.ArgumentParser, settings: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Check settings against the parser's flags and bring each value to its flag's type.

    Raises:
        ConfigError: For an unknown key or a value that does not fit; names key and file.
    """
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    aliases = {option.lstrip("-").replace("-", "_"): a.dest for a in actions.values() for option in a.option_strings}
    coerced = {}
    for key, value in settings.items():
        if key not in aliases:
            raise ConfigError(f"--config {path}: unknown key {key!r}.{suggest_nearest(key, aliases)}")
        coerced[aliases[key]] = _coerce(actions[aliases[key]], key, value, path)
    return coerced


def write_settings(namespace: argparse.Namespace, path: Path) -> None:
    """Save the resolved flags so that ``--config`` with this file alone repeats the run."""
    settings = {key: value for key, value in sorted(vars(namespace).items()) if key not in _NOT_SAVED}
    header = "# Resolved settings of this run; `python -m training.main --config THIS_FILE` repeats it.\n"
    path.write_text(header + yaml.safe_dump(settings, allow_unicode=True, sort_keys=True), encoding="utf-8")


def _coerce(action: argparse.Action, key: str, value: Any, path: str | Path) -> Any:
    if value is None or action.nargs == 0 or isinstance(value, dict):
        fits = value is None or isinstance(value, bool if action.nargs == 0 else dict)
        if not fits:
            raise ConfigError(f"--config {path}: {key} is {value!r}; it must be true or false.")
        return value
    convert: Any = action.type or str
    values = value if isinstance(value, list) else [value]
    try:
        # YAML 1.1 reads 1e-3 as text: going through str gives each flag's own reading of it.
        converted = [convert(item if isinstance(item, str) else repr(item)) for item in values]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--config {path}: {key} is {value!r}, which is not of type {convert.__name__}.") from error
    for item in converted:
        if action.choices is not None and item not in action.choices:
            raise ConfigError(f"--config {path}: {key} is {item!r}; choose from {', '.join(map(str, action.choices))}.")
    return converted if isinstance(value, list) or action.nargs in ("+", "*") else converted[0]
