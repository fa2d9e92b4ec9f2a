"""Where a run is: counters and running averages that a checkpoint holds; plain numbers only."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class RunningMean:
    """Weighted mean of a logged value within an epoch."""

    last: float = 0.0
    total: float = 0.0
    weight: float = 0.0

    def update(self, value: float, weight: float) -> None:
        """Add a value that stands for ``weight`` samples; one that is not finite is shown and not averaged."""
        self.last = value
        if not math.isfinite(value):
            return
        self.total += value * weight
        self.weight += weight

    @property
    def mean(self) -> float:
        """Weighted mean so far; 0 before the first value."""
        return self.total / self.weight if self.weight else 0.0


@dataclass
class Progress:
    """Position of a run.

    Attributes:
        epoch: Epochs completed.
        batch: Batches of the current epoch already trained on, for each process.
        step: Optimizer steps since the start of the run.
        samples_seen: Rows trained on since the start, over all processes.
        losses: Running means of the current epoch, by name; ``loss`` is the sum.
        skipped: [epoch, first batch] of each step whose update was skipped.
        skips_in_a_row: Skipped steps since the last that was not.
        left_out: [epoch, first batch] of each step that a rollback leaves out.
        rollbacks: Times the run went back to a checkpoint.
        bad_rows: Unusable rows that all processes met in the current epoch.
        recent_losses: Losses that the next is compared with, oldest first.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples_seen: int = 0
    losses: dict[str, RunningMean] = field(default_factory=dict)
    skipped: list[list[int]] = field(default_factory=list)
    skips_in_a_row: int = 0
    left_out: list[list[int]] = field(default_factory=list)
    rollbacks: int = 0
    bad_rows: int = 0
    recent_losses: list[float] = field(default_factory=list)

    def start_next_epoch(self) -> None:
        """Count the epoch as done and begin the next one."""
        self.epoch += 1
        self.batch = 0
        self.losses = {}

    def become(self, other: "Progress") -> None:
        """Take over another position; who holds this object sees it."""
        for item in fields(self):
            setattr(self, item.name, getattr(other, item.name))

    def state_dict(self) -> dict[str, Any]:
        """Give plain numbers that :meth:`from_state_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Progress":
        """Rebuild a position; keys of newer versions are ignored."""
        known = {item.name for item in fields(cls)}
        values = {key: value for key, value in state.items() if key in known}
        means = {item.name for item in fields(RunningMean)}
        values["losses"] = {
            name: RunningMean(**{key: value for key, value in mean.items() if key in means})
            for name, mean in values.get("losses", {}).items()
        }
        return cls(**values)
