"""What a recipe must offer the loop: model, losses, what a batch holds, how features are made for evaluation.

A task never opens files, never logs and never steps an optimizer. Its losses come in two kinds. Joint losses see all
rows of a step together, so that a step of several batches caches what they read (:meth:`Task.row_outputs`). Row losses
are sums over rows: those of a step's batches add up, and nothing of them is cached.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from training.data import Batch
from training.optim import WeightAverage

Outputs = dict[str, torch.Tensor]


class Task(ABC):
    """One training recipe.

    Attributes:
        name: What a checkpoint calls it.
        model: The model that is trained; replaced by its wrapper when processes train together.
        average: The moving average of its weights, when the run keeps one.
        text_shapes: (rows, tokens) in which texts without padding were computed so far, where these are to be few.
        encodes_apart: Whether evaluation needs nothing but the features of images and of texts, each made alone.
    """

    name: str
    model: torch.nn.Module
    average: WeightAverage | None = None
    text_shapes: frozenset[tuple[int, int]] = frozenset()
    encodes_apart: bool = False

    @abstractmethod
    def prepare(self, batch: Batch) -> Batch:
        """Normalise a batch that is on the device and cast it to the model's input type."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Run the model on a prepared batch.

        Returns:
            Named outputs; those in :meth:`row_outputs` have one row a sample.
        """

    def fixed_outputs(self, batch: Batch) -> Outputs:
        """Compute what the losses need beside the model's outputs and what never has a gradient; once a batch."""
        return {}

    def step_totals(self, batches: Sequence[Batch]) -> Outputs:
        """Compute what row losses must know of all batches of a step, on all processes."""
        return {}

    @abstractmethod
    def row_outputs(self) -> tuple[str, ...]:
        """Name the outputs that joint losses read row by row; none when no loss couples rows."""

    def encode_rows(self, batch: Batch) -> Outputs:
        """Compute the :meth:`row_outputs` that the model makes, for the cache of a step of several batches."""
        outputs = self.forward(batch)
        return {name: outputs[name] for name in self.row_outputs() if name in outputs}

    @abstractmethod
    def joint_losses(self, outputs: Outputs) -> Outputs:
        """Compute the named losses that see all rows of a step; the loop minimises the sum of all losses."""

    def row_losses(self, outputs: Outputs) -> Outputs:
        """Compute a batch's share of the named losses that are sums over rows."""
        return {}

    def row_metrics(self, outputs: Outputs) -> Outputs:
        """Compute figures of each row, float [B], whose means over the validation rows are reported."""
        return {}

    @abstractmethod
    def clamp(self) -> None:
        """Put parameters back into their allowed range, without a host sync."""

    def after_step(self) -> None:
        """Follow up an optimizer step, without a host sync: bounds first, then the average of the weights."""
        self.clamp()
        if self.average is not None:
            self.average.update()

    @abstractmethod
    def logit_scale(self) -> torch.Tensor:
        """Give the current temperature's inverse, a scalar on the device, for the log."""
