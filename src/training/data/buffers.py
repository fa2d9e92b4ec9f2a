"""Memory for the images of whole batches, used again as soon as nothing holds the batch any more.

Fresh memory for every batch costs more than filling it: the system hands it out page by page, on both sides of a pipe.
Nothing here reads images or knows what a batch is.
"""

import mmap
from typing import Final

import numpy as np
from torch import Tensor

from open_clip.transform.host_memory import Recycler, lend

Shape = tuple[int, ...]
_NUM_KEPT: Final = 4


class Buffers:
    """Places for batches within one process, as many as are held at once.

    Args:
        shape: of the images of a full batch, uint8 [B, 3, H, W].
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._memory = Recycler(_NUM_KEPT)

    def lend(self) -> Tensor:
        """Return a place, whatever it holds; it is free again when the last tensor or array that shares it is gone."""
        return self._memory.empty(self._shape, np.uint8)


class SharedBuffers:
    """Places for batches that forked worker processes write and this process reads, without a copy between.

    A place is free, asked for, or lent. This process hands out all places; a worker only ever writes the one it was
    told. Anonymous memory: it takes nothing of /dev/shm.

    Args:
        shape: of the images of a full batch, uint8 [B, 3, H, W].
        count: number of places; memory that was never written takes none.
    """

    def __init__(self, shape: Shape, count: int) -> None:
        self._shape = shape
        self._num_bytes = int(np.prod(shape))
        self._memory = mmap.mmap(-1, count * self._num_bytes)
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

    def to_fill(self, place: int, num_rows: int) -> Tensor:
        """Return the first rows of a place, for a worker to write."""
        return lend(self._memory, (num_rows, *self._shape[1:]), np.uint8, place * self._num_bytes)

    def lend(self, place: int, num_rows: int) -> Tensor:
        """Return what a worker wrote; the place is free when the last tensor or array that shares it is gone."""
        self._asked.discard(place)
        free = self._free
        shape, offset = (num_rows, *self._shape[1:]), place * self._num_bytes
        return lend(self._memory, shape, np.uint8, offset, lambda: free.append(place))
