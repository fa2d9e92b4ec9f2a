"""A batch on its way from a worker process: small parts as plain bytes, images by their place in shared memory.

Torch would open, map and pass a file of shared memory for every tensor of every batch.
"""

import itertools
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.batch import Batch
from training.data.buffers import SharedBuffers

_numbers = itertools.count()
_known: "WeakValueDictionary[int, SharedBuffers]" = WeakValueDictionary()


def register(buffers: SharedBuffers) -> int:
    """Give buffers a number by which parcels name them, for as long as they are held elsewhere."""
    number = next(_numbers)
    _known[number] = buffers
    return number


class Parcel:
    """A packed batch.

    Args:
        batch: what a worker made.
        place: where in the buffers its images are: the buffers' number and the place; None where they are not there.
    """

    def __init__(self, batch: Batch, place: tuple[int, int] | None) -> None:
        self._num_rows = len(batch.images)
        self._place = place if self._num_rows else None
        images = batch.images if self._place is None else None
        self._parts = images, *(_pack(part) for part in batch[1:])

    def open(self) -> Batch:
        """Return the batch; once only."""
        images, *rest = self._parts
        if self._place is not None:
            number, place = self._place
            images = _known[number].lend(place, self._num_rows)
        return Batch(images, *(_unpack(part) for part in rest))

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory; the data loader's own thread calls this."""
        return self.open().pin_memory()


class _Packed:
    """A small tensor as an array, which pickles as bytes."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array


def _pack(part: Any) -> Any:
    if isinstance(part, Tensor):
        return _Packed(part.numpy())
    return _rebuild(part, _pack)


def _unpack(part: Any) -> Any:
    if isinstance(part, _Packed):
        return torch.from_numpy(np.require(part.array, requirements="W"))
    return _rebuild(part, _unpack)


def _rebuild(part: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a change to what a tuple holds."""
    if not isinstance(part, tuple):
        return part
    changed = [change(one) for one in part]
    return type(part)(*changed) if hasattr(part, "_fields") else tuple(changed)
