"""The run folder: its name, its place, and the text files that describe the run."""

import argparse
import contextlib
import datetime
import os
import re
from dataclasses import dataclass
from pathlib import Path

from open_clip.errors import ConfigError, printable
from training.params import CheckpointParams, write_settings

# Marks a record that is for the log in the folder alone, where there is one: `_LOG.info(..., extra=FILE_LINE)`.
FILE_LINE = {"is_file_line": True}


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run; ``root`` is None when nothing is to be written.

    Source: layout of open_clip 3.3.0 (``out.log, params.txt, checkpoints, tensorboard``); the other files are ours.
    """

    name: str
    root: Path | None

    @property
    def checkpoints(self) -> Path | None:
        """Folder of the checkpoints."""
        return self._path("checkpoints")

    @property
    def log(self) -> Path | None:
        """Log of the master process."""
        return self._path("out.log")

    @property
    def metrics(self) -> Path | None:
        """One JSON object a line: what ``training.report`` reads."""
        return self._path("metrics.jsonl")

    @property
    def tensorboard(self) -> Path | None:
        """Folder of TensorBoard's event files."""
        return self._path("tensorboard")

    @property
    def bad_samples(self) -> Path | None:
        """List of unusable rows, one JSON object a line; all processes append to it."""
        return self._path("bad_samples.jsonl")

    @property
    def stacks(self) -> Path | None:
        """Folder of what all processes were doing when a run hung."""
        return self._path("stacks")

    @property
    def profile(self) -> Path | None:
        """Folder of recorded steps, which Perfetto opens."""
        return self._path("profile")

    @property
    def is_new(self) -> bool:
        """Whether nothing of a run is here: only hidden files, or the list that a failed start leaves."""
        if self.root is None or self.bad_samples is None:
            return False
        return all(path.name.startswith(".") or path == self.bad_samples for path in self.root.iterdir())

    def take_back(self) -> None:
        """Remove what a start wrote that failed before its run began, so that its command can be given again.

        A list of unusable rows stays: it says what to mend.
        """
        if self.root is None:
            return
        written = [self.root / name for name in ("out.log", "metrics.jsonl", "params.txt", "config.yaml")]
        for path in [*written, *self.root.glob("out-*.log")]:
            with contextlib.suppress(OSError):
                path.unlink()
        for folder in (self.checkpoints, self.tensorboard, self.root):
            with contextlib.suppress(OSError):
                # Only an empty one goes.
                (folder or self.root).rmdir()

    def _path(self, name: str) -> Path | None:
        return None if self.root is None else self.root / name


def choose_name(args: argparse.Namespace) -> str:
    """Give the run's name: ``--name``, or date, model and main settings as upstream writes them."""
    if args.name is not None:
        return str(args.name)
    date = datetime.datetime.now().strftime("%Y_%m_%d-%H_%M_%S")
    # A folder or a hub repository may stand for the model, by a name longer than a folder's can be.
    model = re.sub(r"[^\w.-]", "-", args.model, flags=re.ASCII)[:100]
    parts = (
        date,
        f"model_{model}",
        f"lr_{args.lr}",
        f"b_{args.batch_size}",
        f"j_{args.workers}",
        f"p_{args.precision}",
    )
    return "-".join(parts)


def open_folder(params: CheckpointParams, name: str, *, is_master: bool) -> RunFolder:
    """Make the run folder, or find it again when resuming.

    Raises:
        ConfigError: When a run of this name is there already and ``--resume`` was not given.
    """
    if params.logs_dir.lower() == "none":
        return RunFolder(name, None)
    folder = RunFolder(name, Path(params.logs_dir).expanduser().resolve() / name)
    assert folder.root is not None
    if not is_master:
        return folder
    try:
        is_taken = params.resume is None and folder.log is not None and folder.log.exists()
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        shown = printable(folder.root, 300)
        raise ConfigError(f"--logs-dir: cannot make {shown}: {error.strerror}. Choose another folder.") from error
    if is_taken:
        raise ConfigError(
            f"a run named {printable(name)} is already in {printable(folder.root.parent, 300)}. Give another --name, "
            "or --resume latest to go on with it."
        )
    _check_writable(folder)
    return folder


def _check_writable(folder: RunFolder) -> None:
    """Refuse a folder in which a run could not write: a read-only disk, or another user's."""
    assert folder.root is not None
    for path in (folder.root, folder.checkpoints, folder.log, folder.metrics, folder.bad_samples):
        assert path is not None
        if os.path.exists(path) and not os.access(path, os.W_OK):
            why = (
                "the disk is read-only"
                if os.statvfs(folder.root).f_flag & os.ST_RDONLY
                else "this user may not write there"
            )
            raise ConfigError(
                f"--logs-dir: cannot write to {printable(path)}: {why}. Give another --logs-dir or --name, and the "
                "checkpoint to go on from as --resume FILE."
            )


def describe_run(folder: RunFolder, args: argparse.Namespace) -> None:
    """Write ``params.txt`` (upstream's form) and ``config.yaml`` (what ``--config`` reads).

    An evaluation in the folder of a training run leaves that run's settings alone: they are what it goes on with.
    """
    trains = args.train_data or args.dataset_type == "synthetic"
    if folder.root is None or (not trains and (folder.root / "config.yaml").exists()):
        return
    lines = [f"{name}: {value}\n" for name, value in sorted(vars(args).items())]
    (folder.root / "params.txt").write_text("".join(lines), encoding="utf-8")
    write_settings(args, folder.root / "config.yaml")
