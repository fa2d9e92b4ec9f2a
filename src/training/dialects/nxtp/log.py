"""The lines of NXTP's public log: written beside the trainer's own, and read back from either. Draws nothing."""

import logging
import math
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from open_clip.checked_json import numbers_of
from open_clip.errors import DataError, harmless, printable
from open_clip.files import open_plain
from training.loop import StepRecord
from training.optim import count_warmup
from training.params.optim import ScheduleParams
from training.report.jsonl import iterate_metrics
from training.report.series import Points

# What the recipe's losses are called in that log.
_LOSSES = {"label_loss": "loss_objs", "caption_loss": "loss_caps"}
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"
_PUBLIC = re.compile(
    rf"\bepoch: +(?P<epoch>\d+) +step: +(?P<x>\d+) +lr: +(?P<lr>{_NUMBER}) +loss: +(?P<loss>{_NUMBER})(?=\s)"
)
# Ours counts rows, an epoch's anew in each.
_OURS = re.compile(
    r"Train Epoch: (?P<epoch>\d+) \[ *(?P<x>\d+)/(?P<per_epoch>\d+) "
    rf".*?\bLR: *(?P<lr>{_NUMBER}) .*\bLoss: *(?P<loss>{_NUMBER}) "
)


def format_line(record: StepRecord, warmup: int) -> str:
    """Write a step as NXTP's log has it: times are seconds a step, the epoch counts from one.

    Args:
        record: The step.
        warmup: Steps of warm-up; those done stand at the end of the line.
    """
    losses = {_LOSSES.get(name, name): value for name, (value, _) in record.losses.items() if name != "loss"}
    parts = [
        f"epoch: {record.epoch + 1:02d}",
        f"step: {record.step:08d}",
        f"lr: {record.lr:.7f}",
        f"loss: {record.losses['loss'][0]:.7f}",
        *(f"{name}: {value:.7f}" for name, value in losses.items()),
    ]
    times = f"data time: {record.data_time_s:.5f}s  batch time: {record.step_time_s:.2f}s"
    return f"{'  '.join(parts)} {times}  warmup step: {min(record.step, warmup):05d}"


class PublicLog(logging.Handler):
    """Writes each logged step to a stream in NXTP's format; hears the log of the process that speaks for all.

    The trainer's own lines go to stderr, so that standard output alone is a log as NXTP's.
    """

    def __init__(self, schedule: ScheduleParams, accum_freq: int, stream: TextIO | None = None) -> None:
        super().__init__(logging.INFO)
        self._schedule, self._accum_freq = schedule, accum_freq
        self._stream = stream or sys.stdout

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a step; all other records are left to the trainer's log."""
        step = getattr(record, "step_record", None)
        if isinstance(step, StepRecord):
            steps = (self._schedule.epochs or 1) * math.ceil(step.num_batches / self._accum_freq)
            self.say(format_line(step, count_warmup(self._schedule, steps)))

    def say(self, line: str) -> None:
        """Write a line behind the time of day."""
        now = time.time()
        moment = f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03d}"
        with tqdm.external_write_mode(file=self._stream):
            self._stream.write(f"[{moment}] {harmless(line)}\n")
            self._stream.flush()


@dataclass(frozen=True)
class Curves:
    """What a log tells of a training: loss and learning rate, by what ``x_name`` counts (``step``, or ``sample``)."""

    loss: Points
    lr: Points
    x_name: str = "step"


def read_curves(path: str | Path) -> Curves:
    """Read the curves of a log of NXTP's, of a log of ours, of ``metrics.jsonl``, or of a run folder.

    A log that has lines of both formats is read by NXTP's, which count steps. Of a point that is there twice the later
    line counts, as a run writes it that went back to a checkpoint; values that are not finite are left out.

    Raises:
        DataError: It cannot be read, or has no step in it.
    """
    path = Path(path)
    if path.is_dir():
        path /= "metrics.jsonl"
    try:
        if path.suffix == ".jsonl":
            with open_plain(path):  # a file that is missing is told of; its records are read one by one
                curves = _join(_recorded(path))
        else:
            curves = _join(_matched(path, _PUBLIC)) or _join(_matched(path, _OURS), "sample")
    except OSError as error:
        raise DataError(f"{printable(path, 300)} cannot be read: {error.strerror or error}") from None
    if curves is None:
        raise DataError(
            f"{printable(path, 300)} has no line of a training step. A log of NXTP's, out.log, metrics.jsonl and a run "
            "folder have some."
        )
    return curves


def _join(rows: Iterable[tuple[float, float, float]], x_name: str = "step") -> Curves | None:
    points = {x: (loss, lr) for x, loss, lr in rows if math.isfinite(loss) and math.isfinite(lr)}
    if not points:
        return None
    ordered = sorted(points.items())
    return Curves([(x, loss) for x, (loss, _) in ordered], [(x, lr) for x, (_, lr) in ordered], x_name)


def _recorded(path: Path) -> Iterator[tuple[float, float, float]]:
    for record in iterate_metrics(path, "train"):
        row = numbers_of(record)
        if {"step", "loss", "lr"} <= row.keys():
            yield row["step"], row["loss"], row["lr"]


def _matched(path: Path, line: re.Pattern[str]) -> Iterator[tuple[float, float, float]]:
    with open_plain(path) as file:
        for raw in file:
            found = line.search(raw.decode("utf-8", "replace"))
            if found is not None:
                named = {name: float(word) for name, word in found.groupdict().items()}
                before = named["epoch"] * named.get("per_epoch", 0.0)
                yield before + named["x"], named["loss"], named["lr"]
