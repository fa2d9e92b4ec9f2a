"""When a run saves, and what a failed save means; how a checkpoint is made is `checkpoint`'s."""

import logging
from pathlib import Path

from open_clip.errors import CheckpointError
from training.build import Parts, Place
from training.checkpoint import Keeper, Trained, collect
from training.journal import Journal
from training.loop import Progress
from training.params import RunParams
from training.resume import order_of

_LOG = logging.getLogger(__name__)


class Saver:
    """Saves a run's state where that is due; every process calls it, the master writes."""

    def __init__(
        self,
        params: RunParams,
        place: Place,
        parts: Parts,
        progress: Progress,
        journal: Journal,
        resumed_from: Path | None,
    ) -> None:
        self._params = params
        self._place = place
        self._parts = parts
        self._progress = progress
        self._journal = journal
        self._resumed_from = resumed_from
        self._keeper = self._make_keeper()

    def save_epoch(self, in_any_case: bool) -> None:
        """Save at the end of an epoch, where the flags say so or in any case.

        Raises:
            CheckpointError: When a save that the run cannot do without failed.
        """
        params, epoch = self._params.checkpoint, self._progress.epoch
        is_last = epoch == self._params.schedule.epochs
        keep = is_last or in_any_case or (params.save_frequency > 0 and epoch % params.save_frequency == 0)
        if keep or params.save_most_recent:
            self._save(is_needed=is_last or in_any_case, epoch_end=True, keep=keep)

    def save_step(self, is_needed: bool) -> None:
        """Save inside an epoch.

        Raises:
            CheckpointError: When a save that the run cannot do without failed.
        """
        self._save(is_needed=is_needed, epoch_end=False)

    @property
    def newest(self) -> Path | None:
        """The last checkpoint known to be good, or None."""
        if self._keeper is None:
            return None
        return self._keeper.newest or self._resumed_from

    def _save(self, *, is_needed: bool, epoch_end: bool, keep: bool = True) -> None:
        """Save on the master; a full disk in mid-run is reported and training goes on."""
        parts, place = self._parts, self._place
        if place.folder.root is None:
            return
        assert parts.optimizer is not None
        trained = Trained(parts.task.model, parts.optimizer, parts.mixed, place.device, place.world)
        order = order_of(self._params, parts, place.world)
        payload = collect(trained, self._progress.state_dict(), order, place.folder.name)
        if self._keeper is None:
            return
        try:
            saved = self._keeper.save_epoch(payload, keep=keep) if epoch_end else self._keeper.save_step(payload)
        except CheckpointError as error:
            if is_needed:
                raise
            _LOG.error("%s Training goes on; free space before the next save.", error)
            self._journal.event("save_failed", reason=str(error))
            return
        self._journal.event("checkpoint", path=str(saved.path), seconds=round(saved.seconds, 3))

    def _make_keeper(self) -> Keeper | None:
        folder, params = self._place.folder.checkpoints, self._params.checkpoint
        if folder is None or not self._place.world.is_master or self._parts.train_loader is None:
            return None
        return Keeper(
            folder, save_most_recent=params.save_most_recent, delete_previous=params.delete_previous_checkpoint
        )
