"""Log set-up and the lines that a run writes to the console and to ``out.log``.

Draws no progress bar (``progress.py``) and keeps no figures: callers pass what a line shows.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from open_clip.errors import harmless
from open_clip.files import open_to_append

LINE_FORMAT = "%(asctime)s | %(levelname)s | %(message)s"
DATE_FORMAT = "%Y-%m-%d,%H:%M:%S"

# Marks a record as the line of one training step: `_LOG.info(..., extra=STEP_LINE)`.
STEP_LINE = {"is_step_line": True}
# Names a file that gets every line too: the log of a wrapper, which does not see what goes to a terminal.
_LOG_FILE = "OPEN_CLIP_LOG_FILE"

# Libraries that fill a debug log with lines of no use to a reader of a run.
_CHATTY = ("PIL", "urllib3", "matplotlib", "fsspec", "asyncio")


@dataclass(frozen=True)
class TrainLine:
    """The figures of one training line; times are averages in seconds since the line before."""

    epoch: int  # 0-based
    samples: int  # seen in this epoch, all ranks
    samples_per_epoch: int
    percent: float
    data_time_s: float
    step_time_s: float
    samples_per_s: float  # of the last step, all ranks
    samples_per_s_per_device: float
    lr: float
    logit_scale: float | None
    losses: Mapping[str, tuple[float, float]]  # name: (last, average over this epoch); the sum, "loss", comes last


def format_train_line(line: TrainLine, log_format: str = "openclip") -> str:
    """Write the training line as upstream does, or with the two names that ModelZoo's scripts search for.

    Source: open_clip 3.3.0 ``train_one_epoch``; Ascend ModelZoo's OpenCLIP port (``Data_time:``, ``Time:``).
    """
    data_name, time_name = ("Data_time:", "Time:") if log_format == "modelzoo" else ("Data (t):", "Batch (t):")
    digits = len(str(line.samples_per_epoch))
    scale = "" if line.logit_scale is None else f"Logit Scale: {line.logit_scale:.3f} "
    losses = " ".join(f"{name.capitalize()}: {last:#.5g} ({mean:#.5g})" for name, (last, mean) in line.losses.items())
    return (
        f"Train Epoch: {line.epoch} [{line.samples:>{digits}}/{line.samples_per_epoch} ({line.percent:.0f}%)] "
        f"{data_name} {line.data_time_s:.3f} "
        f"{time_name} {line.step_time_s:.3f}, {line.samples_per_s:#g}/s, {line.samples_per_s_per_device:#g}/s/gpu "
        f"LR: {line.lr:5f} {scale}{losses}"
    )


def format_eval_line(metrics: Mapping[str, float], epoch: int) -> str:
    """Write the validation line: metrics in their order, four decimals, tabs between.

    Source: open_clip 3.3.0 ``evaluate``; wrappers cut ``image_to_text_R@5`` out of it.
    """
    return f"Eval Epoch: {epoch} " + "\t".join(f"{name}: {value:.4f}" for name, value in metrics.items())


def setup_logging(path: str | Path | None, level: int | str = logging.INFO, *, rank: int = 0) -> None:
    """Send log lines to stderr, to a file when a path is given, and to ``OPEN_CLIP_LOG_FILE``, with upstream's prefix.

    Rank 0 speaks at ``level``; the other ranks only warn. A second call replaces what the first one set up. Python
    warnings become log lines, so that they neither tear a progress bar nor miss the file.
    """
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, ConsoleHandler | LogFileHandler)]:
        root.removeHandler(old)
        old.close()
    line_format = LINE_FORMAT if rank == 0 else LINE_FORMAT.replace("%(message)s", f"rank {rank}: %(message)s")
    formatter = LineFormatter(line_format, DATE_FORMAT)
    handlers: list[logging.Handler] = [ConsoleHandler()]
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(LogFileHandler(path))
    if of_wrapper := os.environ.get(_LOG_FILE):
        handlers.append(LogFileHandler(of_wrapper))
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    wanted = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    root.setLevel(wanted if rank == 0 else max(wanted, logging.WARNING))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


class LineFormatter(logging.Formatter):
    """Writes lines of which no part can steer a terminal, and without secrets, wherever their text came from.

    Leaves no empty line after a message that brings its own line break, as Python warnings do.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        return harmless(super().format(record).rstrip("\n"))


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr above any progress bar: the bar is lifted, the line written, the bar drawn again.

    On a terminal the bar shows the figures of a step. Records logged with ``extra=STEP_LINE`` are left to the log file
    there, or a run with a line a step would push everything else off the screen. Files and pipes get them all.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, unless it is a step's and the bar tells the same, or one for the file that is open."""
        if getattr(record, "is_step_line", False) and self.stream.isatty():
            return
        if getattr(record, "is_file_line", False) and any(
            isinstance(one, LogFileHandler) for one in logging.getLogger().handlers
        ):
            return
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class LogFileHandler(logging.FileHandler):
    """Appends to the run's log; when the disk is full it says so once on stderr and the run goes on."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, mode="a", encoding="utf-8", errors="backslashreplace")
        self._has_complained = False

    def _open(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(
            io.BufferedWriter(open_to_append(self.baseFilename)),
            encoding=self.encoding,
            errors=self.errors,
        )

    def close(self) -> None:
        """Close the file; lines that a full disk still holds back are given up."""
        with contextlib.suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Complain once instead of with a traceback a line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_complained:
            self._has_complained = True
            sys.stderr.write(f"cannot write {self.baseFilename}: {error}; the run goes on, free some space\n")
