"""Config files in Python: a dataclass of fields with defaults, and files that change some; each value is checked.

A config file is run. It is the user's own program, as the command line that names it is the user's.
"""

import ast
import inspect
import sys
import traceback
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TypeAlias, get_args, get_type_hints

from open_clip.errors import ConfigError, cut_list, printable, suggest_nearest
from training.params.by_path import load_by_path

Value: TypeAlias = bool | int | float | str | tuple[str, ...] | None

_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", tuple: "a tuple of texts"}


class Settings:
    """What a base config inherits: a field must be declared, and takes only values of its type.

    A subclass is a dataclass whose fields are bool, int, float, str or ``tuple[str, ...]``.
    """

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field.

        Raises:
            ConfigError: There is no such field, or the value is of another type.
        """
        kinds = _kinds(type(self))
        if name not in kinds:
            base = Path(inspect.getfile(type(self))).name
            near = suggest_nearest(name, kinds)
            raise ConfigError(f"{base} has no field {printable(repr(name), 100)}.{near} A new one is declared there.")
        object.__setattr__(self, name, _fit(name, value, kinds[name]))

    def values(self) -> dict[str, Value]:
        """Give all fields by name, in the order of their declaration."""
        return {name: getattr(self, name) for name in _kinds(type(self))}

    def source_folder(self) -> Path:
        """Give the folder above that of the base config: imports of config files and paths of fields begin there."""
        return Path(inspect.getfile(type(self))).absolute().parents[1]

    def override(self, word: str) -> None:
        """Set a field by a word of the command line, ``key=value``.

        Raises:
            ConfigError: It has another form, names no field or its value does not fit.
        """
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"'{printable(word, 80)}' is not of the form key=value, such as batch_size=8.")
        kind = _kinds(type(self)).get(name)
        setattr(self, name, text if kind in (None, str) else _read(text))


def _kinds(owner: type) -> dict[str, type]:
    hints = get_type_hints(owner)
    return {
        name: tuple if get_args(hints[name]) else hints[name] for name in getattr(owner, "__dataclass_fields__", ())
    }


def _fit(name: str, value: object, kind: type) -> Value:
    """Bring a value to the type of its field where nothing is lost by it."""
    if kind is tuple:
        texts = (value,) if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and all(isinstance(one, str) for one in texts):
            return tuple(texts)
    elif kind is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    elif isinstance(value, bool | int | float | str) and type(value) is kind:
        return value
    raise ConfigError(f"{name} is {printable(repr(value), 100)}; it must be {_KINDS[kind]}.")


def _read(text: str) -> object:
    """Read a word as Python does where it can, with the names of truth in small letters too; else it is text."""
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return tuple(text.split(",")) if "," in text else text


def read_config(path: str, words: Sequence[str] = ()) -> Settings:
    """Run a config file and return the object ``cfg`` that it defines.

    Args:
        path: A file of a folder such as ``configs``, whose parent is where the file may import from.
        words: Fields to set after it, ``key=value`` each.

    Raises:
        ConfigError: The file cannot be run, sets an unknown field or a value that does not fit (with its line), or has
            no ``cfg`` made of a :class:`Settings`; or a word does not fit.
    """
    if not path.endswith(".py"):
        raise ConfigError(f"{printable(path, 200)} is no config file. Give the path of one: configs/config_g3m.py.")
    parent = str(Path(path).absolute().parents[1])
    if parent not in sys.path:
        sys.path.append(parent)
    try:
        cfg = load_by_path(f"{path}:cfg")
    except ConfigError as error:
        if isinstance(error.__cause__, ConfigError):
            raise ConfigError(f"{_place(error.__cause__)}: {error.__cause__}") from error
        raise
    if not isinstance(cfg, Settings):
        raise ConfigError(f"{printable(path, 200)}: cfg is no config; make it of the class in config_base.py.")
    cfg = deepcopy(cfg)  # the file's own stays as the file says
    for word in words:
        cfg.override(word)
    return cfg


def _place(error: ConfigError) -> str:
    """Name the line of the user's file that an error comes from: the last one outside this module."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename != __file__]
    return f"{printable(frames[-1].filename, 300)}, line {frames[-1].lineno}" if frames else "the config file"


class Fields:
    """Reads fields of a config by the type that a translation expects."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)
        self.unread = set(values)

    def _get(self, name: str, kind: type) -> Value:
        self.unread.discard(name)
        if name not in self._values:
            raise ConfigError(f"the config has no field {name}, which the trainer needs. Declare it in config_base.py.")
        return _fit(name, self._values[name], kind)

    def text(self, name: str) -> str:
        """Read text."""
        return str(self._get(name, str))

    def texts(self, name: str) -> tuple[str, ...]:
        """Read a tuple of texts."""
        found = self._get(name, tuple)
        assert isinstance(found, tuple)
        return found

    def number(self, name: str) -> float:
        """Read a number."""
        found = self._get(name, float)
        assert isinstance(found, float)
        return found

    def whole(self, name: str) -> int:
        """Read a whole number."""
        found = self._get(name, int)
        assert isinstance(found, int)
        return found

    def switch(self, name: str) -> bool:
        """Read True or False."""
        return bool(self._get(name, bool))

    def one_of(self, name: str, choices: Mapping[str, str]) -> str:
        """Read text that has a counterpart, and return that.

        Raises:
            ConfigError: It is none of those that have one.
        """
        word = self.text(name)
        if word not in choices:
            near = suggest_nearest(word, choices)
            raise ConfigError(f"{name} is {printable(repr(word), 100)}.{near} It can be {cut_list(choices)}.")
        return choices[word]
