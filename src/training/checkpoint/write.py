"""Write a checkpoint whole or not at all; knows nothing of what is in it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from open_clip.errors import CheckpointError
from open_clip.files import TEMPORARY, new_file
from training.checkpoint.digest import Digest, RunningDigest
from training.checkpoint.schema import Payload


class HashedFile:
    """A file being written whose digest is computed on the way, so that nobody has to read it again for that."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = RunningDigest()
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write the next bytes."""
        try:
            written = self._file.write(data)
        except OSError as error:
            # torch's zip writer replaces it by a position in the file.
            self.error = error
            raise
        self._digest.update(data)
        return written

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def finish(self) -> Digest:
        """Wait until the disk has all of it, and give its digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.finish()


def write_checkpoint(payload: Payload, path: Path, commit: Callable[[Digest], None] | None = None) -> Digest:
    """Save a payload under its final name only once every byte is on the disk.

    The file is written beside its place under a temporary name, flushed to the disk, and renamed: a kill or a full disk
    at any moment leaves the checkpoints that were there as they were. Tensors are saved from host memory, so the file
    loads on a machine without the device that wrote it.

    Args:
        payload: What to save.
        path: Its final name.
        commit: Called between the last byte and the renaming; an OSError of it counts as one of the write.

    Raises:
        CheckpointError: When it cannot be written; names the file and the cause. Nothing is left behind.
    """
    hashed: HashedFile | None = None
    try:
        with new_file(path) as file:
            hashed = HashedFile(file)
            torch.save(to_host(payload), hashed)  # type: ignore[arg-type]
            digest = hashed.finish()
            if commit is not None:
                commit(digest)
    except (OSError, RuntimeError) as error:
        known = hashed.error if hashed is not None and hashed.error is not None else error
        message = f"could not write {path}: {_reason(known)}. Earlier checkpoints are untouched."
        raise CheckpointError(message) from error
    return digest


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint, a file or a folder, if it is there; a kill on the way leaves no half of one.

    Raises:
        OSError: When it cannot be deleted.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    spent = path
    if not path.name.startswith(TEMPORARY):
        spent = path.with_name(f"{TEMPORARY}{path.name}-spent-{os.getpid()}")
        path.replace(spent)
    shutil.rmtree(spent)


def to_host(value: object) -> Any:
    """Give nested dicts, lists and tuples with every tensor in host memory; those that are there are not copied."""
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
