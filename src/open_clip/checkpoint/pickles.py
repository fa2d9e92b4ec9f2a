"""The only unpickler: it builds plain data and what a caller's table adds, and never runs code from a pickle.

No class or function that a pickle names is looked up: the name stands for a row of a table, and a name without a row is
refused. Python's own unpickler is the base, since the one in C asks for as much memory as a number in the file says.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import BinaryIO

import numpy as np

from open_clip.checkpoint.pickled_values import (
    PLAIN,
    WAY_OUT,
    Named,
    PickledObject,
    Settings,
    check_keys,
    fill_array,
    refuse_foreign_order,
)
from open_clip.checkpoint.trees import check_tree
from open_clip.errors import CheckpointError, printable

Builder = Callable[..., object]
# One byte makes an empty list of 56, so this holds a pickle to a few gigabytes. Weights lie beside it, not in it.
MOST_BYTES = 64 << 20
# How often what a pickle holds may be copied: two bytes are enough to ask again for a text of a megabyte.
_MOST_COPIES = 16
_SLACK_BYTES = 1 << 20
_SIZED = (str, bytes, bytearray, list, tuple, dict)


class _Reader:
    """Reads a file as far as a pickle may be long, and never asks for more memory than there are bytes."""

    def __init__(self, file: BinaryIO, most_bytes: int, content_bytes: int) -> None:
        self._file = file
        self._left = most_bytes
        self._content_left = content_bytes
        self.taken = 0

    def announce(self, size: int) -> None:
        """Say that bytes come which are content: they become an object of their own size, so they count apart."""
        granted = min(size, self._content_left)
        self._content_left -= granted
        self._left += granted

    def read(self, size: int) -> bytes:
        if size > self._left:
            raise CheckpointError("it is cut short, or holds a pickle that is longer than any. Fetch it again.")
        return self._count(self._file.read(size))

    def readline(self) -> bytes:
        return self._count(self._file.readline(self._left))

    def _count(self, content: bytes) -> bytes:
        self._left -= len(content)
        self.taken += len(content)
        return content


class PlainUnpickler(pickle._Unpickler):
    """Builds None, truth values, numbers, text, bytes, lists, tuples, dicts and sets, and what a table says.

    Args:
        file: Where the pickle begins; read to its end and not further.
        table: Full name of a class or function to what stands in its place: a callable builds a value, None may only be
            handed to a builder, anything else is the value itself.
        records: Beginnings of the full names that become a :class:`PickledObject`.
        storage: Answers persistent ids, by which torch names what lies beside the pickle.
        most_bytes: The longest pickle.
        content_bytes: How much longer it may be for objects of bytes in it, as a file without storages beside it is.
    """

    dispatch = dict(pickle._Unpickler.dispatch)
    # What the base has and its type stubs leave out.
    stack: list[object]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[object]]
    read: Callable[[int], bytes]

    def __init__(
        self,
        file: BinaryIO,
        table: Mapping[str, object] | None = None,
        *,
        records: tuple[str, ...] = (),
        storage: Builder | None = None,
        most_bytes: int = MOST_BYTES,
        content_bytes: int = 0,
    ) -> None:
        self._reader = _Reader(file, most_bytes, content_bytes)
        # UTF-8, as torch reads text of Python 2.
        super().__init__(self._reader, encoding="utf-8")
        self._table = {**PLAIN, **(table or {})}
        self._records = records
        self._storage = storage
        self._copied = 0

    def unpickle(self) -> object:
        """Read the pickle.

        Raises:
            CheckpointError: It names what has no row in the table, asks for more than it holds, or is damaged.
        """
        try:
            return self.load()
        except (CheckpointError, MemoryError):
            raise
        except Exception as error:
            # A damaged pickle raises almost anything.
            raise CheckpointError(
                f"the file is cut short or damaged ({type(error).__name__}). Fetch or write it again."
            ) from None

    def find_class(self, module: str, name: str) -> object:
        """Give the row of a name."""
        full = f"{module}.{name}"
        if full in self._table:
            row = self._table[full]
            return Named(full, row) if row is None or callable(row) else row
        if full.startswith(self._records):
            return Named(full, lambda *_: PickledObject(full))
        raise CheckpointError(
            f"refused: it holds a Python object ({printable(full, 120)}) that is neither a tensor nor plain data, and "
            f"building it could run code. {WAY_OUT}"
        )

    def persistent_load(self, pid: object) -> object:
        """Give what lies beside the pickle."""
        if self._storage is None:
            raise CheckpointError(f"refused: it points at data outside itself. {WAY_OUT}")
        return self._storage(pid)

    def _call(self, named: object, arguments: object) -> object:
        if not isinstance(named, Named) or named.build is None or not isinstance(arguments, tuple | list):
            shown = named.name if isinstance(named, Named) else f"a {type(named).__name__}"
            raise CheckpointError(f"refused: it calls {printable(shown, 120)}, which builds no plain data. {WAY_OUT}")
        self._copied += sum(len(one) for one in arguments if isinstance(one, _SIZED))
        if self._copied > _MOST_COPIES * self._reader.taken + _SLACK_BYTES:
            raise CheckpointError("refused: it copies what it holds again and again. Fetch or write the file again.")
        return named.build(*arguments)

    # What follows replaces the steps of the base that call, change or hash what a pickle chooses.

    def _instantiate(self, klass: object, args: list[object]) -> None:
        self.append(self._call(klass, args))

    def _load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def _load_newobj_ex(self) -> None:
        if self.stack.pop():
            raise CheckpointError(f"refused: it builds an object from named arguments. {WAY_OUT}")
        self._load_reduce()

    def _load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, PickledObject):
            target.state = state
        elif isinstance(target, Settings) and isinstance(state, dict):
            target.update(state)
        elif isinstance(target, np.ndarray):
            fill_array(target, state)
        elif isinstance(target, np.dtype):
            refuse_foreign_order(state)
        # An OrderedDict's is bookkeeping of nn.Module.
        elif not isinstance(target, OrderedDict):
            raise CheckpointError(f"refused: it changes the inside of a {_kind(target)}. {WAY_OUT}")

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def _load_setitems(self) -> None:
        self._put(self.pop_mark())

    def _load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._put(items)

    def _put(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise CheckpointError(f"refused: it puts entries into a {_kind(target)}. {WAY_OUT}")
        target.update(zip(check_keys(items[::2]), items[1::2], strict=True))

    def _load_additems(self) -> None:
        items, target = self.pop_mark(), self.stack[-1]
        if not isinstance(target, set):
            raise CheckpointError(f"refused: it puts members into a {_kind(target)}. {WAY_OUT}")
        target.update(check_keys(items))

    def _load_frozenset(self) -> None:
        # First, since it puts the stack below the mark back.
        members = self.pop_mark()
        self.append(frozenset(check_keys(members)))

    def _load_binbytes(self) -> None:
        self.append(self._read_content(4))

    def _load_binbytes8(self) -> None:
        self.append(self._read_content(8))

    def _load_bytearray8(self) -> None:
        # The base makes it before it knows whether there are so many bytes.
        self.append(bytearray(self._read_content(8)))

    def _read_content(self, width: int) -> bytes:
        length = int.from_bytes(self.read(width), "little")
        self._reader.announce(length)
        return self.read(length)

    def _refuse_extension(self) -> None:
        raise CheckpointError(f"refused: it names an object by a number that only its program knows. {WAY_OUT}")

    for _opcode, _step in (
        (pickle.REDUCE, _load_reduce),
        (pickle.NEWOBJ, _load_reduce),
        (pickle.NEWOBJ_EX, _load_newobj_ex),
        (pickle.BUILD, _load_build),
        (pickle.SETITEM, _load_setitem),
        (pickle.SETITEMS, _load_setitems),
        (pickle.DICT, _load_dict),
        (pickle.ADDITEMS, _load_additems),
        (pickle.FROZENSET, _load_frozenset),
        (pickle.BINBYTES, _load_binbytes),
        (pickle.BINBYTES8, _load_binbytes8),
        (pickle.BYTEARRAY8, _load_bytearray8),
        (pickle.EXT1, _refuse_extension),
        (pickle.EXT2, _refuse_extension),
        (pickle.EXT4, _refuse_extension),
    ):
        dispatch[_opcode[0]] = _step  # type: ignore[assignment]


def read_plain_pickle(content: bytes) -> object:
    """Read a pickle of plain data: None, numbers, text, bytes, and lists, tuples, dicts and sets of these.

    An ``argparse.Namespace`` comes as a dict, a path as text, a scalar of numpy as a number, an array as an array.

    Raises:
        CheckpointError: It asks for anything else, or is damaged.
    """
    plain = PlainUnpickler(io.BytesIO(content), most_bytes=len(content)).unpickle()
    check_tree(plain)
    return plain


def _kind(value: object) -> str:
    return printable(value.name if isinstance(value, Named) else type(value).__name__, 120)
