"""Names and order of a run's checkpoints: files, and folders of the same names without ``.pt``.

``epoch_N.pt`` is the state after N epochs, as upstream names it; ``epoch_N_step_S.pt`` is S optimizer steps into the
run, inside the epoch after the Nth; ``epoch_latest.pt`` repeats the newest epoch.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from open_clip.errors import CheckpointError, printable

LATEST = "epoch_latest.pt"
# A checkpoint written by many processes is a folder: the name without an ending.
_NAME = re.compile(r"epoch_(\d+)(?:_step_(\d+))?(?:\.pt)?")


def epoch_path(folder: Path, epoch: int) -> Path:
    """Name the checkpoint after ``epoch`` completed epochs."""
    return folder / f"epoch_{epoch}.pt"


def step_path(folder: Path, epoch: int, step: int) -> Path:
    """Name the checkpoint inside an epoch."""
    return folder / f"epoch_{epoch}_step_{step}.pt"


def order_names(names: Iterable[str]) -> list[str]:
    """Sort names of checkpoints, oldest state first; other names are left out."""
    found = [((int(match[1]), int(match[2] or 0)), name) for name in names if (match := _NAME.fullmatch(name))]
    return [name for _, name in sorted(found)]


def list_checkpoints(folder: Path) -> list[Path]:
    """List a run's checkpoints, oldest state first.

    ``epoch_latest.pt`` does not say its epoch: it stands after everything that was written before it.

    Raises:
        CheckpointError: When the folder is there and cannot be listed.
    """
    try:
        # Not by a pattern: that finds nothing in a folder that may not be read.
        names = os.listdir(folder)
        paths = [folder / name for name in order_names(names)]
        ordered = [path for path in paths if path.is_dir() != (path.suffix == ".pt")]
        latest = folder / LATEST
        if latest.is_file():
            written = latest.stat().st_mtime_ns
            place = max((i + 1 for i, path in enumerate(ordered) if path.stat().st_mtime_ns <= written), default=0)
            ordered.insert(place, latest)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(
            f"{printable(folder)}: cannot be listed ({error.strerror}). Look at its rights, or give another --logs-dir."
        ) from error
    return ordered


def list_step_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints inside epochs, oldest first."""
    return [path for path in list_checkpoints(folder) if "_step_" in path.name]


def list_epoch_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints at ends of epochs, oldest first, without ``epoch_latest.pt``."""
    return [path for path in list_checkpoints(folder) if "_step_" not in path.name and path.name != LATEST]
