"""What upstream's data functions hand out: a loader, with what must hear of a new epoch. It loads nothing."""

from dataclasses import dataclass
from typing import Any

from torch.utils.data.distributed import DistributedSampler

from training.data.upstream.shard_order import SharedEpoch


@dataclass
class DataInfo:
    """A loader of (images, texts) batches.

    Attributes:
        dataloader: iterable; has ``num_batches`` and ``num_samples``.
        sampler: shares rows out among processes, where rows are shared.
        shared_epoch: tells worker processes the epoch, where shards are streamed.
    """

    dataloader: Any
    sampler: Any = None
    shared_epoch: SharedEpoch | None = None

    def set_epoch(self, epoch: int) -> None:
        """Shuffle the next pass as the one of this epoch."""
        if self.shared_epoch is not None:
            self.shared_epoch.set_value(epoch)
        if isinstance(self.sampler, DistributedSampler):
            self.sampler.set_epoch(epoch)
