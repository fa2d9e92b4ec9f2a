"""The batches of each step on the device, with an account of the rows that could not be used."""

import itertools
from collections.abc import Callable, Iterator

from training.data import Batch, Quarantine, TrainLoader
from training.loop.prefetch import Prefetcher


class Feed:
    """Brings batches from a loader to the loop.

    Args:
        loader: This process's batches.
        prefetch: Copies the batches of a step ahead of its turn.
        receive: Brings a batch to the device and lists its unusable rows, at its turn.
        quarantine: Counts unusable rows; None where they are not counted.
    """

    def __init__(
        self,
        loader: TrainLoader,
        prefetch: Prefetcher,
        receive: Callable[[Batch], Batch],
        quarantine: Quarantine | None = None,
    ) -> None:
        self._loader = loader
        self._prefetch = prefetch
        self._receive = receive
        self._quarantine = quarantine

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        return self._loader.num_batches

    def steps(self, epoch: int, start_batch: int, batches_a_step: int) -> Iterator[list[Batch]]:
        """Yield the batches of each step of an epoch, from a batch on."""
        for batches in self._prefetch(self._groups(epoch, start_batch, batches_a_step)):
            yield [self._receive(batch) for batch in batches]

    def start_counting(self) -> None:
        """Count unusable rows anew: an epoch begins, or the run went back."""
        if self._quarantine is not None:
            self._quarantine.start_counting()

    @property
    def num_bad_rows(self) -> int:
        """Unusable rows that this process met since the count began."""
        return 0 if self._quarantine is None else self._quarantine.num_met

    def check_bad_rows(self, count: int) -> None:
        """Hold the unusable rows that all processes met against the budget.

        Raises:
            DataError: They are too many.
        """
        if self._quarantine is not None:
            self._quarantine.check(count)

    def _groups(self, epoch: int, start_batch: int, batches_a_step: int) -> Iterator[list[Batch]]:
        batches = iter(self._loader.epoch(epoch, start_batch))
        # The last step of an epoch takes what is left: no batch is thrown away.
        while group := list(itertools.islice(batches, batches_a_step)):
            yield group
