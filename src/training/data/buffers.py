"""Memory for what fields write of whole batches, used again as soon as nothing holds the batch any more.

Fresh memory for every batch costs more than filling it: the system hands it out page by page, on both sides of a pipe.
Nothing here reads images or knows what a batch is.
"""

import math
import mmap
from collections.abc import Sequence
from typing import Final

import numpy as np
from torch import Tensor

from open_clip.transform.host_memory import Recycler, lend

Shape = tuple[int, ...]
_NUM_KEPT: Final = 4
# Parts begin where a line of the processor's cache does.
_ALIGNMENT: Final = 64


class Buffers:
    """Places for batches within one process, as many as are held at once.

    Args:
        shapes: of the parts of a full batch, uint8 [B, ...].
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = shapes
        self._memory = Recycler(_NUM_KEPT)

    def lend(self) -> list[Tensor]:
        """Return a place, whatever it holds; it is free again when the last tensor or array that shares it is gone."""
        return _cut(self._memory.empty((_count_bytes(self._shapes),), np.uint8), self._shapes)


class SharedBuffers:
    """Places for batches that forked worker processes write and this process reads, without a copy between.

    A place is free, asked for, or lent. This process hands out all places; a worker only ever writes the one it was
    told. Anonymous memory: it takes nothing of /dev/shm.

    Args:
        shapes: of the parts of a full batch, uint8 [B, ...].
        count: of places; memory that was never written takes none.
    """

    def __init__(self, shapes: Sequence[Shape], count: int) -> None:
        self._shapes = shapes
        self._num_bytes = _count_bytes(shapes)
        self._memory = mmap.mmap(-1, count * self._num_bytes)
        self._start = lend(self._memory, (1,), np.uint8).data_ptr()
        # The last one freed is asked for first: places that are never needed stay unwritten.
        self._free = list(range(count))
        self._asked: set[int] = set()

    def ask(self) -> int | None:
        """Choose a place for a worker to fill; None when all are in use."""
        if not self._free:
            return None
        place = self._free.pop()
        self._asked.add(place)
        return place

    def forget_asked(self) -> None:
        """Free the places that were asked for and will not come; no worker may be writing them any more."""
        self._free.extend(self._asked)
        self._asked.clear()

    def to_fill(self, place: int) -> list[Tensor]:
        """Return the parts of a place, for a worker to write."""
        return _cut(lend(self._memory, (self._num_bytes,), np.uint8, place * self._num_bytes), self._shapes)

    def offset_of(self, tensor: Tensor, place: int) -> int | None:
        """Tell where in a place the bytes of a tensor stand; None where they stand elsewhere."""
        offset = tensor.data_ptr() - self._start - place * self._num_bytes
        return offset if 0 <= offset < self._num_bytes and tensor.is_contiguous() else None

    def lend(self, place: int) -> Tensor:
        """Return what a worker wrote, byte by byte; free when the last tensor or array that shares it is gone."""
        self._asked.discard(place)
        free, num_bytes = self._free, self._num_bytes
        return lend(self._memory, (num_bytes,), np.uint8, place * num_bytes, lambda: free.append(place))


def view_bytes(memory: Tensor, offset: int, shape: Shape) -> Tensor:
    """Return a part of uint8 memory as a tensor of some shape that shares it."""
    return memory[offset : offset + math.prod(shape)].view(shape)


def _count_bytes(shapes: Sequence[Shape]) -> int:
    return sum(_round_up(math.prod(shape)) for shape in shapes)


def _cut(memory: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    parts, offset = [], 0
    for shape in shapes:
        parts.append(view_bytes(memory, offset, shape))
        offset += _round_up(math.prod(shape))
    return parts


def _round_up(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
