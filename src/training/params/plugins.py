"""Find a class by the word of a flag: a name of ours, or ``path/to/file.py:NAME`` for one of the user's own."""

import importlib
import importlib.util
import pkgutil
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from open_clip.errors import ConfigError, OpenClipError, printable, suggest_nearest

_ENDING = ".py"


def is_path(word: str) -> bool:
    """Tell whether a word names a class in a file of the user's."""
    return f"{_ENDING}:" in word


def absolute(word: str) -> str:
    """Spell a word so that it means the same in every folder."""
    path, colon, name = word.rpartition(":")
    return f"{Path(path).absolute()}{colon}{name}" if is_path(word) else word


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
    if is_path(word):
        path, _, name = word.rpartition(":")
        found = getattr(_load(path, shown), name, None)
        if isinstance(found, type):
            return found
        raise ConfigError(f"{shown}: {printable(path, 200)} has no class of the name {printable(name, 80)}.")
    names = class_names(package)
    if word in names:
        module = importlib.import_module(f"{package}.{word}")
        own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
        return next(one for one in own if getattr(one, "name", None) == word)
    hint = suggest_nearest(word[:80], names)
    raise ConfigError(f"{shown}: there is none of that name.{hint} Or give one of your own: path/to/file.py:NAME")


def class_names(package: str) -> list[str]:
    """List the names that :func:`find_class` knows, without importing what they stand for."""
    found = importlib.import_module(package)
    return [one.name for one in pkgutil.iter_modules(found.__path__) if one.name != "base"]


def _load(path: str, shown: str) -> ModuleType:
    """Import a file under a name of its own, once."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{shown}: there is no file {printable(path, 200)}.")
    name = f"user_{file.stem}_{abs(hash(str(file.absolute()))):x}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look their module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except OpenClipError:
        raise
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(
            f"{shown}: {printable(path, 200)} cannot be imported: {type(error).__name__}: {printable(error, 300)}"
        ) from error
    return module
