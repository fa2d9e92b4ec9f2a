"""When a run saves, and what a failed save means; how a checkpoint is made is `checkpoint`'s."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_clip.checkpoint import CONFIG_ENTRY
from open_clip.errors import CheckpointError
from open_clip.factory.description import describe_model
from training.assembly import Parts, Place
from training.checkpoint import Background, Keeper, Saved, SaveTimer, Snapshot, Trained, collect, describe
from training.distributed import is_sharded, unwrap_model
from training.journal import Journal
from training.loop import Hook, Moment, Progress, Wants
from training.params import RunParams
from training.resume import average_entries, order_of

if TYPE_CHECKING:
    from training.checkpoint.folder_keeper import FolderKeeper

_LOG = logging.getLogger(__name__)
_Write = Callable[[dict[str, Any]], Saved]


class Saver(Hook):
    """Saves a run's state where that is due; every process calls it, the master writes.

    A save that the run can do without is copied to host memory and written beside the training; one that it cannot do
    without is waited for.

    Args:
        extras: Gives entries of the payload beyond those of ``checkpoint.collect``.
    """

    def __init__(
        self,
        params: RunParams,
        place: Place,
        parts: Parts,
        progress: Progress,
        journal: Journal,
        resumed_from: Path | None,
        extras: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._params = params
        self._place = place
        self._parts = parts
        self._progress = progress
        self._journal = journal
        self._resumed_from = resumed_from
        self._extras = extras
        self._folders = self._make_folder_keeper()
        self._keeper = self._make_keeper()
        self._in_background = not params.checkpoint.no_save_in_background
        self._snapshot = Snapshot(place.device)
        self._writer: Background[Saved] = Background()
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
            self._save(is_needed=moment.is_stopping, epoch_end=False)
            return
        params = self._params.checkpoint
        is_needed = moment.is_stopping or moment.epoch == self._params.schedule.epochs
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
        keeper = self._folders or self._keeper
        return None if keeper is None else keeper.newest or self._resumed_from

    def _save(self, *, is_needed: bool, epoch_end: bool, keep: bool = True) -> None:
        """Save on the master; a full disk in mid-run is reported and training goes on."""
        started = time.monotonic()
        parts, place = self._parts, self._place
        if place.folder.root is None:
            return
        assert parts.optimizer is not None
        trained = Trained(parts.task.model, parts.optimizer, parts.mixed, place.device, place.world)
        order = order_of(self._params, parts, place.world)
        recipe = {"name": parts.task.name, "precision": self._params.hardware.precision}
        notes = {CONFIG_ENTRY: describe_model(unwrap_model(trained.model), recipe), **self._extras()}
        if self._folders is not None:
            described = describe(trained, self._progress.state_dict(), order, place.folder.name, notes)
            self._timer.restart()
            self._report(lambda: self._save_folder(trained, described, epoch_end), is_needed=is_needed)
            return
        extras = {**average_entries(parts), **notes}
        payload = collect(trained, self._progress.state_dict(), order, place.folder.name, extras)
        self._timer.restart()
        if self._keeper is None:
            return
        # One at a time: the files stay in order, and host memory holds one state.
        self._hear(wait=True)
        write: _Write = partial(self._keeper.save_epoch, keep=keep) if epoch_end else self._keeper.save_step
        if is_needed or not self._in_background:
            self._report(lambda: write(payload), is_needed=is_needed)
            return
        copied = self._snapshot.take(payload)
        self._writer.start(lambda: write(copied))
        _LOG.debug("the state was copied in %.3f s; it is being written", time.monotonic() - started)

    def _save_folder(self, trained: Trained, notes: dict[str, Any], epoch_end: bool) -> Saved:
        assert self._folders is not None
        return self._folders.save(trained, notes, epoch_end=epoch_end)

    def _hear(self, *, wait: bool, is_needed: bool = False) -> None:
        self._report(lambda: self._writer.take(wait=wait), is_needed=is_needed)

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

    def _make_folder_keeper(self) -> "FolderKeeper | None":
        folder, params = self._place.folder.checkpoints, self._params.checkpoint
        is_wanted = self._params.fsdp.fsdp_checkpoint == "sharded" and is_sharded(self._parts.task.model)
        if folder is None or not is_wanted:
            return None
        from training.checkpoint.folder_keeper import FolderKeeper

        return FolderKeeper(
            folder,
            self._place.world,
            delete_previous=params.delete_previous_checkpoint,
            keep_epochs=params.keep_checkpoints,
        )

    def _make_keeper(self) -> Keeper | None:
        folder, params = self._place.folder.checkpoints, self._params.checkpoint
        if folder is None or not self._place.world.is_master or self._parts.train_loader is None:
            return None
        if self._folders is not None:
            return None
        return Keeper(
            folder,
            save_most_recent=params.save_most_recent,
            delete_previous=params.delete_previous_checkpoint,
            keep_epochs=params.keep_checkpoints,
        )
