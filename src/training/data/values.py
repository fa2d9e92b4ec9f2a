"""Fields of plain values: class numbers, numbers and arrays, such as what a teacher once gave for each row."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import DataError, printable
from training.data.fields import Field, Row


class LabelField(Field):
    """Class numbers, int64 [B].

    Args:
        name: of the field.
        column: what it reads: a class name where there are ``classes``, a number from 0 elsewhere.
        classes: names of the classes, in the order of their numbers.
        num_classes: how many there are; a larger number makes a row unusable. As many as ``classes``, or any.
    """

    def __init__(
        self,
        name: str = "labels",
        column: str = "label",
        classes: Sequence[str] = (),
        num_classes: int | None = None,
    ) -> None:
        self.name = name
        self.columns = (column,)
        self._numbers = {word: number for number, word in enumerate(classes)}
        self._limit = math.inf if num_classes is None else num_classes

    def read(self, row: Row) -> int:
        """Look the number up."""
        value = _plain(row.read(self.columns[0]))
        if self._numbers:
            if str(value) not in self._numbers:
                raise DataError(f"{_shown(value)} is none of the {len(self._numbers)} classes")
            return self._numbers[str(value)]
        number = _to_number(value)
        if number != int(number) or not 0 <= number < self._limit:
            raise DataError(f"{_shown(value)} is no class number from 0 to {self._limit - 1:g}")
        return int(number)

    def collate(self, values: Sequence[int]) -> Tensor:
        """Give int64 [B]."""
        return torch.tensor(values, dtype=torch.int64)


class NumberField(Field):
    """Numbers, float32: [B] of one column, [B, N] of N columns.

    Args:
        name: of the field.
        columns: what it reads; each holds a number, or text that is one.
    """

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self.name = name
        self.columns = tuple(columns)

    def read(self, row: Row) -> tuple[float, ...]:
        """Read the numbers."""
        return tuple(_to_number(_plain(row.read(column))) for column in self.columns)

    def collate(self, values: Sequence[tuple[float, ...]]) -> Tensor:
        """Give float32 [B] or [B, N]."""
        numbers = torch.tensor(values, dtype=torch.float32)
        return numbers[:, 0] if len(self.columns) == 1 else numbers


class ArrayField(Field):
    """Arrays of one shape, such as what a teacher once gave for each row, [B, *shape].

    Args:
        name: of the field.
        column: what it reads: an array, or several by name.
        shape: of one row's; a row whose array has another cannot be used.
        key: which array, where the column holds several.
        dtype: of the batch's tensor.
    """

    def __init__(
        self,
        name: str,
        column: str,
        shape: Sequence[int],
        key: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name = name
        self.columns = (column,)
        self._shape = tuple(shape)
        self._key = key
        self._dtype = dtype

    def read(self, row: Row) -> Tensor:
        """Read the array."""
        value = row.read(self.columns[0])
        if self._key is not None:
            if not isinstance(value, Mapping) or self._key not in value:
                raise DataError(f"column {self.columns[0]!r} holds no array {self._key!r}")
            value = value[self._key]
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise DataError(f"column {self.columns[0]!r} holds {array.dtype} and not numbers")
        if array.shape != self._shape:
            raise DataError(f"column {self.columns[0]!r} holds an array {array.shape}, not {self._shape}")
        if not np.isfinite(array).all():
            raise DataError(f"column {self.columns[0]!r} holds numbers that are not finite")
        # A copy: what a source gives may be memory that it uses again, or that nobody may write.
        return torch.tensor(array, dtype=self._dtype)

    def collate(self, values: Sequence[Tensor]) -> Tensor:
        """Give [B, *shape]."""
        return torch.stack(list(values))


def _plain(value: object) -> object:
    """Return text for bytes: members of shards that are neither image nor text come as they are."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise DataError("value is not valid text") from None


def _to_number(value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str | np.number) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{_shown(value)} is no number")
    return number


def _shown(value: object) -> str:
    return printable(repr(value)[:80])
