"""The checkpoint folders of one run: when all processes have written one, and which are kept."""

import time
from pathlib import Path

from open_clip.files import make_folder, remove_leftovers
from training.checkpoint.find import list_epoch_checkpoints, list_step_checkpoints
from training.checkpoint.keeper import LEAST_KEPT, Saved
from training.checkpoint.payload import RunState, describe
from training.checkpoint.sharded import on_master, save_sharded
from training.checkpoint.write import remove_checkpoint
from training.distributed import World, unwrap_model


class FolderStore:
    """A ``Store`` of folders of shards; every process writes its part, and waits until all have.

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

    def save(self, state: RunState, *, epoch_end: bool, keep: bool, wait: bool) -> Saved:
        """Write the state, and delete what that makes superfluous; as ``Store`` says."""
        started = time.monotonic()
        notes, trained = describe(state), state.trained
        name = f"epoch_{notes['epoch']}" + ("" if epoch_end else f"_step_{notes['global_step']}")
        path = self.folder / name
        model = unwrap_model(trained.model)
        save_sharded(path, model, trained.optimizer, notes, self._world, trained.own)
        self.newest = path
        on_master(self._world, lambda: self._tidy(path, epoch_end))
        return Saved(path, time.monotonic() - started)

    def take_written(self, *, wait: bool) -> None:
        """Give nothing: a save has ended when :meth:`save` returns."""

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
