"""What the loop tells about itself; the report room listens, so the loop knows no file format."""

from dataclasses import dataclass
from typing import Any

from training.loop.state import Progress


@dataclass(frozen=True)
class StepRecord:
    """One logged optimizer step.

    Attributes:
        epoch: 0-based epoch.
        batch: Batches of the epoch done, of ``num_batches``.
        step: Optimizer steps done since the start of the run.
        figures: What the recipe reports beside its losses, by name.
        losses: Name to (value, running mean of the epoch); ``loss`` is the sum.
        data_time_s: Mean seconds a step since the last record waited for data.
        step_time_s: Mean wall seconds of a step since the last record.
        samples_per_step: Rows of one optimizer step over all processes.
        is_logged: Whether the step gets a log line too, not only a record of its figures.
    """

    epoch: int
    batch: int
    num_batches: int
    num_samples: int
    step: int
    samples_seen: int
    epoch_samples: int
    lr: float
    figures: dict[str, float]
    losses: dict[str, tuple[float, float]]
    data_time_s: float
    step_time_s: float
    samples_per_step: int
    world_size: int
    is_logged: bool = True


class Recorder:
    """Hears what happens in a run. This one keeps nothing; that of the master process fills in what it tells."""

    def start_epoch(self, progress: Progress) -> None:
        """Hear that an epoch begins or goes on."""

    def tick(self, progress: Progress, lr: float, samples: int, step_time_s: float) -> None:
        """Hear that a step of so many rows was taken, at little cost; its loss may not be known yet."""

    def step(self, record: StepRecord) -> None:
        """Hear the figures of a recorded step."""

    def event(self, name: str, *, step: int, **detail: Any) -> None:
        """Hear of something rare about a step: ``skipped_step`` or ``loss_spike``, and where its samples stand."""

    def rolled_back(self, progress: Progress, *, reason: str, **detail: Any) -> None:
        """Hear that the run went back to the checkpoint whose progress is given."""
