"""Where a run saves its state: one protocol, whether a checkpoint is a file or a folder that all processes write."""

from functools import partial
from pathlib import Path
from typing import Protocol

from training.checkpoint.background import Background
from training.checkpoint.keeper import Keeper, Saved
from training.checkpoint.payload import RunState, collect
from training.checkpoint.snapshot import Snapshot
from training.device import Device


class Store(Protocol):
    """Saves a run's state; every process has one and calls it at the same points."""

    @property
    def newest(self) -> Path | None:
        """The last checkpoint known to be good, or None."""

    def save(self, state: RunState, *, epoch_end: bool, keep: bool, wait: bool) -> Saved | None:
        """Save the state at the end of an epoch, or inside one.

        What is under way must have been taken before.

        Args:
            state: What to save.
            epoch_end: Whether an epoch is complete.
            keep: Whether an epoch gets a checkpoint of its own; else only the most recent one is written.
            wait: Whether it must be on the disk before training goes on.

        Returns:
            What was written by this process; None while it is being written, and where others write it.

        Raises:
            CheckpointError: When it cannot be written. Nothing that was there is harmed.
            NumericsError: When a weight is not finite; in every process.
        """

    def take_written(self, *, wait: bool) -> Saved | None:
        """Give what was being written once it is, once only; None while there is nothing.

        Raises:
            CheckpointError: When it could not be written.
        """


class FileStore:
    """A :class:`Store` of whole files, which the master writes.

    A save that need not be waited for is copied to host memory and written beside the training.

    Args:
        keeper: Writes the files; None where another process does.
        device: Where the state lives.
    """

    def __init__(self, keeper: Keeper | None, device: Device) -> None:
        self._keeper = keeper
        self._snapshot = Snapshot(device)
        self._writer: Background[Saved] = Background()

    @property
    def newest(self) -> Path | None:
        """The last checkpoint known to be good, or None."""
        return None if self._keeper is None else self._keeper.newest

    def save(self, state: RunState, *, epoch_end: bool, keep: bool, wait: bool) -> Saved | None:
        """Save the state, as :class:`Store` says."""
        payload = collect(state)
        if self._keeper is None:
            return None
        write = partial(self._keeper.save_epoch, keep=keep) if epoch_end else self._keeper.save_step
        if wait:
            return write(payload)
        copied = self._snapshot.take(payload)
        self._writer.start(lambda: write(copied))
        return None

    def take_written(self, *, wait: bool) -> Saved | None:
        """Give what was being written, as :class:`Store` says."""
        return self._writer.take(wait=wait)
