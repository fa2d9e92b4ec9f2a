"""The checkpoint folders of one run: when all processes have written one, and which are kept."""

import time
from pathlib import Path
from typing import Any

from open_clip.files import make_folder, remove_leftovers
from training.checkpoint.find import list_epoch_checkpoints, list_step_checkpoints
from training.checkpoint.keeper import LEAST_KEPT, Saved
from training.checkpoint.payload import Trained
from training.checkpoint.sharded import on_master, save_sharded
from training.checkpoint.write import remove_checkpoint
from training.distributed import World, unwrap_model


class FolderKeeper:
    """Writes a run's checkpoints as folders of shards; every process has one and calls it at the same points.

    Attributes:
        newest: The last checkpoint known to be good, or None.
    """

    def __init__(self, folder: Path, world: World, *, delete_previous: bool = False, keep_epochs: int = 0) -> None:
        """Make the folder ready.

        Args:
            folder: Where the checkpoints go.
            world: Place of this process.
            delete_previous: Keep only the newest epoch.
            keep_epochs: Newest epochs to keep; 0 keeps all.
        """
        self.folder = folder
        self.newest: Path | None = None
        self._world = world
        self._keep_epochs = 1 if delete_previous else keep_epochs
        if world.is_master:
            make_folder(folder)
            remove_leftovers(folder)

    def save(self, trained: Trained, notes: dict[str, Any], *, epoch_end: bool) -> Saved:
        """Write the state at the end of an epoch, or inside one, and delete what that makes superfluous.

        Args:
            trained: The live objects.
            notes: What :func:`payload.describe` gives.
            epoch_end: Whether an epoch is complete.

        Raises:
            CheckpointError: When it cannot be written; in every process. Nothing that was there is harmed.
        """
        started = time.monotonic()
        name = f"epoch_{notes['epoch']}" + ("" if epoch_end else f"_step_{notes['global_step']}")
        path = self.folder / name
        save_sharded(path, unwrap_model(trained.model), trained.optimizer, notes, self._world)
        self.newest = path
        on_master(self._world, lambda: self._tidy(path, epoch_end))
        return Saved(path, time.monotonic() - started)

    def _tidy(self, newest: Path, epoch_end: bool) -> None:
        steps, epochs = list_step_checkpoints(self.folder), list_epoch_checkpoints(self.folder)
        if epoch_end:
            spent = steps[: len(steps) - max(0, LEAST_KEPT - len(epochs))]
            spent += epochs[: -self._keep_epochs] if self._keep_epochs else []
        else:
            spent = steps[:-LEAST_KEPT]
        for path in spent:
            if path != newest:
                remove_checkpoint(path)
