"""Write a checkpoint whole or not at all; knows nothing of what is in it."""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from open_clip.errors import CheckpointError

_LOG = logging.getLogger(__name__)
_TEMPORARY = ".tmp-"


def write_checkpoint(payload: dict[str, Any], path: Path) -> None:
    """Save a payload under its final name only once every byte is on the disk.

    The file is written beside its place under a temporary name, flushed to the disk, and renamed: a kill or a full disk
    at any moment leaves the checkpoints that were there as they were. Tensors are saved from host memory, so the file
    loads on a machine without the device that wrote it.

    Raises:
        CheckpointError: When it cannot be written; names the file and the cause. Nothing is left behind.
    """
    temporary = path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(to_host(payload), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        message = f"could not write {path}: {_reason(error)}. Earlier checkpoints are untouched."
        raise CheckpointError(message) from error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed run left."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        _LOG.info("removing %s, left by an interrupted save", leftover)
        leftover.unlink(missing_ok=True)


def to_host(value: Any) -> Any:
    """Copy every tensor of nested dicts, lists and tuples to host memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: to_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_host(item) for item in value)
    return value


def _reason(error: BaseException) -> str:
    """Name the cause: torch's zip writer hides the system's error behind a position in the file."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return str((cause.strerror if isinstance(cause, OSError) else None) or " ".join(str(error).split())[:200])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
