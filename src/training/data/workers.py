"""Batches from worker processes that outlive an epoch, keep private random state and fail in words one can read.

Torch's data loader starts and watches the processes; images come by memory that they share with this one. Knows no
order: it is told which rows to read.

Processes, not threads: on two cores, from shards and from files, one or two threads took 0.95 to 2.1 ms of processor
time a sample and as many processes 1.0 to 2.2, their start included, in times about as long: no figure decides. What is
expected to, though it was not measured, is a step that runs beside: it shares one interpreter with threads.
"""

import gc
import multiprocessing
import signal
from collections.abc import Iterator
from typing import Any, Final, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from open_clip.errors import DataError, first_line
from training.data.batch import Batch
from training.data.buffers import Buffers, Shape, SharedBuffers
from training.data.dataset import Request, RowDataset, Starved
from training.data.orphans import EndsWithParent
from training.data.parcels import Parcel, Slot, register

_PREFETCH: Final = 2
# The batch in use, the one before it that is still referred to, and one that is moved to a device ahead of time.
_HELD: Final = 3
_MAIN_ONLY_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_Ask = tuple[int | None, list[Request]]


class Requests(Protocol):
    """Which rows each batch of an iteration is made of, ``batch_size`` at most."""

    batch_size: int

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[list[Request]]: ...


class BatchWorkers:
    """Reads the batches that are asked for: in this process with no workers, or else in as many processes."""

    def __init__(self, dataset: RowDataset, requests: Requests, workers: int, pin_memory: bool) -> None:
        self._dataset = dataset
        self._requests = requests
        self._workers = workers
        self._pin_memory = pin_memory
        self._buffers: Buffers | None = None
        self._loader: DataLoader[Any] | None = None

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._read_here() if self._workers == 0 else self._read_in_workers():
            if isinstance(batch, Starved):
                raise DataError(batch.message)
            yield batch

    def close(self) -> None:
        """Stop the worker processes."""
        loader, self._loader = self._loader, None
        # Left to the garbage collector they would live on as long as anything holds the loader, past the end of the
        # run: they ignore the signal by which an ending program stops its children.
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()

    def _read_here(self) -> Iterator[Batch | Starved]:
        shapes = self._shapes()
        if self._buffers is None and shapes:
            self._buffers = Buffers(shapes)
        for requests in self._requests:
            batch = self._dataset.read_batch(requests, None if self._buffers is None else self._buffers.lend())
            yield batch.pin_memory() if self._pin_memory and isinstance(batch, Batch) else batch

    def _read_in_workers(self) -> Iterator[Batch | Starved]:
        if self._loader is None:
            self._loader = self._make()
        try:
            for parcel in self._loader:
                yield parcel.open() if isinstance(parcel, Parcel) else parcel
        except RuntimeError as error:
            if isinstance(error, DataError) or "DataLoader worker" not in first_line(error):
                raise
            self.close()
            raise DataError(_worker_died(error)) from error

    def _shapes(self) -> list[Shape]:
        """Return the shapes of what fields write of a full batch; none where they write nothing."""
        return [(self._requests.batch_size, *shape) for shape in self._dataset.shapes]

    def _make(self) -> DataLoader[Any]:
        shapes = self._shapes()
        # Processes that are not forked have no part in this one's memory.
        is_shared = bool(shapes) and multiprocessing.get_start_method() == "fork"
        buffers = SharedBuffers(shapes, _PREFETCH * self._workers + _HELD) if is_shared else None
        return DataLoader(
            _Reader(self._dataset, buffers),
            batch_sampler=_Asks(self._requests, buffers),
            num_workers=self._workers,
            collate_fn=_as_it_is,
            pin_memory=self._pin_memory,
            worker_init_fn=EndsWithParent(_start_worker),
            # Starting an epoch draws a number: from a generator of its own, or a resumed run would differ.
            generator=torch.Generator(),
            persistent_workers=True,
            prefetch_factor=_PREFETCH,
        )


class _Asks(Sampler[Any]):
    """The requests, each with a place for what is written of it where one is free."""

    def __init__(self, requests: Requests, buffers: SharedBuffers | None) -> None:
        self._requests = requests
        self._buffers = buffers

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Any]:
        # The loader asks for the first batch when its workers have answered all requests of an epoch left early.
        if self._buffers is not None:
            self._buffers.forget_asked()
        for requests in self._requests:
            yield None if self._buffers is None else self._buffers.ask(), requests


class _Reader(Dataset[Any]):
    """What a worker does: all rows of a request at once."""

    def __init__(self, dataset: RowDataset, buffers: SharedBuffers | None) -> None:
        self._dataset = dataset
        self._buffers = buffers
        self._number = None if buffers is None else register(buffers)

    def __getitems__(self, ask: _Ask) -> Parcel | Starved:
        place, requests = ask
        if place is None or self._buffers is None or self._number is None:
            batch = self._dataset.read_batch(requests)
            return Parcel(batch, None) if isinstance(batch, Batch) else batch
        batch = self._dataset.read_batch(requests, self._buffers.to_fill(place))
        return Parcel(batch, Slot(self._number, place)) if isinstance(batch, Batch) else batch


def _as_it_is(batch: object) -> object:
    return batch


def _start_worker(worker_id: int) -> None:
    """Ignore what asks the run to stop: the main process needs its workers until it has saved, then ends them.

    The garbage collector leaves alone what was there before the fork: marking it would copy every page it stands on.
    """
    for number in _MAIN_ONLY_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()


def _worker_died(error: BaseException) -> str:
    return (
        f"A data worker process died: {first_line(error)}.\n"
        "It was killed from outside or ran out of memory, or /dev/shm is full. "
        "Use fewer --workers (0 reads in the main process) or give the container more shared memory."
    )
