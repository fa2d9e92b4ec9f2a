"""The checkpoints of one run: when they are written, which are kept, which one a run goes on from."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip.checkpoint import read_checkpoint
from open_clip.errors import CheckpointError
from training.checkpoint.find import epoch_path, list_checkpoints, list_step_checkpoints, step_path
from training.checkpoint.write import remove_leftovers, write_checkpoint

_LOG = logging.getLogger(__name__)
# Two, so that one good file remains if the newest turns out damaged.
_KEPT_STEP_CHECKPOINTS = 2


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written: its path and how long that took."""

    path: Path
    seconds: float


class Keeper:
    """Writes a run's checkpoints into one folder; only the master process has one that writes.

    Attributes:
        newest: The last checkpoint known to be good, or None.
    """

    def __init__(self, folder: Path, *, save_most_recent: bool = False, delete_previous: bool = False) -> None:
        self.folder = folder
        self.save_most_recent = save_most_recent
        self.delete_previous = delete_previous
        self.newest: Path | None = None
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)

    def save_epoch(self, payload: dict[str, Any], *, keep: bool = True) -> Saved:
        """Write the state at the end of an epoch.

        Args:
            payload: What to save; ``epoch`` names the file.
            keep: False writes ``epoch_latest.pt`` alone.

        Raises:
            CheckpointError: When it cannot be written; nothing that was there is harmed.
        """
        started = time.monotonic()
        epoch = payload["epoch"]
        path = epoch_path(self.folder, epoch) if keep else self.folder / "epoch_latest.pt"
        write_checkpoint(payload, path)
        if keep and self.save_most_recent:
            write_checkpoint(payload, self.folder / "epoch_latest.pt")
        self.newest = path
        for older in list_step_checkpoints(self.folder):
            older.unlink(missing_ok=True)
        if keep and self.delete_previous:
            epoch_path(self.folder, epoch - 1).unlink(missing_ok=True)
        return Saved(path, time.monotonic() - started)

    def save_step(self, payload: dict[str, Any]) -> Saved:
        """Write the state inside an epoch and keep only the newest few of its kind.

        Raises:
            CheckpointError: As :meth:`save_epoch`.
        """
        started = time.monotonic()
        path = step_path(self.folder, payload["epoch"], payload["global_step"])
        write_checkpoint(payload, path)
        self.newest = path
        for older in list_step_checkpoints(self.folder)[:-_KEPT_STEP_CHECKPOINTS]:
            older.unlink(missing_ok=True)
        return Saved(path, time.monotonic() - started)


def read_newest(folder: Path, on_damaged: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """Read the newest good checkpoint of a folder.

    Args:
        folder: A run's checkpoint folder.
        on_damaged: Told, in one line, of each newer file that had to be passed over.

    Returns:
        Path and payload, or None when the folder holds no checkpoint at all.

    Raises:
        CheckpointError: When there are checkpoints and none is good.
    """
    candidates = list_checkpoints(folder)
    for path in reversed(candidates):
        try:
            return path, read_checkpoint(path)
        except CheckpointError as error:
            on_damaged(f"{error} Trying the one before it.")
    if candidates:
        raise CheckpointError(
            f"none of the {len(candidates)} checkpoints in {folder} is good; start a new run (--name)."
        )
    return None
