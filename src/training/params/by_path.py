"""Find an object of a person's own Python file by a word such as ``my_source.py:MySource``.

The file is run: it is as much the user's as the command line that names it. Nothing that came with data gets here.
"""

import hashlib
import os
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from open_clip.errors import ConfigError, cut_list, printable, suggest_nearest
from open_clip.files import read_plain

_MOST_BYTES = 1 << 24


def is_by_path(word: str) -> bool:
    """Tell whether a word names an object of a file, ``FILE.py:NAME``, and not something of ours."""
    return word.partition(":")[0].endswith(".py")


@cache
def hash_file(word: str) -> str:
    """Give the SHA-256 of the file that a word names, as it was when it was first asked for, which is before it runs.

    Raises:
        ConfigError: it cannot be read.
    """
    path = word.partition(":")[0]
    try:
        return hashlib.sha256(read_plain(path, _MOST_BYTES)).hexdigest()
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"{printable(path, 200)} cannot be read: {reason}. Give the path of a Python file."
        ) from error


def load_by_path(word: str) -> object:
    """Run a Python file and return the object of it that a word names.

    The module is kept under the file's own name, and its folder is put behind the others that Python looks through: the
    file may import what lies beside it, and processes that are started anew find its classes again.

    Args:
        word: ``FILE.py:NAME``.

    Raises:
        ConfigError: there is no such file or name, or the file fails while it is run.
    """
    path, _, name = word.partition(":")
    shown = printable(path, 200)
    if not name:
        raise ConfigError(f"{shown}: say which object of the file is meant, such as {shown}:MySource.")
    if os.path.isfile(path):
        hash_file(word)
    module = _run(os.path.abspath(path), shown)
    found: object = getattr(module, name, None)
    if found is None:
        own = [one for one, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise ConfigError(
            f"{shown} has no {printable(name, 100)!r}.{suggest_nearest(name, own)} It defines: "
            f"{cut_list(own) or 'nothing'}."
        )
    return found


def _run(path: str, shown: str) -> ModuleType:
    stem = os.path.splitext(os.path.basename(path))[0]
    known = sys.modules.get(stem)
    if known is not None:
        if getattr(known, "__file__", None) == path:
            return known
        raise ConfigError(f"{shown}: another module is called {stem} already. Give the file another name.")
    spec = spec_from_file_location(stem, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ConfigError(f"{shown}: there is no such file. Give the path of a Python file.")
    module = module_from_spec(spec)
    # Before it runs, as Python's own import does: dataclasses of the file look their module up.
    sys.modules[stem] = module
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[stem]
        reason = printable(f"{type(error).__name__}: {error}", 300)
        raise ConfigError(f"{shown} cannot be run: {reason}. Run it with python to see where.") from error
    return module
