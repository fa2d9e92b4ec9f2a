"""What the names in a pickle stand for where they are plain data: rows of the unpickler's table, and their builders.

Source: Python's pickletools; numpy, numpy/_core/src/multiarray/methods.c (array_reduce) and numeric.py (_frombuffer).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from open_clip.errors import CheckpointError, printable

Array: TypeAlias = npt.NDArray[np.generic]
NumberType: TypeAlias = "np.dtype[np.generic]"
WAY_OUT = "Ask its author for the state dict alone, best as safetensors."
_NUMBERS = "fiubc"


class PickledObject:
    """Stands for an object whose class is not built.

    Attributes:
        kind: Full name of the class.
        state: What the pickle puts into it, mostly a dict of attributes; None where it puts nothing.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: object = None

    def attribute(self, name: str) -> object:
        """Give an attribute; None where there is none."""
        return self.state.get(name) if isinstance(self.state, dict) else None


class Settings(dict[str, object]):
    """The attributes of an ``argparse.Namespace``."""


class Named:
    """A name of the table as it stands on the unpickler's stack; ``build`` is None where nothing may be built."""

    def __init__(self, name: str, build: Callable[..., object] | None) -> None:
        self.name = name
        self.build = build


_HASHED = (str, bytes, int, float, bool, type(None), PickledObject)


def check_keys(keys: Iterable[object]) -> list[object]:
    """Give keys of a dict, or members of a set, that are safe to be hashed.

    The hash of a tuple of tuples that hold each other twice, a hundred times, takes for ever.

    Raises:
        CheckpointError: One is neither plain nor a flat tuple of plain values.
    """
    checked = list(keys)
    for key in checked:
        for part in key if isinstance(key, tuple) else (key,):
            if not isinstance(part, _HASHED):
                raise CheckpointError(f"refused: a {type(part).__name__} is part of a key. {WAY_OUT}")
    return checked


def fill_array(array: Array, state: object) -> None:
    """Put into an array what its pickle says.

    Raises:
        CheckpointError: It says anything else than numbers.
        ValueError: The bytes are not what the shape takes.
    """
    match state:
        case (int(), tuple() as shape, np.dtype() as dtype, bool() as is_fortran, bytes() as content):
            array.__setstate__((1, shape, dtype, is_fortran, content))  # type: ignore[arg-type]
        case _:
            raise CheckpointError("an array in it is damaged. Fetch or write the file again.")


def refuse_foreign_order(state: object) -> None:
    """Refuse what says that an array's bytes stand the other way round.

    Raises:
        CheckpointError: They do, or it cannot be told.
    """
    if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
        raise CheckpointError("was written on a big-endian machine; convert it to safetensors there.")


def _ordered(pairs: Iterable[tuple[object, object]] = ()) -> OrderedDict[object, object]:
    listed = [(key, value) for key, value in pairs]
    check_keys(key for key, _ in listed)
    return OrderedDict(listed)


def _counted(counts: Mapping[object, object]) -> dict[object, object]:
    return dict(counts)


def _defaulting(_: object = None) -> dict[object, object]:
    return {}


def _encode(text: str, encoding: str) -> bytes:
    # How protocol 2 writes bytes.
    if encoding != "latin1":
        raise ValueError(encoding)
    return text.encode("latin1")


def _bytes_array(content: str | bytes = b"", encoding: str = "latin1") -> bytearray:
    # A number would be a length.
    return bytearray(_encode(content, encoding) if isinstance(content, str) else memoryview(content))


def _number_type(name: str, *_: object) -> NumberType:
    """Give a type of numbers; the only way to one, so that no array of objects is ever built."""
    if name[:1] not in _NUMBERS or not name[1:].isdigit():
        raise CheckpointError(f"refused: it holds an array of {printable(name, 60)}, not of numbers. {WAY_OUT}")
    return np.dtype(name)


def _scalar(dtype: NumberType, content: bytes) -> object:
    (number,) = _array(content, dtype, (1,), "C").tolist()
    return number


def _array(content: bytes, dtype: NumberType, shape: tuple[int, ...], order: str) -> Array:
    if not isinstance(dtype, np.dtype):
        raise TypeError(type(dtype))
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C")


def _empty(*_: object) -> Array:
    return np.empty(0, np.uint8)


def _path(*parts: str) -> str:
    return str(PurePosixPath(*parts))


def _under(modules: Iterable[str], rows: Mapping[str, object]) -> dict[str, object]:
    return {f"{module}.{name}": row for module in modules for name, row in rows.items()}


_BUILTINS: dict[str, object] = {
    "set": lambda items=(): set(check_keys(items)),
    "frozenset": lambda items=(): frozenset(check_keys(items)),
    "bytearray": _bytes_array,
    # Without arguments, as protocol 2 writes no bytes at all.
    "bytes": lambda: b"",
    "complex": complex,
    # What a defaultdict would fill itself with.
    **dict.fromkeys(("dict", "list", "int", "float", "str"), None),
}
_COLLECTIONS: dict[str, object] = {"OrderedDict": _ordered, "defaultdict": _defaulting, "Counter": _counted}
_NUMPY_CORE: dict[str, object] = {
    "multiarray.scalar": _scalar,
    "multiarray._reconstruct": _empty,
    "numeric._frombuffer": _array,
}
#: Full name to what stands in its place; see ``pickles.PlainUnpickler``.
PLAIN: dict[str, object] = {
    # The second names are those of Python 2, which torch writes to this day.
    **_under(("builtins", "__builtin__"), _BUILTINS),
    **_under(("collections",), _COLLECTIONS),
    **_under(("numpy.core", "numpy._core"), _NUMPY_CORE),
    **_under(("pathlib", "pathlib._local"), dict.fromkeys(("PosixPath", "PurePosixPath"), _path)),
    "_codecs.encode": _encode,
    "argparse.Namespace": lambda: Settings(),
    "numpy.dtype": _number_type,
    "numpy.ndarray": None,
}
