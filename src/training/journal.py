"""Tell everyone who listens what happens in a run: console, log file, metrics.jsonl, TensorBoard, report.

Only the master process has a journal that speaks. What a line looks like is the report room's business.
"""

import contextlib
import json
import logging
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import open_clip
from open_clip.checked_json import numbers_of, read_json
from open_clip.files import make_folder, write_whole
from training.assembly import Parts, Place, count_parameters
from training.evaluate import Part, save_parts
from training.loop import Progress, Recorder, RunningMean, StepRecord
from training.params import ReportParams, RunParams
from training.report.console import STEP_LINE, TrainLine, format_eval_line, format_train_line, setup_logging
from training.report.html import write_report
from training.report.jsonl import MetricsWriter, add_result, finite_json, iterate_metrics
from training.report.progress import ProgressBar
from training.report.summary import StepTimes, Summary, format_summary
from training.report.tensorboard import TensorBoardWriter, wants_tensorboard
from training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


class Journal:
    """What the master process says of a run; on the others every method does nothing.

    Attributes:
        recorder: Hears the loop.
    """

    def __init__(self, folder: RunFolder, report: ReportParams, *, is_master: bool) -> None:
        self._loop = _LoopRecorder(self, report.log_format)
        self.recorder: Recorder = self._loop if is_master else Recorder()
        self.times = StepTimes(global_batch=0)
        self._folder = folder
        self._is_master = is_master
        self._started = time.monotonic()
        self._world_size = 1
        self._device = ""
        self._progress = Progress()
        self._parts: Parts | None = None
        self._is_training = False
        self._is_resumed = False
        self._metrics: dict[str, float] | None = None
        self._lines = MetricsWriter(folder.metrics) if is_master and folder.metrics is not None else None
        self._wants_board = is_master and folder.tensorboard is not None and wants_tensorboard(report.report_to)
        self._board: TensorBoardWriter | None = None

    def begin(
        self, params: RunParams, place: Place, parts: Parts, progress: Progress, resumed_from: Path | None
    ) -> None:
        """Say what is about to run, and forget what a resumed run is going to say again."""
        if not self._is_master:
            return
        global_batch = params.data.batch_size * place.world.world_size * params.optim.accum_freq
        info = place.device.info()
        self._world_size, self._device, self._progress = place.world.world_size, info.name, progress
        self.times.global_batch = global_batch
        self._is_training = parts.train_loader is not None
        self._parts = parts
        # A run that was killed before its first checkpoint starts anew in a folder that has records of it.
        goes_on = resumed_from is not None or params.checkpoint.resume == "latest"
        if self._lines is not None and goes_on:
            # An evaluation repeats no step: what its folder has recorded stays.
            if parts.train_loader is not None:
                self._lines.truncate_after(progress.step)
            self._remember()
        if self._wants_board and self._folder.tensorboard is not None:
            resumed_step = progress.step if goes_on and parts.train_loader is not None else None
            self._board = TensorBoardWriter(self._folder.tensorboard, resumed_step)
        loader, length = parts.train_loader, parts.length
        if length is not None:
            self._loop.bar = ProgressBar(length.steps, first_step=progress.step, epochs=length.epochs)
        self.write(
            "run",
            schema=1,
            device=vars(info),
            world_size=place.world.world_size,
            global_batch=global_batch,
            precision=parts.mixed.precision.describe(),
            versions={
                "open_clip": open_clip.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            num_parameters=count_parameters(parts),
            train=None if loader is None else {"num_samples": loader.num_samples, "num_batches": loader.num_batches},
            resumed_from=None if resumed_from is None else str(resumed_from),
        )
        if resumed_from is not None:
            self.event("resume", path=str(resumed_from))

    def _remember(self) -> None:
        """Take over what the run's file says of the part before a resume: step times, last loss, last metrics."""
        if self._folder.metrics is None:
            return
        step = 0
        for line in iterate_metrics(self._folder.metrics):
            if line.get("kind") == "train":
                numbers, now = numbers_of(line), line.get("step")
                if isinstance(now, int) and now > step and "step_time_s" in numbers:
                    self.times.add(numbers["step_time_s"], now - step)
                    step = now
                    self._is_resumed = True
                if {"loss", "loss_avg"} <= numbers.keys():
                    self._loop.last_loss = RunningMean(numbers["loss"], numbers["loss_avg"], 1.0)
            elif line.get("kind") == "eval":
                self._metrics = numbers_of(line.get("metrics"))

    def has_evaluation(self, epoch: int, step: int) -> bool:
        """Tell whether the run's file already has the metrics after so many epochs and steps."""
        if self._folder.metrics is None:
            return False
        lines = iterate_metrics(self._folder.metrics, "eval")
        return any((line.get("epoch"), line.get("step")) == (epoch, step) for line in lines)

    def is_told(self) -> bool:
        """Tell whether summary and report of the finished run are there: a kill may come between them and its end."""
        root = self._folder.root
        if root is None or not self._is_master:
            return True
        try:
            is_recorded = any(self._is_end(line) for line in iterate_metrics(root / "metrics.jsonl"))
            summary = read_json(root / "summary.json")
            is_newer = (root / "report.html").stat().st_mtime_ns >= (root / "summary.json").stat().st_mtime_ns
        except (OSError, ValueError):
            return False
        is_end = isinstance(summary, dict) and self._is_end({**summary, "kind": "summary"})
        return is_recorded and is_newer and is_end

    def _is_end(self, record: Mapping[str, object]) -> bool:
        told = record.get("kind"), record.get("status"), record.get("steps")
        return told == ("summary", "finished", self._progress.step)

    def event(self, name: str, **detail: object) -> None:
        """Note something rare."""
        if self._lines is not None:
            self._lines.event(name, self._progress.step, **detail)

    def event_at(self, name: str, step: int, **detail: object) -> None:
        """Note something rare about a step that may be over."""
        if self._lines is not None:
            self._lines.event(name, step, **detail)

    def go_back(self, step: int) -> None:
        """Forget what was recorded past a step: the run takes those steps again."""
        if self._lines is not None:
            self._lines.truncate_after(step)
            self.times = StepTimes(self.times.global_batch)
            self._remember()

    def evaluation(self, metrics: dict[str, float], parts: Mapping[str, Sequence[Part]], seconds: float) -> None:
        """Note the metrics after the completed epochs and steps, and what each evaluation shows beside them."""
        if not self._is_master:
            return
        epoch, step = self._progress.epoch, self._progress.step
        # Inside an epoch the step says when; at its end the line is upstream's.
        self._metrics = {**metrics, "epoch": epoch, **({"step": step} if self._progress.batch else {})}
        _LOG.info("%s", format_eval_line(self._metrics, epoch))
        self._keep_result()
        self._keep_parts(parts)
        self.write("eval", epoch=epoch, step=step, metrics=self._metrics, eval_time_s=round(seconds, 3))
        if self._board is not None:
            self._board.write_eval(self._metrics, epoch=epoch, step=step if self._progress.batch else None)

    def _keep_result(self) -> None:
        folder = self._folder.checkpoints
        if folder is None or self._metrics is None:
            return
        try:
            make_folder(folder)
            # First, so that a kill in between has the evaluation done again; of one that was, one line stays.
            add_result(folder / "results.jsonl", self._metrics, replaces=self._is_training)
        except OSError as error:
            _LOG.error("%s: %s. metrics.jsonl has the figures too.", folder, error.strerror)

    def _keep_parts(self, parts: Mapping[str, Sequence[Part]]) -> None:
        path = self._folder.evaluations
        if path is None:
            return
        try:
            save_parts(path, parts, epoch=self._progress.epoch, step=self._progress.step)
        except OSError as error:
            _LOG.error("%s: %s. The report shows the figures without it.", path, error.strerror or error)

    def step(self, record: StepRecord, line: TrainLine) -> None:
        """Note the figures of a logged step."""
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
        self.write("train", **fields)
        if self._board is not None:
            self._board.write_train(fields)

    def write(self, kind: str, **fields: object) -> None:
        """Append a line to metrics.jsonl."""
        if self._lines is not None:
            self._lines.write(kind, **fields)

    def finish(self, status: str, checkpoint: Path | None) -> None:
        """Write summary and report and print the figures that end a run."""
        if not self._is_master:
            return
        root = self._folder.root
        losses = self._loop.last_loss
        self._loop.close()
        summary: Summary = {
            "status": status,
            "fps": self.times.fps(),
            "fps_all_steps": self.times.fps_all_steps(),
            "steps": self.times.num_steps,
            "epochs": self._progress.epoch,
            "train_time_s": round(self.times.total_s, 3),
            "e2e_time_s": round(time.monotonic() - self._started, 3),
            "loss": None if losses is None else losses.mean,
            "last_loss": None if losses is None else losses.last,
            "metrics": self._metrics or {},
            "device": self._device,
            "world_size": self._world_size,
            "global_batch": self.times.global_batch,
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "report": None if root is None else str(root / "report.html"),
            "text_shapes": sorted(self._parts.task.text_shapes) if self._parts is not None else [],
            "skipped_steps": len(self._progress.skipped),
            "rollbacks": self._progress.rollbacks,
            "steps_left_out": len(self._progress.left_out),
            "is_resumed": self._is_resumed,
            "evaluates": self._parts is not None and bool(self._parts.evaluations),
        }
        if root is not None:
            try:
                self._write_files(root, summary)
            except OSError as error:
                # The checkpoint is what counts; the report can be made again from the run folder.
                _LOG.error("could not write summary and report: %s. `python -m training.report %s`", error, root)
                summary["report"] = None
        # Last: a run that was killed before this line tells its end again, and has it once.
        self.write("summary", **summary)
        _LOG.info("\n%s", format_summary(summary))

    def _write_files(self, root: Path, summary: Summary) -> None:
        write_whole(root / "summary.json", json.dumps(finite_json(summary), indent=2) + "\n")
        write_report(root)

    def close(self) -> None:
        """Close the bar and the files."""
        self._loop.close()
        if self._lines is not None:
            self._lines.close()
        if self._board is not None:
            self._board.close()


class _LoopRecorder(Recorder):
    """Turns what the loop tells into log lines, the progress bar and the journal's files."""

    def __init__(self, journal: Journal, log_format: str) -> None:
        self.journal = journal
        self.log_format = log_format
        self.last_loss: RunningMean | None = None
        self.bar: ProgressBar | None = None

    def start_epoch(self, progress: Progress) -> None:
        """Log the start of an epoch."""
        _LOG.info("Start epoch %d", progress.epoch)

    def tick(self, progress: Progress, lr: float, samples: int, step_time_s: float) -> None:
        """Count the step's time and move the bar."""
        self.journal.times.add(step_time_s)
        if self.bar is not None:
            loss = None if self.last_loss is None else self.last_loss.last
            self.bar.update(progress.step, epoch=progress.epoch, loss=loss, lr=lr, samples_per_s=samples / step_time_s)

    def step(self, record: StepRecord) -> None:
        """Log a step."""
        rate = record.samples_per_step / record.step_time_s
        last, mean = record.losses["loss"]
        self.last_loss = RunningMean(last, mean, 1.0)
        if self.bar is not None:
            self.bar.show_loss(last)
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
            _LOG.info("%s", format_train_line(line, self.log_format), extra=STEP_LINE)
        self.journal.step(record, line)

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
        self.journal.event_at(name, step, **detail)

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
        self.journal.go_back(progress.step)
        self.journal.event("rollback", reason=reason, rollbacks=progress.rollbacks, **detail)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


@contextlib.contextmanager
def open_journal(report: ReportParams, place: Place) -> Iterator[Journal]:
    """Open logging and the journal of a process, and close them whatever happens."""
    world, folder = place.world, place.folder
    log_path = folder.log if world.is_master else None
    if report.log_local and world.local_rank == 0 and not world.is_master and folder.root is not None:
        log_path = folder.root / f"out-{world.rank}.log"
    setup_logging(log_path, logging.DEBUG if report.debug else logging.INFO, rank=world.rank)
    journal = Journal(folder, report, is_master=world.is_master)
    try:
        yield journal
    finally:
        journal.close()
