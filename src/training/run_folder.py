"""The run folder: its name, its place, and the text files that describe the run."""

import argparse
import contextlib
import datetime
import fnmatch
import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from open_clip.errors import ConfigError, printable
from open_clip.files import is_real_folder, remove_leftovers, write_whole
from training.params import CheckpointParams, write_settings
from training.run_lock import LOCK_NAME, locked

# What a run goes into and what it adds to; all else is written anew under a name of its own and renamed.
_FOLDERS = ("checkpoints", "tensorboard", "stacks", "profile", "results")
_GROWING = {
    "": ("out*.log", "metrics.jsonl", "bad_samples.jsonl"),
    "checkpoints": ("results.jsonl",),
    "stacks": ("rank-*.txt",),
}

_LOG = logging.getLogger(__name__)
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
    def evaluations(self) -> Path | None:
        """What the newest evaluations show beside their figures."""
        return self._path("evaluations.json")

    @property
    def results(self) -> Path | None:
        """Folder of the files that the newest evaluations leave."""
        return self._path("results")

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
        """Whether nothing of a run is here: only the lock, hidden files, or the list that a failed start leaves."""
        if self.root is None or self.bad_samples is None:
            return False
        known = (LOCK_NAME, self.bad_samples.name)
        return all(path.name.startswith(".") or path.name in known for path in self.root.iterdir())

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
        for name in ("checkpoints", "tensorboard"):
            with contextlib.suppress(OSError):
                # Only an empty one goes; the run folder itself when its lock is given back.
                (self.root / name).rmdir()

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


def find_folder(params: CheckpointParams, name: str) -> RunFolder:
    """Say where a run's files are; makes nothing."""
    if params.logs_dir.lower() == "none":
        return RunFolder(name, None)
    try:
        return RunFolder(name, Path(params.logs_dir).expanduser().resolve() / name)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--logs-dir {printable(params.logs_dir, 200)} cannot be used: {error}.") from error


@contextlib.contextmanager
def hold_folder(params: CheckpointParams, folder: RunFolder) -> Iterator[None]:
    """Make the run folder, or find it again when resuming, and keep other runs out of it while inside.

    Raises:
        ConfigError: When a run of this name is there already and ``--resume`` was not given, another process has the
            folder, it cannot be written to, or something else stands under a name that the run needs.
    """
    root = folder.root
    if root is None:
        yield
        return
    is_new = not os.path.lexists(root)
    with contextlib.ExitStack() as held:
        try:
            root.mkdir(parents=True, exist_ok=True)
            _check_writable(folder)
            held.enter_context(locked(root))
        except OSError as error:
            raise ConfigError(
                f"--logs-dir: cannot write to {printable(error.filename or root, 300)}: {error.strerror}. Choose "
                "another folder, or none (--logs-dir none) to evaluate without one."
            ) from error
        if params.resume is None and os.path.lexists(root / "out.log"):
            raise ConfigError(
                f"a run named {printable(folder.name)} is already in {printable(root.parent, 300)}. Give another "
                "--name, or --resume latest to go on with it."
            )
        try:
            _refuse_planted(root)
            for place in (root, *(root / name for name in _FOLDERS)):
                remove_leftovers(place)
            yield
        finally:
            held.close()
            if is_new:
                with contextlib.suppress(OSError):
                    # Goes only when it is empty.
                    root.rmdir()


def _refuse_planted(root: Path) -> None:
    """Refuse links, pipes and devices where the run adds to a file or goes into a folder."""
    for name in _FOLDERS:
        if os.path.lexists(root / name) and not is_real_folder(root / name):
            raise ConfigError(
                f"{printable(root / name)} is a link or a file, and a run writes only into folders of its own. Move "
                "what it leads to here, or link the whole run folder's parent (--logs-dir)."
            )
    for name, patterns in _GROWING.items():
        # Not by glob, which passes over links that lead nowhere.
        there = os.listdir(root / name) if os.path.lexists(root / name) else []
        for path in (root / name / one for one in there if any(fnmatch.fnmatch(one, each) for each in patterns)):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise ConfigError(
                    f"{printable(path)} is a link or no plain file, and a run adds only to files of its own. Remove it."
                )


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

    Raises:
        ConfigError: They cannot be written and none are there.
    """
    trains = args.train_data or args.dataset_type == "synthetic"
    if folder.root is None or (not trains and (folder.root / "config.yaml").exists()):
        return
    lines = [f"{line}\n" for line in setting_lines(args)]
    try:
        write_whole(folder.root / "params.txt", "".join(lines))
        write_settings(args, folder.root / "config.yaml")
    except OSError as error:
        if not (folder.root / "config.yaml").exists():
            # A first start: nothing that this run would write could be kept.
            raise ConfigError(
                f"--logs-dir: cannot write to {printable(folder.root, 300)}: {error.strerror}. Free some space, or "
                "choose another folder."
            ) from error
        # A full disk must not keep a run from going on: what was written at its first start is still there.
        _LOG.warning("cannot write the settings into %s: %s; those that are there stay", folder.root, error.strerror)


def setting_lines(args: argparse.Namespace) -> list[str]:
    """Write every setting as upstream does, a line each; secrets are left out."""
    return [f"{name}: {printable(value)}" for name, value in sorted(vars(args).items())]
