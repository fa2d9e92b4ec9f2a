"""A batch on its way from a worker process: small tensors as plain bytes, images by their place in shared memory.

Torch would open, map and pass a file of shared memory for every tensor of every batch.
"""

import itertools
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.batch import Batch
from training.data.buffers import SharedBuffers, view_bytes
from training.data.walk import rebuild

# Larger tensors go by torch's file of shared memory: from here on two copies through a pipe cost more than that.
_MAX_BYTES: Final = 1 << 20

_numbers = itertools.count()
_known: "WeakValueDictionary[int, SharedBuffers]" = WeakValueDictionary()


class Slot(NamedTuple):
    """One of the places of shared buffers; these are named by the number that `register` gave them."""

    buffers: int
    number: int


def register(buffers: SharedBuffers) -> int:
    """Give buffers a number by which parcels name them, for as long as they are held elsewhere."""
    number = next(_numbers)
    _known[number] = buffers
    return number


class Parcel:
    """A packed batch; ``place`` is where some of its tensors may stand, None where there is no shared memory."""

    def __init__(self, batch: Batch, place: Slot | None) -> None:
        self._place = place
        self._packed = _pack(batch, place)

    def open(self) -> Batch:
        """Return the batch; once only."""
        # A place that no tensor stands in is free again at the end of this call.
        memory = None if self._place is None else _known[self._place.buffers].lend(self._place.number)
        batch = _unpack(self._packed, memory)
        assert isinstance(batch, Batch)
        return batch

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory; the data loader's own thread calls this."""
        return self.open().pin_memory()


class _Packed:
    """A small tensor as an array, which pickles as bytes."""

    def __init__(self, array: npt.NDArray[np.generic]) -> None:
        self.array = array


class _Placed:
    """A tensor that stands in the parcel's place, so that none of its bytes travel."""

    def __init__(self, offset: int, shape: tuple[int, ...]) -> None:
        self.offset = offset
        self.shape = shape


def _pack(part: object, place: Slot | None) -> object:
    if not isinstance(part, Tensor):
        return rebuild(part, lambda one: _pack(one, place))
    if place is not None and part.dtype is torch.uint8 and part.numel():
        offset = _known[place.buffers].offset_of(part, place.number)
        if offset is not None:
            return _Placed(offset, tuple(part.shape))
    if part.nbytes > _MAX_BYTES:
        return part
    try:
        return _Packed(part.numpy())
    except TypeError:
        # NumPy lacks the type: bfloat16.
        return part


def _unpack(part: object, memory: Tensor | None) -> object:
    if isinstance(part, _Packed):
        return torch.from_numpy(np.require(part.array, requirements="W"))
    if isinstance(part, _Placed):
        assert memory is not None
        return view_bytes(memory, part.offset, part.shape)
    return rebuild(part, lambda one: _unpack(one, memory))
