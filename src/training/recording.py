"""Turn what the loop tells into log lines, the progress bar, metrics.jsonl and TensorBoard; the master's alone."""

import logging
from pathlib import Path
from typing import Any

from open_clip.checked_json import numbers_of
from training.loop import Progress, Recorder, StepRecord
from training.report.console import STEP_LINE, TrainLine, format_train_line
from training.report.jsonl import MetricsWriter, iterate_metrics
from training.report.progress import ProgressBar
from training.report.summary import StepTimes
from training.report.tensorboard import TensorBoardWriter

_LOG = logging.getLogger(__name__)


class LoopRecorder(Recorder):
    """Tells a run's steps to all who listen, and keeps what the summary at the end says of all starts of a run.

    Attributes:
        times: Of the steps.
        last_loss: Of the last recorded step, the sum of all losses.
        mean_loss: Its mean over the epoch.
        metrics: Of the last evaluation, with its epoch.
        is_resumed: Whether some of it was read back from an earlier start.
        bar: The progress bar, once training begins.
        board: TensorBoard's writer, where it is wanted.
    """

    def __init__(self, path: Path | None, lines: MetricsWriter | None, log_format: str) -> None:
        self.times = StepTimes(global_batch=0)
        self.last_loss: float | None = None
        self.mean_loss: float | None = None
        self.metrics: dict[str, float] | None = None
        self.is_resumed = False
        self.bar: ProgressBar | None = None
        self.board: TensorBoardWriter | None = None
        self._path = path
        self._lines = lines
        self._log_format = log_format

    def remember(self) -> None:
        """Take over what the run's file says of the part before a resume: step times, last loss, last metrics."""
        if self._path is None:
            return
        step = 0
        for line in iterate_metrics(self._path):
            if line.get("kind") == "train":
                numbers, now = numbers_of(line), line.get("step")
                if isinstance(now, int) and now > step and "step_time_s" in numbers:
                    self.times.add(numbers["step_time_s"], now - step)
                    step = now
                    self.is_resumed = True
                if {"loss", "loss_avg"} <= numbers.keys():
                    self.last_loss, self.mean_loss = numbers["loss"], numbers["loss_avg"]
            elif line.get("kind") == "eval":
                self.metrics = numbers_of(line.get("metrics"))

    def start_epoch(self, progress: Progress) -> None:
        """Log the start of an epoch."""
        _LOG.info("Start epoch %d", progress.epoch)

    def tick(self, progress: Progress, lr: float, samples: int, step_time_s: float) -> None:
        """Count the step's time and move the bar."""
        self.times.add(step_time_s)
        if self.bar is not None:
            rate = samples / step_time_s
            self.bar.update(progress.step, epoch=progress.epoch, loss=self.last_loss, lr=lr, samples_per_s=rate)

    def step(self, record: StepRecord) -> None:
        """Log and record the figures of a step."""
        rate = record.samples_per_step / record.step_time_s
        self.last_loss, self.mean_loss = record.losses["loss"]
        if self.bar is not None:
            self.bar.show_loss(self.last_loss)
        line = TrainLine(
            epoch=record.epoch,
            samples=record.epoch_samples,
            samples_per_epoch=record.num_samples,
            percent=100.0 * record.batch / record.num_batches,
            data_time_s=record.data_time_s,
            step_time_s=record.step_time_s,
            samples_per_s=rate,
            samples_per_s_per_device=rate / record.world_size,
            lr=record.lr,
            logit_scale=record.figures.get("logit_scale"),
            losses=record.losses,
        )
        if record.is_logged:
            # A handler of another program writes the step in its own way.
            extra = {**STEP_LINE, "step_record": record}
            _LOG.info("%s", format_train_line(line, self._log_format), extra=extra)
        self._record(record, line)

    def event(self, name: str, *, step: int, **detail: Any) -> None:
        """Log and record a spike or a skipped step."""
        what = "update skipped" if name == "skipped_step" else "training goes on"
        _LOG.warning(
            "step %d (epoch %d, samples %d to %d): %s is out of line, loss %.5g; %s",
            step,
            detail["epoch"],
            detail["first_sample"],
            detail["first_sample"] + detail["num_samples"] - 1,
            detail["reason"],
            detail["loss"],
            what,
        )
        if self._lines is not None:
            self._lines.event(name, step, **detail)

    def rolled_back(self, progress: Progress, *, reason: str, **detail: Any) -> None:
        """Log and record a return to a checkpoint, and forget what is going to be said again."""
        _LOG.warning(
            "%s: going back to step %d (%s) and leaving out %d steps; rollback %d",
            reason,
            progress.step,
            detail["path"],
            len(detail["left_out"]),
            progress.rollbacks,
        )
        if self._lines is not None:
            self._lines.truncate_after(progress.step)
            self.times = StepTimes(self.times.global_batch)
            self.remember()
            self._lines.event("rollback", progress.step, reason=reason, rollbacks=progress.rollbacks, **detail)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _record(self, record: StepRecord, line: TrainLine) -> None:
        others = dict(record.figures)
        fields = {
            "epoch": record.epoch,
            "step": record.step,
            "epoch_step": record.batch,
            "samples_seen": record.samples_seen,
            "lr": record.lr,
            **({"logit_scale": scale} if (scale := others.pop("logit_scale", None)) is not None else {}),
            "loss": record.losses["loss"][0],
            "loss_avg": record.losses["loss"][1],
            "losses": {name: last for name, (last, _) in record.losses.items() if name != "loss"},
            **({"figures": others} if others else {}),
            "data_time_s": round(record.data_time_s, 6),
            "step_time_s": round(record.step_time_s, 6),
            "samples_per_s": line.samples_per_s,
            "samples_per_s_per_device": line.samples_per_s_per_device,
        }
        if self._lines is not None:
            self._lines.write("train", **fields)
        if self.board is not None:
            self.board.write_train(fields)
