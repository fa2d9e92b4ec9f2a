"""What an evaluation is: when it is due, how it measures, what it leaves for the report. Measures nothing itself.

To add one, subclass :class:`Evaluation` and give it in the recipe's ``evaluations``.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from open_clip.errors import ConfigError
from open_clip.transformer.layout import TextShapes
from training.data import Batch
from training.distributed import World, gather_objects
from training.evaluate.parts import Part
from training.evaluate.protocols import EvaluatedTask, Outputs
from training.evaluate.rows import ClassSet, ValidationRows

Autocast = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Occasion:
    """A point of a run at which evaluations may be due.

    Attributes:
        epoch: Completed epochs.
        step: Completed optimizer steps.
        ends_epoch: Whether the last of these steps ended an epoch.
        is_last: Whether nothing is left to train.
    """

    epoch: int
    step: int
    ends_epoch: bool
    is_last: bool


@dataclass(frozen=True)
class Pace:
    """How often something is done; 0 is never.

    Attributes:
        epochs: Epochs from one time to the next.
        steps: Optimizer steps from one time to the next.
    """

    epochs: int = 1
    steps: int = 0

    def falls_on(self, occasion: Occasion) -> bool:
        """Tell whether it is done on an occasion; what is done at all is done at the end of the run too."""
        if occasion.is_last:
            return self.epochs > 0 or self.steps > 0
        if occasion.ends_epoch and self.epochs > 0 and occasion.epoch % self.epochs == 0:
            return True
        return self.steps > 0 and occasion.step % self.steps == 0


@dataclass(frozen=True)
class Measured:
    """What an evaluation found.

    Attributes:
        metrics: Names to figures; each becomes a curve of the report.
        parts: What the report shows of it beside the figures, in this order; needed on the master process only.
        files: Texts by the names of the files that they become in the run folder's ``results``; likewise.
    """

    metrics: Mapping[str, float]
    parts: tuple[Part, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationKit:
    """What the evaluations of a run are made with.

    Attributes:
        world: Place of this process among those that evaluate together.
        autocast: Opens the precision's forward context.
        make_tokenizer: Gives what turns a list of texts into token ids.
        pace: What ``--val-frequency`` and ``--val-every-n-steps`` ask for.
        rows: This process's share of ``--val-data``; None without.
        class_sets: Images sorted by class for zero-shot classification.
        zero_shot_pace: As ``pace``, of ``--zeroshot-frequency``.
        shapes: What of texts is computed, the device's policy; ``bucketed`` also keeps the number of images fixed.
        global_batch: Rows of one loss.
        gallery_size: Examples of each kind that the report shows.
    """

    world: World
    autocast: Autocast
    make_tokenizer: Callable[[], Callable[..., Tensor]]
    pace: Pace = Pace()
    rows: ValidationRows | None = None
    class_sets: tuple[ClassSet, ...] = ()
    zero_shot_pace: Pace = Pace()
    shapes: TextShapes = "padded"
    global_batch: int = 1
    gallery_size: int = 0

    def need_rows(self) -> ValidationRows:
        """Give the validation rows.

        Raises:
            ConfigError: The run has none.
        """
        if self.rows is None:
            raise ConfigError("this evaluation measures on validation rows: give --val-data FILE.")
        return self.rows

    def fill(self, rows: Tensor, number: int) -> Tensor:
        """Repeat the last row up to a full batch where the device compiles every new shape; nothing stays nothing."""
        if self.shapes != "bucketed" or not 0 < len(rows) < number:
            return rows
        return torch.cat([rows, rows[-1:].expand(number - len(rows), *rows.shape[1:])])

    def outputs(self, task: EvaluatedTask) -> Iterator[tuple[Batch, Outputs]]:
        """Run the task on this process's share of the validation rows: each batch, prepared, and its outputs.

        Processes have different numbers of batches, so nothing in between may wait for the others.
        """
        for batch in self.need_rows().batches():
            with self.autocast():
                prepared = task.prepare(batch)
                outputs = task.forward(prepared)
            yield prepared, outputs

    def add_up(self, sums: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Add up the sums of all processes by name; all must call this, also one that had no row."""
        totals: dict[str, float] = {}
        for own in gather_objects({name: float(value) for name, value in sums.items()}, self.world):
            for name, value in own.items():
                totals[name] = totals.get(name, 0.0) + value
        return totals


class Evaluation(ABC):
    """One way to measure what is trained.

    Attributes:
        name: What ``--evaluate`` calls it.
        kit: What it measures with.
        pace: How often it is due.
        is_on_request: Whether it is made only where ``--evaluate`` names it.
    """

    name: str
    is_on_request: bool = False

    def __init__(self, kit: EvaluationKit) -> None:
        self.kit = kit
        self.pace = kit.pace

    def is_due(self, occasion: Occasion) -> bool:
        """Tell whether to measure; the same on all processes."""
        return self.pace.falls_on(occasion)

    @abstractmethod
    def measure(self, task: EvaluatedTask) -> Measured:
        """Measure, all processes together, without gradients; the task's model is bare and in evaluation mode.

        Raises:
            DataError: No row could be read.
        """

    def close(self) -> None:
        """Stop the processes that read data."""
        if self.kit.rows is not None:
            self.kit.rows.close()
