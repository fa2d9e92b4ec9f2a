"""Read and write a run's settings as YAML; unknown keys stop with the nearest known ones."""

import argparse
import contextlib
from pathlib import Path
from typing import Any, Final

import yaml

from open_clip.errors import ConfigError, printable, suggest_nearest
from open_clip.files import read_plain, write_whole
from open_clip.redaction import HIDDEN, is_redacted, redact
from training.params.nodes import compose_mapping, convert, value_of

# What a saved configuration leaves out: where it was read from, and what belongs to one start of one run folder.
_NOT_SAVED = ("config", "name", "resume")
# A file of all flags has 4 KB; one whose --train-data names thousands of shards some hundred.
_MOST_BYTES: Final = 1 << 18


def read_settings(parser: argparse.ArgumentParser, path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping of flag names (underscores or dashes) to values, each checked as its flag checks a word.

    Returns:
        The values by the names that the parser stores them under.

    Raises:
        ConfigError: When the file cannot be read, is not YAML or not such a mapping, or when a key is unknown, stands
            there twice or has a value that does not fit; names file, line and key.
    """
    name = f"--config {printable(path, 200)}"
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    known = {option.lstrip("-").replace("-", "_"): a.dest for a in actions.values() for option in a.option_strings}
    settings: dict[str, Any] = {}
    for key, node in compose_mapping(_read_text(path, name), name):
        where = f"{name}, line {key.start_mark.line + 1}"
        word = printable(key.value, 60)
        dest = known.get(key.value.replace("-", "_"))
        if dest is None:
            raise ConfigError(f"{where}: unknown key '{word}'.{suggest_nearest(key.value[:100], known)}")
        if dest in settings:
            raise ConfigError(f"{where}: {word} is there twice; leave one.")
        try:
            settings[dest] = convert(actions[dest], node)
        except argparse.ArgumentTypeError as error:
            raise ConfigError(f"{where}: {word}: {error}.") from error
    return settings


def look_into_settings(path: str | Path) -> dict[str, Any]:
    """Read a file of settings for a person to look at, whichever version wrote it; a value that cannot be is left out.

    Raises:
        ConfigError: When the file cannot be read, is not YAML or no mapping.
    """
    name = printable(path, 200)
    found: dict[str, Any] = {}
    for key, node in compose_mapping(_read_text(path, name), name):
        with contextlib.suppress(argparse.ArgumentTypeError):
            found[key.value] = value_of(node)
    return found


def write_settings(namespace: argparse.Namespace, path: Path) -> None:
    """Save the resolved flags so that ``--config`` with this file alone repeats the run; secrets are left out."""
    settings = {key: _redacted(value) for key, value in sorted(vars(namespace).items()) if key not in _NOT_SAVED}
    header = "# Resolved settings of this run; `python -m training.main --config THIS_FILE` repeats it.\n"
    write_whole(path, header + yaml.safe_dump(settings, allow_unicode=True, sort_keys=True))


def flags_with_secrets(namespace: argparse.Namespace) -> list[str]:
    """Name the flags whose values are saved without a secret that they hold, and so must be given again."""
    return [_option(key) for key, value in sorted(vars(namespace).items()) if _redacted(value) != value]


def refuse_hidden(namespace: argparse.Namespace) -> None:
    """Refuse values that were saved without their secret and not given again.

    Raises:
        ConfigError: With the flags to give.
    """
    hidden = [_option(key) for key, value in sorted(vars(namespace).items()) if is_redacted(value)]
    if hidden:
        raise ConfigError(
            f"{', '.join(hidden)}: the secret in it was left out when the settings were written ({HIDDEN}). Give "
            f"{'it' if len(hidden) == 1 else 'them'} again on the command line, beside --config."
        )


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _redacted(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(one) for one in value]
    return redact(value) if isinstance(value, str) else value


def _read_text(path: str | Path, name: str) -> str:
    try:
        content = read_plain(path, _MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror or error}. Give the path of a YAML file.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}, line {line}: this is not UTF-8 text. Save the file as UTF-8.") from error
