"""Upstream's orders of a stream: shards shuffled or drawn again and again, samples shuffled in a buffer.

The order of an indexed data set is `order.py`'s; nothing here opens a shard.
"""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing import Value
from typing import TypeVar

from torch.utils.data import IterableDataset, get_worker_info

from open_clip.errors import DataError
from training.data.optional import import_webdataset
from training.data.order import sample_seed
from training.data.urls import expand_urls

Item = TypeVar("Item")


class SharedEpoch:
    """An epoch number that the processes of a loader share, so that workers which outlive an epoch see it change."""

    def __init__(self, epoch: int = 0) -> None:
        self.shared_epoch = Value("i", epoch)

    def set_value(self, epoch: int) -> None:
        """Set the number in all processes."""
        self.shared_epoch.value = epoch

    def get_value(self) -> int:
        """Read the number."""
        return int(self.shared_epoch.value)


class ResampledShards2(IterableDataset[dict[str, str]]):
    """Shards drawn at random with replacement, without end.

    Args:
        urls: the shards, in any form that `expand_urls` takes.
        weights: how often a shard is drawn compared with others; in any form that `expand_urls` takes.
        nshards: draws of one pass.
        worker_seed: gives a seed for this worker, to which the epoch is added; `pytorch_worker_seed` when left out.
        deterministic: draw the same shards each time an epoch is repeated.
        epoch: the number of the epoch, or what shares it; a number goes up by one with each pass.

    Source: ResampledShards2 of open_clip_torch 3.3.0: the same seeds draw the same shards.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        weights: str | Sequence[float] | None = None,
        nshards: int = sys.maxsize,
        worker_seed: Callable[[], int] | None = None,
        deterministic: bool = False,
        epoch: int | SharedEpoch = -1,
    ) -> None:
        super().__init__()
        self.urls, self.weights = expand_urls(urls, weights)
        if not self.urls:
            raise DataError("the list of shards is empty.")
        self.nshards = nshards
        self.rng = random.Random()
        self.worker_seed = worker_seed
        self.deterministic = deterministic
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, str]]:
        epoch = self.epoch = _next_epoch(self.epoch)
        number = _number(epoch)
        if self.deterministic:
            self.rng.seed(pytorch_worker_seed(number) if self.worker_seed is None else self.worker_seed() + number)
        for _ in range(self.nshards):
            if self.weights is None:
                yield {"url": self.rng.choice(self.urls)}
            else:
                yield {"url": self.rng.choices(self.urls, weights=self.weights, k=1)[0]}


class detshuffle2:  # noqa: N801
    """A stage that shuffles a stream in a buffer, the same way on all ranks, another way each epoch.

    Args:
        bufsize: items the buffer holds.
        initial: items in it before the first leaves.
        seed: below 0, each worker has its own.
        epoch: the number of the epoch, or what shares it; a number goes up by one with each pass.

    Source: detshuffle2 of open_clip_torch 3.3.0: the same seeds give the same order.
    """

    def __init__(self, bufsize: int = 1000, initial: int = 100, seed: int = 0, epoch: int | SharedEpoch = -1) -> None:
        self.bufsize = bufsize
        self.initial = initial
        self.seed = seed
        self.epoch = epoch

    def run(self, src: Iterable[Item]) -> Iterator[Item]:
        """Shuffle one pass."""
        epoch = self.epoch = _next_epoch(self.epoch)
        number = _number(epoch)
        seed = pytorch_worker_seed(number) if self.seed < 0 else self.seed + number
        return shuffle_stream(src, self.bufsize, self.initial, random.Random(seed))

    __call__ = run


class SampleShuffle:
    """A stage that shuffles samples in a buffer; seed, epoch, rank, worker and pass decide the order.

    The peer seeds this stage from the clock; here a run that is repeated sees the same order.
    """

    def __init__(self, bufsize: int, initial: int, seed: int, epoch: SharedEpoch) -> None:
        self.bufsize = bufsize
        self.initial = initial
        self.seed = seed
        self.epoch = epoch
        self._counted = epoch.get_value()
        self._num_passes = 0

    def __call__(self, src: Iterable[Item]) -> Iterator[Item]:
        """Shuffle one pass."""
        epoch = self.epoch.get_value()
        if epoch != self._counted:
            # A run that goes on in this epoch has seen none of the passes before it.
            self._counted, self._num_passes = epoch, 0
        rank, world_size, worker, workers = import_webdataset().utils.pytorch_worker_info()
        place = (self._num_passes * world_size + rank) * workers + worker
        self._num_passes += 1
        seed = sample_seed(self.seed, epoch, place)
        return shuffle_stream(src, self.bufsize, self.initial, random.Random(seed))


def shuffle_stream(source: Iterable[Item], bufsize: int, initial: int, rng: random.Random) -> Iterator[Item]:
    """Yield items in an order as random as a buffer allows; the buffer grows while items leave it.

    Source: ``shuffle`` of webdataset 0.2.86 and 1.0: the same generator gives the same order.
    """
    items = iter(source)
    buffer: list[Item] = []
    initial = min(initial, bufsize)
    for item in items:
        buffer.append(item)
        if len(buffer) < bufsize:
            # Two come in for one that leaves until the buffer is full.
            buffer.extend(islice(items, 1))
        if len(buffer) >= initial:
            yield _draw(buffer, rng)
    while buffer:
        yield _draw(buffer, rng)


def pytorch_worker_seed(increment: int = 0) -> int:
    """Give a loader worker its seed: the loader's own for it, or from rank and worker outside one.

    Args:
        increment: an epoch; moves the seeds of all workers past those of the epoch before. Without workers it has no
            effect, as in open_clip_torch 3.3.0.
    """
    worker = get_worker_info()
    if worker is not None:
        return int(worker.seed) + increment * max(1, worker.num_workers)
    return int(import_webdataset().utils.pytorch_worker_seed())


def _draw(buffer: list[Item], rng: random.Random) -> Item:
    place = rng.randint(0, len(buffer) - 1)
    drawn = buffer[place]
    buffer[place] = buffer[-1]
    buffer.pop()
    return drawn


def _next_epoch(epoch: int | SharedEpoch) -> int | SharedEpoch:
    return epoch if isinstance(epoch, SharedEpoch) else epoch + 1


def _number(epoch: int | SharedEpoch) -> int:
    return epoch.get_value() if isinstance(epoch, SharedEpoch) else epoch
