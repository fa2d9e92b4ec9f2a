"""What the loop tells about itself; the report room listens, so the loop knows no file format."""

from dataclasses import dataclass
from typing import Any, Protocol

from training.loop.state import Progress


@dataclass(frozen=True)
class StepRecord:
    """One logged optimizer step.

    Attributes:
        epoch: 0-based epoch.
        batch: Batches of the epoch done, of ``num_batches``.
        step: Optimizer steps done since the start of the run.
        losses: Name to (value, running mean of the epoch); ``loss`` is the sum.
        data_time_s: Mean seconds a step since the last record waited for data.
        step_time_s: Mean wall seconds of a step since the last record.
        samples_per_step: Rows of one optimizer step over all processes.
    """

    epoch: int
    batch: int
    num_batches: int
    num_samples: int
    step: int
    samples_seen: int
    epoch_samples: int
    lr: float
    logit_scale: float
    losses: dict[str, tuple[float, float]]
    data_time_s: float
    step_time_s: float
    samples_per_step: int
    world_size: int


class Recorder(Protocol):
    """Receives what happens in a run, on the master process."""

    def start_epoch(self, progress: Progress, num_batches: int) -> None:
        """Hear that an epoch begins or goes on."""

    def tick(self, batches: int, step_time_s: float) -> None:
        """Hear that a step was taken, at little cost; its loss may not be known yet."""

    def step(self, record: StepRecord) -> None:
        """Hear the figures of a logged step."""

    def end_epoch(self) -> None:
        """Hear that the epoch's last step is done."""

    def evaluation(self, epoch: int, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Hear the metrics after ``epoch`` completed epochs."""

    def event(self, name: str, **detail: Any) -> None:
        """Hear of something rare: a checkpoint, a resume, an unusable sample, a stop."""


class SilentRecorder:
    """Recorder of every process but the master."""

    def start_epoch(self, progress: Progress, num_batches: int) -> None:
        """Ignore."""

    def tick(self, batches: int, step_time_s: float) -> None:
        """Ignore."""

    def step(self, record: StepRecord) -> None:
        """Ignore."""

    def end_epoch(self) -> None:
        """Ignore."""

    def evaluation(self, epoch: int, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Ignore."""

    def event(self, name: str, **detail: Any) -> None:
        """Ignore."""
