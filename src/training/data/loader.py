"""Batches for one rank, epoch by epoch, from worker processes that never touch a device.

The order is that of `order.py`; a loader only takes its rank's slices and can start at any batch of any epoch.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from open_clip.errors import DataError, printable
from training.data.batch import Batch
from training.data.dataset import Request, RowDataset
from training.data.fields import IMAGES
from training.data.order import rank_batch, rank_slice
from training.data.quarantine import Fault
from training.data.sides import EvalSides
from training.data.source import Source
from training.data.workers import BatchWorkers, Requests


class TrainLoader:
    """Full batches of one rank.

    Attributes:
        num_batches: batches an epoch; samples beyond the last full global batch are left out, other ones each epoch.
        num_samples: rows an epoch visits before that cut.
        arrangement: what the order depends on besides the seed, the epoch and the number of rows.
        contents: what the rows hold, in a few characters that tell other data apart.
    """

    def __init__(self, requests: "_TrainRequests", batches: BatchWorkers, num_samples: int, table: Source) -> None:
        self.num_batches = len(requests)
        self.num_samples = num_samples
        self.arrangement = table.arrangement
        self.contents = table.contents
        self._requests = requests
        self._batches = batches

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from ``start_batch`` on, reading nothing that comes before it.

        The iterator may be left early; only one may be in use at a time.

        Raises:
            DataError: too many images cannot be read, or a worker process died.
        """
        self._requests.seek(epoch, start_batch)
        return iter(self._batches)

    def close(self) -> None:
        """Stop the workers; a later epoch starts new ones."""
        self._batches.close()


class EvalLoader:
    """All samples of one rank's contiguous share, in order, the last batch partial; or images and captions apart.

    Rows that cannot be read are left out and stand in ``faults`` of a batch; no batch of pairs is empty.

    Attributes:
        num_samples: rows of the whole data set.
        num_batches: batches of this rank at most.
        batch_size: samples a batch, but for the last.
        sides: what is known of images and captions apart.
    """

    def __init__(
        self,
        dataset: RowDataset,
        rows: Sequence[int],
        sides: EvalSides,
        batch_size: int,
        read: Callable[[RowDataset, Requests], BatchWorkers],
    ) -> None:
        requests = _EvalRequests(rows, batch_size)
        self.num_samples = len(dataset)
        self.num_batches = len(requests)
        self.batch_size = batch_size
        self.sides = sides
        self._dataset = dataset
        self._read = read
        self._batches = read(dataset, requests)
        self._images: BatchWorkers | None = None

    def __iter__(self) -> Iterator[Batch]:
        held: Batch | None = None
        loose: tuple[Fault, ...] = ()
        # One batch is held back: what was met after the last sound batch goes along with that one.
        for batch in self._batches:
            loose += batch.faults
            if not batch.keys:
                continue
            if held is not None:
                yield held
            held, loose = batch._replace(faults=loose), ()
        if held is not None:
            yield held._replace(faults=held.faults + loose)
        elif loose:
            raise DataError(f"None of the {len(loose)} rows to evaluate can be used. The first:\n  {loose[0]}")

    def column(self, field: str) -> str | None:
        """Return which column a field reads; None where rows have no such field."""
        found = self._dataset.fields.get(field)
        return None if found is None else found.columns[0]

    def images(self) -> Iterator[Batch]:
        """Yield each image of this rank's share once, by the first of its rows, and nothing else of that row.

        A batch may be empty but for faults.
        """
        if self._images is None:
            self._images = self._read(self._dataset.only(IMAGES), _EvalRequests(self.sides.first_rows, self.batch_size))
        return self.sides.images(self._images, self.batch_size)

    def close(self) -> None:
        """Stop the workers; a later pass starts new ones."""
        self._batches.close()
        if self._images is not None:
            self._images.close()


def make_train_loader(
    dataset: RowDataset,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
    workers: int = 0,
    pin_memory: bool = False,
) -> TrainLoader:
    """Make the loader of one rank's training batches.

    Args:
        dataset: the rows, made with ``is_train=True``.
        batch_size: samples a batch of this rank.
        seed: the same on all ranks.
        workers: worker processes of this rank; 0 reads in the main process.

    Raises:
        DataError: there are fewer samples than one global batch holds.
    """
    global_batch = batch_size * world_size
    num_samples = len(dataset.source.epoch_order(seed, 0))
    if num_samples < global_batch:
        raise DataError(
            f"{printable(dataset.source.source)} has {num_samples} usable rows an epoch, fewer than one global batch "
            f"of {global_batch} ({batch_size} x {world_size} ranks). Use a smaller --batch-size or more data."
        )
    requests = _TrainRequests(dataset.source, num_samples, seed, batch_size, rank, world_size)
    batches = BatchWorkers(dataset, requests, workers, pin_memory)
    return TrainLoader(requests, batches, num_samples, dataset.source)


def make_eval_loader(
    dataset: RowDataset,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> EvalLoader:
    """Make the loader of one rank's share of an evaluation set; arguments as in `make_train_loader`."""
    rows = range(*rank_slice(len(dataset), rank, world_size))
    read = partial(BatchWorkers, workers=workers, pin_memory=pin_memory)
    return EvalLoader(dataset, rows, EvalSides(dataset, rank, world_size), batch_size, read)


class _TrainRequests:
    """What the workers are asked for in one epoch, from any batch on."""

    def __init__(self, table: Source, num_samples: int, seed: int, batch_size: int, rank: int, world_size: int) -> None:
        self._table = table
        self._num_samples = num_samples
        self._seed = seed
        self.batch_size = batch_size
        self._global_batch = batch_size * world_size
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self._start_batch = 0

    def __len__(self) -> int:
        return self._num_samples // self._global_batch

    def seek(self, epoch: int, start_batch: int) -> None:
        """Choose what the next iteration gives."""
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"start_batch {start_batch} lies outside an epoch of {len(self)} batches")
        self._epoch, self._start_batch = epoch, start_batch

    def __iter__(self) -> Iterator[list[Request]]:
        epoch = self._epoch
        order = self._table.epoch_order(self._seed, epoch)
        for batch_index in range(self._start_batch, len(self)):
            self._table.announce(order, batch_index * self._global_batch)
            part = rank_batch(order, batch_index, self._global_batch, self._rank, self._world_size)
            yield [(epoch, index) for index in part.tolist()]


class _EvalRequests:
    """Some rows in batches."""

    def __init__(self, rows: Sequence[int], batch_size: int) -> None:
        self.batch_size = batch_size
        self._rows = rows

    def __len__(self) -> int:
        return -(-len(self._rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[Request]]:
        for first in range(0, len(self._rows), self.batch_size):
            yield [(0, index) for index in self._rows[first : first + self.batch_size]]
