"""The checkpoints of one run: how they are written and recorded, and which are kept."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from open_clip.errors import CheckpointError
from open_clip.files import make_folder, remove_leftovers
from training.checkpoint.digest import Digest, digest_file
from training.checkpoint.find import (
    LATEST,
    epoch_path,
    list_checkpoints,
    list_epoch_checkpoints,
    list_step_checkpoints,
    step_path,
)
from training.checkpoint.manifest import Manifest, ManifestEntry
from training.checkpoint.schema import Payload
from training.checkpoint.write import remove_checkpoint, write_checkpoint

# Two, so that one good file remains if the newest turns out damaged.
LEAST_KEPT = 2


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

    def __init__(
        self, folder: Path, *, save_most_recent: bool = False, delete_previous: bool = False, keep_epochs: int = 0
    ) -> None:
        """Make the folder ready.

        Args:
            folder: Where the checkpoints go.
            save_most_recent: Write each epoch as ``epoch_latest.pt`` too.
            delete_previous: Keep only the newest epoch, as upstream's flag does.
            keep_epochs: Newest epochs to keep; 0 keeps all.
        """
        self.folder = folder
        self.save_most_recent = save_most_recent
        self.delete_previous = delete_previous
        self.keep_epochs = keep_epochs
        self.newest: Path | None = None
        make_folder(folder)
        remove_leftovers(folder)
        self._manifest = Manifest(folder)

    def save_epoch(self, payload: Payload, *, keep: bool = True) -> Saved:
        """Write the state at the end of an epoch.

        Args:
            payload: What to save; ``epoch`` names the file.
            keep: False writes ``epoch_latest.pt`` alone.

        Raises:
            CheckpointError: When it cannot be written; nothing that was there is harmed.
        """
        started = time.monotonic()
        epoch = payload["epoch"]
        path = epoch_path(self.folder, epoch) if keep else self.folder / LATEST
        record = self._write(payload, path)
        if keep and self.save_most_recent:
            self._write(payload, self.folder / LATEST)
        self._delete(self._spent_by_epoch(epoch if keep else None), path, record)
        return Saved(path, time.monotonic() - started)

    def save_step(self, payload: Payload) -> Saved:
        """Write the state inside an epoch and keep only the newest few of its kind.

        Raises:
            CheckpointError: As :meth:`save_epoch`.
        """
        started = time.monotonic()
        path = step_path(self.folder, payload["epoch"], payload["global_step"])
        record = self._write(payload, path)
        self._delete(list_step_checkpoints(self.folder)[:-LEAST_KEPT], path, record)
        return Saved(path, time.monotonic() - started)

    def _write(self, payload: Payload, path: Path) -> ManifestEntry:
        records: list[ManifestEntry] = []

        def announce(digest: Digest) -> None:
            records.append(ManifestEntry.of(digest, payload))
            self._manifest.announce(path.name, records[0])

        write_checkpoint(payload, path, announce)
        self.newest = path
        return records[0]

    def _spent_by_epoch(self, epoch: int | None) -> list[Path]:
        """List what the end of an epoch makes superfluous: its steps, and the epochs beyond those to keep."""
        steps = list_step_checkpoints(self.folder)
        if epoch is not None and self.delete_previous:
            return [*steps, epoch_path(self.folder, epoch - 1)]
        epochs = list_epoch_checkpoints(self.folder)
        others = len(list_checkpoints(self.folder)) - len(steps)
        spent = steps[: len(steps) - max(0, LEAST_KEPT - others)]
        return [*spent, *(epochs[: -self.keep_epochs] if self.keep_epochs else ())]

    def _delete(self, spent: Iterable[Path], newest: Path, record: ManifestEntry) -> None:
        """Delete what is spent, once the disk has given back every byte of the newest."""
        there = [path for path in spent if path != newest and path.exists()]
        try:
            if there and digest_file(newest, from_disk=True) != record.digest:
                newest.unlink()
                self.newest = None
                raise CheckpointError(
                    f"{newest}: the disk gave back other bytes than were written. It was removed, earlier checkpoints "
                    "are untouched; look at the disk's health."
                )
            for path in there:
                remove_checkpoint(path)
            self._manifest.settle(newest.name, record)
        except OSError as error:
            raise CheckpointError(f"could not tidy up {self.folder}: {error.strerror or error}.") from error
