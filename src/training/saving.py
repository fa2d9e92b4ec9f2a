"""When a run saves, and what a failed save means; how a checkpoint is made is `checkpoint`'s."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from open_clip.checkpoint import CONFIG_ENTRY
from open_clip.errors import CheckpointError
from open_clip.factory.description import describe_model
from training.assembly import Parts, Place
from training.checkpoint import FileStore, Keeper, RunState, Saved, SaveTimer, Store, describe_recipe
from training.distributed import is_sharded, unwrap_model
from training.journal import Journal
from training.loop import Hook, Moment, Progress, Wants
from training.params import RunParams
from training.resume import order_of, trained_of

_LOG = logging.getLogger(__name__)


class Saver(Hook):
    """Saves a run's state where that is due; every process calls it, the master writes.

    A save that the run can do without is copied to host memory and written beside the training; one that it cannot do
    without is waited for.

    Args:
        extras: Gives entries of the checkpoint beyond those of ``checkpoint.collect``.
    """

    def __init__(
        self,
        params: RunParams,
        place: Place,
        parts: Parts,
        progress: Progress,
        journal: Journal,
        resumed_from: Path | None,
        extras: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._params = params
        self._place = place
        self._parts = parts
        self._progress = progress
        self._journal = journal
        self._resumed_from = resumed_from
        self._extras = extras
        self._store = _make_store(params, place, parts)
        self._in_background = not params.checkpoint.no_save_in_background
        self._timer = SaveTimer(
            params.checkpoint.save_every_n_minutes if place.folder.root is not None else 0,
            params.report.log_metric_every_n_steps,
            place.world,
        )

    def step_done(self, step: int) -> Wants:
        """Hear of a save that ended meanwhile, and tell whether step or clock ask for one; all processes alike."""
        self._hear(wait=False)
        every = self._params.checkpoint.save_every_n_steps
        is_due = every > 0 and step % every == 0
        return Wants.SAVE if self._timer.is_due(step) or is_due else Wants.NOTHING

    def save(self, moment: Moment) -> None:
        """Save inside an epoch; at the end of one where the flags say so.

        Raises:
            CheckpointError: When a save that the run cannot do without failed.
        """
        if not moment.ends_epoch:
            self._save(is_needed=moment.is_stopping or moment.is_last, epoch_end=False)
            return
        params = self._params.checkpoint
        is_needed = moment.is_stopping or moment.is_last
        keep = is_needed or (params.save_frequency > 0 and moment.epoch % params.save_frequency == 0)
        if keep or params.save_most_recent:
            self._save(is_needed=is_needed, epoch_end=True, keep=keep)

    def finish(self) -> None:
        """Wait for the save that is under way.

        Raises:
            CheckpointError: When it failed.
        """
        self._hear(wait=True, is_needed=True)

    def close(self) -> None:
        """Wait for the save that is under way; a failure is only reported."""
        self._hear(wait=True)

    @property
    def newest(self) -> Path | None:
        """The last checkpoint known to be good, or None."""
        return None if self._store is None else self._store.newest or self._resumed_from

    def _save(self, *, is_needed: bool, epoch_end: bool, keep: bool = True) -> None:
        """Save; a full disk in mid-run is reported and training goes on."""
        store = self._store
        if store is None:
            return
        # One at a time: the files stay in order, and host memory holds one state.
        self._hear(wait=True)
        started = time.monotonic()
        state = self._state()
        self._timer.restart()
        wait = is_needed or not self._in_background
        self._report(lambda: store.save(state, epoch_end=epoch_end, keep=keep, wait=wait), is_needed=is_needed)
        _LOG.debug("training went on after %.3f s of saving", time.monotonic() - started)

    def _state(self) -> RunState:
        parts, place = self._parts, self._place
        recipe = describe_recipe(parts.task.name, self._params.hardware.precision, self._params.recipe.task)
        model = describe_model(unwrap_model(parts.task.model), recipe)
        return RunState(
            trained_of(parts, place),
            self._progress.state_dict(),
            order_of(self._params, parts, place.world),
            place.folder.name,
            {CONFIG_ENTRY: model, **self._extras()},
        )

    def _hear(self, *, wait: bool, is_needed: bool = False) -> None:
        store = self._store
        if store is not None:
            self._report(lambda: store.take_written(wait=wait), is_needed=is_needed)

    def _report(self, save: Callable[[], Saved | None], *, is_needed: bool) -> None:
        try:
            saved = save()
        except CheckpointError as error:
            if is_needed:
                raise
            _LOG.error("%s Training goes on; free space before the next save.", error)
            self._journal.event("save_failed", reason=str(error))
            return
        if saved is not None:
            self._journal.event("checkpoint", path=str(saved.path), seconds=round(saved.seconds, 3))


def _make_store(params: RunParams, place: Place, parts: Parts) -> Store | None:
    """Make what the run's checkpoints are saved by; None where it saves none."""
    folder, keep = place.folder.checkpoints, params.checkpoint
    if folder is None or parts.train_loader is None:
        return None
    if params.fsdp.fsdp_checkpoint == "sharded" and is_sharded(parts.task.model):
        from training.checkpoint.folder_store import FolderStore

        return FolderStore(
            folder, place.world, delete_previous=keep.delete_previous_checkpoint, keep_epochs=keep.keep_checkpoints
        )
    keeper = None
    if place.world.is_master:
        keeper = Keeper(
            folder,
            save_most_recent=keep.save_most_recent,
            delete_previous=keep.delete_previous_checkpoint,
            keep_epochs=keep.keep_checkpoints,
        )
    return FileStore(keeper, place.device)
