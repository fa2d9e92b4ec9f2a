"""Which rows of shards show the same image, by its bytes: a sample has one caption, so five captions are five samples.

It decodes nothing. Ends of files are compared first, so that a set without repetitions is not read as a whole.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from open_clip.errors import DataError
from open_clip.files import open_plain
from training.data.decode import MAX_FILE_BYTES
from training.data.order import IntArray
from training.data.shards.index import ShardIndex

Digests = npt.NDArray[np.uint64]
Gather = Callable[[Any], list[Any]]
_TAIL_BYTES: Final = 1024


def digest_ends(index: ShardIndex) -> Digests:
    """Digest size and end of each image of a shard, uint64 [n]; images of other digests are other images.

    Raises:
        OSError: the shard cannot be read.
    """
    return _digest(index, np.arange(len(index)), is_whole=False)


def number_images(
    counts: IntArray,
    ends: Sequence[Digests],
    own: Sequence[int],
    open_shard_index: Callable[[int], ShardIndex],
    gather: Gather,
) -> IntArray:
    """Return the number of each row's image, int64 [N]: the first row that shows it. Every process must call it.

    Args:
        counts: samples of each shard.
        ends: what `digest_ends` gave for each shard.
        own: the shards whose images this process reads where they may come again.
        open_shard_index: opens the index of a shard.
        gather: gives every process the list of all processes' values.
    """
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    ids = np.arange(starts[-1])
    _, inverse, times = np.unique(np.concatenate(ends), return_inverse=True, return_counts=True)
    is_candidate = times[inverse.reshape(-1)] > 1
    found: dict[int, tuple[IntArray, Digests]] = {}
    for shard in own:
        rows = np.flatnonzero(is_candidate[starts[shard] : starts[shard + 1]])
        # A shard that broke since it was counted keeps its rows apart; reading them will say why.
        try:
            index = open_shard_index(shard) if len(rows) else None
            if index is not None and len(index) == counts[shard]:
                found[shard] = rows + starts[shard], _digest(index, rows, is_whole=True)
        except (DataError, OSError):
            continue
    parts = [part for of_process in gather(found) for _, part in sorted(of_process.items())]
    if not parts:
        return ids
    rows = np.concatenate([rows for rows, _ in parts])
    digests = np.concatenate([digests for _, digests in parts])[np.argsort(rows)]
    rows.sort()
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    ids[rows] = rows[first[inverse.reshape(-1)]]
    return ids


def _digest(index: ShardIndex, rows: IntArray, *, is_whole: bool) -> Digests:
    digests = np.empty(len(rows), dtype=np.uint64)
    with open_plain(index.path) as file:
        for row, (offset, size) in enumerate(index.spans[rows, :2].tolist()):
            # What no reader takes whole is told apart by its end.
            taken = size if is_whole and size <= MAX_FILE_BYTES else min(size, _TAIL_BYTES)
            content = os.pread(file.fileno(), taken, offset + size - taken)
            digest = hashlib.blake2b(content, digest_size=8, salt=size.to_bytes(8, "little")).digest()
            digests[row] = int.from_bytes(digest, "little")
    return digests
