"""Where a run is: counters and running averages that a checkpoint holds; plain numbers only."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass
class RunningMean:
    """Weighted mean of a logged value within an epoch."""

    last: float = 0.0
    total: float = 0.0
    weight: float = 0.0

    def update(self, value: float, weight: float) -> None:
        """Add a value that stands for ``weight`` samples."""
        self.last = value
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
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples_seen: int = 0
    losses: dict[str, RunningMean] = field(default_factory=dict)

    def start_next_epoch(self) -> None:
        """Count the epoch as done and begin the next one."""
        self.epoch += 1
        self.batch = 0
        self.losses = {}

    def state_dict(self) -> dict[str, Any]:
        """Give plain numbers that :meth:`from_state_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Self:
        """Rebuild a position; keys of newer versions are ignored."""
        known = {item.name for item in fields(cls)}
        values = {key: value for key, value in state.items() if key in known}
        values["losses"] = {name: RunningMean(**mean) for name, mean in values.get("losses", {}).items()}
        return cls(**values)
