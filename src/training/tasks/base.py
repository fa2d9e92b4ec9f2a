"""What a recipe must offer the loop: model, loss, what a batch holds, how features are made for evaluation.

A task never opens files, never logs and never steps an optimizer.
"""

from abc import ABC, abstractmethod

import torch

from training.data import Batch

Outputs = dict[str, torch.Tensor]


class Task(ABC):
    """One training recipe.

    Attributes:
        model: The model that is trained; replaced by its wrapper when processes train together.
    """

    model: torch.nn.Module

    @abstractmethod
    def prepare(self, batch: Batch) -> Batch:
        """Normalise a batch that is on the device and cast it to the model's input type."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Run the model on a prepared batch.

        Returns:
            Named outputs; those in :meth:`row_outputs` have one row a sample.
        """

    @abstractmethod
    def row_outputs(self) -> tuple[str, ...]:
        """Name the outputs that hold one row a sample: what gradient accumulation caches and joins."""

    @abstractmethod
    def losses(self, outputs: Outputs) -> Outputs:
        """Compute the named losses of a batch; the loop minimises their sum."""

    @abstractmethod
    def after_step(self) -> None:
        """Put parameters back into their allowed range after an optimizer step, without a host sync."""

    @abstractmethod
    def logit_scale(self) -> torch.Tensor:
        """Give the current temperature's inverse, a scalar on the device, for the log."""
