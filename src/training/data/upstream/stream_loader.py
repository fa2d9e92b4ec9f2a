"""Training batches from streamed shards in upstream's buffer-shuffled order, in the place of a loader by position.

The order depends on the number of processes and workers, as upstream's does. Going on inside an epoch therefore means
reading again what came before.
"""

import logging
from argparse import Namespace
from collections.abc import Iterator

from open_clip.errors import DataError
from training.data.batch import Batch
from training.data.fields import Tokenizer
from training.data.fingerprint import digest_names
from training.data.images import Transform
from training.data.loader import TrainLoader
from training.data.texts import TextPlanner, make_texts
from training.data.upstream.streaming import get_wds_dataset
from training.data.urls import expand_urls

_LOG = logging.getLogger(__name__)


class StreamLoader(TrainLoader):
    """Full batches of one rank from `streaming.get_wds_dataset`.

    Args:
        args: what ``get_wds_dataset`` reads; ``rank`` and ``world_size`` among them.
        plan_texts: from a batch's token ids to texts with a layout; None to leave open how they are computed.
    """

    def __init__(
        self,
        args: Namespace,
        transform: Transform,
        tokenizer: Tokenizer,
        plan_texts: TextPlanner | None = None,
    ) -> None:
        info = get_wds_dataset(args, transform, is_train=True, tokenizer=tokenizer)
        self._info = info
        self._tokenizer = tokenizer
        self._plan_texts = plan_texts
        self.num_batches = info.dataloader.num_batches
        self.num_samples = info.dataloader.num_samples
        shards = expand_urls(args.train_data)[0]
        self.contents = f"shards {len(shards)}, names {digest_names(shards)}"
        self.arrangement = f"streamed by {args.world_size} processes with {args.workers} workers each"

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from ``start_batch`` on; those before it are read and dropped."""
        self._info.set_epoch(epoch)
        if start_batch:
            _LOG.info("reading the first %d batches of epoch %d again", start_batch, epoch)
        try:
            for number, (images, texts) in enumerate(self._info.dataloader):
                if number >= start_batch:
                    yield Batch(images, make_texts(texts, self._tokenizer, self._plan_texts))
        except DataError as error:
            # Torch hands a worker's error on with its traceback as the text; the last lines are ours.
            raise DataError(str(error).rpartition("DataError: ")[2]) from error

    def close(self) -> None:
        """Do nothing: the workers end with the loader."""
