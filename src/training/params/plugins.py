"""Find a class by the word of a flag: a name of ours, or ``path/to/file.py:NAME`` for one of the user's own."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from open_clip.errors import ConfigError, naming, printable, suggest_nearest
from training.params.by_path import is_by_path, load_by_path


def absolute(word: str) -> str:
    """Spell a word so that it means the same in every folder."""
    path, colon, name = word.rpartition(":")
    return f"{Path(path).absolute()}{colon}{name}" if is_by_path(word) else word


@cache
def find_class(word: str, flag: str, package: str) -> type:
    """Import the class that a flag names.

    Args:
        word: Either a name, which is that of a module of ``package`` and of the class's attribute ``name``, or
            ``FILE.py:NAME``.
        flag: For messages.
        package: Where classes with a name are, one module each.

    Raises:
        ConfigError: There is no such name, file or class, or the file cannot be imported.
    """
    shown = f"{flag} {printable(word, 200)}"
    if is_by_path(word):
        with naming(flag):
            found = load_by_path(word)
        if isinstance(found, type):
            return found
        raise ConfigError(f"{shown}: this is no class.")
    names = class_names(package)
    if word in names:
        module = importlib.import_module(f"{package}.{word}")
        own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
        found = next((one for one in own if getattr(one, "name", None) == word), None)
        if found is None:
            raise ConfigError(f"{shown}: {package}.{word} defines no class with name = {word!r}.")
        return found
    hint = suggest_nearest(word[:80], names)
    raise ConfigError(f"{shown}: there is none of that name.{hint} Or give one of your own: path/to/file.py:NAME")


def class_names(package: str) -> list[str]:
    """List the names that :func:`find_class` knows, without importing what they stand for."""
    found = importlib.import_module(package)
    return [one.name for one in pkgutil.iter_modules(found.__path__) if one.name != "base"]
