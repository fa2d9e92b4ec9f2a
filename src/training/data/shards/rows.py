"""The samples of many shards as rows: read by position, a few shards' indexes in memory at a time.

The order of an epoch is `order.py`'s; finding the shards is `open.py`'s.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import basename
from typing import Final

import numpy as np

from open_clip.errors import DataError, printable
from training.data.decode import MAX_FILE_BYTES, ImageBytes
from training.data.fingerprint import digest_names, short_digest
from training.data.order import IntArray, SampleOrder
from training.data.quarantine import Fault
from training.data.shards.held import HeldShard
from training.data.shards.index import ShardIndex
from training.data.shards.index_file import open_index
from training.data.shards.order import DEFAULT_WINDOW, ShardOrder
from training.data.shards.selector import Selector
from training.data.source import IMAGE, TEXT

# Samples of which a process keeps where their members stand, about 60 bytes each: several windows of the usual length,
# whatever the size of the shards. A shard that was let go costs milliseconds to open again. Files that are open at once
# have a limit too.
_SAMPLES_HELD: Final = 400_000
_SHARDS_HELD: Final = 256


@dataclass(frozen=True)
class Visit:
    """How an epoch goes over the shards.

    Attributes:
        num_samples: samples of an epoch; all when None.
        window: samples shuffled among each other, at least.
        weights: how often each shard is drawn, with replacement; None visits each once.
    """

    num_samples: int | None = None
    window: int = DEFAULT_WINDOW
    weights: Sequence[float] | None = None


class ShardTable:
    """Rows of tar shards: a `Source`.

    Args: as `open_shards`, and what that found out.
        counts: int64 [S], usable samples of each shard.
        faults: samples known to be unusable.
        image_ids: int64 [N], the first row that shows each row's image; each its own when None.
        shard_bytes: size of each shard's file, where all are known.
        locate: from a shard's name to a file on this machine.
        fetch_ahead: told which shards come next.
    """

    def __init__(
        self,
        source: str,
        shards: Sequence[str],
        counts: IntArray,
        selector: Selector,
        visit: Visit,
        *,
        index_dir: str | None = None,
        faults: Sequence[Fault] = (),
        image_ids: IntArray | None = None,
        shard_bytes: Sequence[int] = (),
        locate: Callable[[str], str] = str,
        fetch_ahead: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self.source = source
        self.columns = selector.columns
        self.faults = tuple(faults)
        self.shards = tuple(shards)
        self.arrangement = _arrangement(counts, visit)
        self.contents = _contents(shards, counts, shard_bytes, selector)
        self._counts = counts
        self._stops = np.cumsum(counts).tolist()
        self._selector = selector
        self._member_of = {name: number for number, name in enumerate(selector.columns)}
        self._visit = visit
        self._index_dir = index_dir
        self._image_ids = image_ids
        self._locate = locate
        self._fetch_ahead = fetch_ahead
        self._held: OrderedDict[int, HeldShard] = OrderedDict()
        self._num_held = 0

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    @property
    def num_images(self) -> int:
        """Number of images; in training each sample is taken to have its own."""
        if IMAGE not in self.columns:
            return 0
        return len(self) if self._image_ids is None else len(np.unique(self._image_ids))

    @property
    def num_rows_read(self) -> int:
        """Number of samples found, refused ones included."""
        return len(self) + len(self.faults)

    def epoch_order(self, seed: int, epoch: int) -> ShardOrder:
        """Return which samples an epoch visits."""
        visit = self._visit
        return ShardOrder(
            self._counts, seed, epoch, num_samples=visit.num_samples, window=visit.window, weights=visit.weights
        )

    def announce(self, order: SampleOrder, position: int) -> None:
        """Have the shards of the next window fetched while this one is read."""
        if self._fetch_ahead is not None and isinstance(order, ShardOrder):
            self._fetch_ahead([self.shards[shard] for shard in order.shards_after(position)])

    def read(self, column: str, index: int, seed: int = 0) -> object:
        """Read a sample's image, its caption, or a further column: of several texts the one that the seed draws.

        Raises:
            DataError: it cannot be used.
        """
        member = self._member_of[column]
        shard, number = self._find(index)
        offset, size = shard.span(number, member)
        selector = self._selector
        if member >= selector.num_plain:
            further = member - selector.num_plain
            return selector.further[further].read(shard.way(number, further), shard.bytes_at(offset, size), seed)
        if column == IMAGE:
            # What is over the limit is not even read: the header of a broken tar may claim any size.
            content = shard.bytes_at(offset, size) if size <= MAX_FILE_BYTES else b""
            return ImageBytes(content, size)
        return selector.caption(shard.bytes_at(offset, size), seed)

    def image_path(self, index: int) -> str:
        """Return a sample's place as shard/key."""
        name, number = self._name(index)
        return printable(f"{name}/{self._sample_key(index, number)}")

    def image_id(self, index: int) -> int:
        """Return the number of a sample's image: the first row known to show it."""
        return index if self._image_ids is None else int(self._image_ids[index])

    def key(self, index: int) -> str:
        """Return the identity of a sample, ``shard:key``."""
        name, number = self._name(index)
        return f"{basename(name)}:{self._sample_key(index, number)}"

    def fault(self, index: int, reason: str) -> Fault:
        """Describe why a sample cannot be used: shard, number in it, key, reason."""
        name, number = self._name(index)
        held = self._index_of(index)
        row = int(held.rows[number]) if held is not None and number < len(held) else number
        return Fault(name, row, printable(self._sample_key(index, number)), reason)

    def _sample_key(self, index: int, number: int) -> str:
        """Return a sample's key; its number where the shard does not hold it any more."""
        held = self._index_of(index)
        return held.keys[number] if held is not None and number < len(held) else f"#{number}"

    def _index_of(self, index: int) -> ShardIndex | None:
        """Return the index of a sample's shard; None where it cannot be opened any more."""
        try:
            return self._find(index)[0].index
        except DataError:
            return None

    def _name(self, index: int) -> tuple[str, int]:
        shard, number = self._place(index)
        return self.shards[shard], number

    def _place(self, index: int) -> tuple[int, int]:
        """Return the number of a sample's shard and the sample's number in it."""
        shard = bisect_right(self._stops, index)
        return shard, index - (self._stops[shard] - int(self._counts[shard]))

    def _find(self, index: int) -> tuple[HeldShard, int]:
        shard, number = self._place(index)
        found = self._held.get(shard)
        if found is None:
            path = self._locate(self.shards[shard])
            found = self._held[shard] = HeldShard(open_index(path, self._selector, self._index_dir))
            self._num_held += len(found.index)
            while len(self._held) > 1 and (self._num_held > _SAMPLES_HELD or len(self._held) > _SHARDS_HELD):
                self._let_go()
        else:
            self._held.move_to_end(shard)
        return found, number

    def _let_go(self) -> None:
        """Close the shard that was not read for the longest time."""
        shard = self._held.popitem(last=False)[1]
        self._num_held -= len(shard.index)
        shard.close()

    def __getstate__(self) -> dict[str, object]:
        # A process that is not forked from this one has none of its open files.
        return self.__dict__ | {"_held": OrderedDict(), "_num_held": 0}


def _arrangement(counts: IntArray, visit: Visit) -> str:
    """Describe in a few characters what the order depends on: sizes of the shards, window, weights."""
    digest = short_digest([counts, repr((visit.window, visit.weights and list(visit.weights))).encode()])
    return f"{len(counts)} shards, window {visit.window}, {digest}"


def _contents(shards: Sequence[str], counts: IntArray, shard_bytes: Sequence[int], selector: Selector) -> str:
    """Describe in a few characters what the shards hold, wherever they lie."""
    parts = [f"rows {counts.sum()}", f"shards {len(shards)}", f"names {digest_names(shards)}"]
    parts.append(f"counts {short_digest([counts])}")
    if shard_bytes:
        parts.append(f"bytes {short_digest([np.array(shard_bytes, np.int64)])}")
    # Data of images and captions alone keeps the words that older checkpoints hold.
    if selector.columns != (IMAGE, TEXT) or selector.further:
        found = [f"{column.name}={';'.join(map(str, column.ways))}" for column in selector.further]
        parts.append(f"columns {short_digest([repr((selector.columns, found)).encode()])}")
    return ", ".join(parts)
