"""A batch on its way from a worker process: small tensors as plain bytes, images by their place in shared memory.

Torch would open, map and pass a file of shared memory for every tensor of every batch.
"""

import itertools
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.batch import Batch
from training.data.buffers import SharedBuffers
from training.data.walk import rebuild

# Larger tensors go by torch's file of shared memory: from here on two copies through a pipe cost more than that.
_MAX_BYTES: Final = 1 << 20

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
        self._packed = _pack(batch if self._place is None else batch._replace(images=torch.empty(0)))

    def open(self) -> Batch:
        """Return the batch; once only."""
        batch = _unpack(self._packed)
        assert isinstance(batch, Batch)
        if self._place is None:
            return batch
        number, place = self._place
        return batch._replace(images=_known[number].lend(place, self._num_rows))

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory; the data loader's own thread calls this."""
        return self.open().pin_memory()


class _Packed:
    """A small tensor as an array, which pickles as bytes."""

    def __init__(self, array: npt.NDArray[np.generic]) -> None:
        self.array = array


def _pack(part: object) -> object:
    if not isinstance(part, Tensor):
        return rebuild(part, _pack)
    if part.nbytes > _MAX_BYTES:
        return part
    try:
        return _Packed(part.numpy())
    except TypeError:
        # NumPy lacks the type: bfloat16.
        return part


def _unpack(part: object) -> object:
    if isinstance(part, _Packed):
        return torch.from_numpy(np.require(part.array, requirements="W"))
    return rebuild(part, _unpack)
