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

import torch

import open_clip
from open_clip.checked_json import read_json
from open_clip.files import make_folder, write_whole
from training.assembly import Parts, Place, count_parameters
from training.evaluate import Part, save_parts
from training.loop import Progress, Recorder
from training.params import ReportParams, RunParams
from training.recording import LoopRecorder
from training.report.console import format_eval_line, setup_logging
from training.report.html import write_report
from training.report.jsonl import MetricsWriter, add_result, finite_json, iterate_metrics
from training.report.progress import ProgressBar
from training.report.summary import Summary, format_summary
from training.report.tensorboard import TensorBoardWriter, wants_tensorboard
from training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


class Journal:
    """What the master process says of a run; on the others every method does nothing.

    Attributes:
        recorder: Hears the loop.
    """

    def __init__(self, folder: RunFolder, report: ReportParams, *, is_master: bool) -> None:
        self._folder = folder
        self._is_master = is_master
        self._started = time.monotonic()
        self._world_size = 1
        self._device = ""
        self._progress = Progress()
        self._parts: Parts | None = None
        self._is_training = False
        self._lines = MetricsWriter(folder.metrics) if is_master and folder.metrics is not None else None
        self._loop = LoopRecorder(folder.metrics, self._lines, report.log_format)
        self.recorder: Recorder = self._loop if is_master else Recorder()
        self._wants_board = is_master and folder.tensorboard is not None and wants_tensorboard(report.report_to)

    def begin(
        self, params: RunParams, place: Place, parts: Parts, progress: Progress, resumed_from: Path | None
    ) -> None:
        """Say what is about to run, and forget what a resumed run is going to say again."""
        if not self._is_master:
            return
        global_batch = params.data.batch_size * place.world.world_size * params.optim.accum_freq
        info = place.device.info()
        self._world_size, self._device, self._progress = place.world.world_size, info.name, progress
        self._loop.times.global_batch = global_batch
        self._is_training = parts.train_loader is not None
        self._parts = parts
        # A run that was killed before its first checkpoint starts anew in a folder that has records of it.
        goes_on = resumed_from is not None or params.checkpoint.resume == "latest"
        if self._lines is not None and goes_on:
            # An evaluation repeats no step: what its folder has recorded stays.
            if parts.train_loader is not None:
                self._lines.truncate_after(progress.step)
            self._loop.remember()
        if self._wants_board and self._folder.tensorboard is not None:
            resumed_step = progress.step if goes_on and parts.train_loader is not None else None
            self._loop.board = TensorBoardWriter(self._folder.tensorboard, resumed_step)
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

    def evaluation(self, metrics: dict[str, float], parts: Mapping[str, Sequence[Part]], seconds: float) -> None:
        """Note the metrics after the completed epochs and steps, and what each evaluation shows beside them."""
        if not self._is_master:
            return
        epoch, step = self._progress.epoch, self._progress.step
        # Inside an epoch the step says when; at its end the line is upstream's.
        self._loop.metrics = {**metrics, "epoch": epoch, **({"step": step} if self._progress.batch else {})}
        _LOG.info("%s", format_eval_line(self._loop.metrics, epoch))
        self._keep_result()
        self._keep_parts(parts)
        self.write("eval", epoch=epoch, step=step, metrics=self._loop.metrics, eval_time_s=round(seconds, 3))
        if self._loop.board is not None:
            self._loop.board.write_eval(self._loop.metrics, epoch=epoch, step=step if self._progress.batch else None)

    def _keep_result(self) -> None:
        folder = self._folder.checkpoints
        if folder is None or self._loop.metrics is None:
            return
        try:
            make_folder(folder)
            # First, so that a kill in between has the evaluation done again; of one that was, one line stays.
            add_result(folder / "results.jsonl", self._loop.metrics, replaces=self._is_training)
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

    def write(self, kind: str, **fields: object) -> None:
        """Append a line to metrics.jsonl."""
        if self._lines is not None:
            self._lines.write(kind, **fields)

    def finish(self, status: str, checkpoint: Path | None) -> None:
        """Write summary and report and print the figures that end a run."""
        if not self._is_master:
            return
        root = self._folder.root
        self._loop.close()
        summary: Summary = {
            "status": status,
            "fps": self._loop.times.fps(),
            "fps_all_steps": self._loop.times.fps_all_steps(),
            "steps": self._loop.times.num_steps,
            "epochs": self._progress.epoch,
            "train_time_s": round(self._loop.times.total_s, 3),
            "e2e_time_s": round(time.monotonic() - self._started, 3),
            "loss": self._loop.mean_loss,
            "last_loss": self._loop.last_loss,
            "metrics": self._loop.metrics or {},
            "device": self._device,
            "world_size": self._world_size,
            "global_batch": self._loop.times.global_batch,
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "report": None if root is None else str(root / "report.html"),
            "text_shapes": sorted(self._parts.task.text_shapes) if self._parts is not None else [],
            "skipped_steps": len(self._progress.skipped),
            "rollbacks": self._progress.rollbacks,
            "steps_left_out": len(self._progress.left_out),
            "is_resumed": self._loop.is_resumed,
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
        if self._loop.board is not None:
            self._loop.board.close()


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
