"""One optimizer step, from prepared batches to moved weights, without a host sync."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from training.data import Batch
from training.device import MixedPrecision
from training.loop.accumulate import backward_batches, sum_losses
from training.optim import set_learning_rate
from training.tasks import Outputs, Task


@dataclass(frozen=True)
class StepResult:
    """What a step leaves on the device: named losses and their sum, all detached scalars."""

    losses: Outputs
    total: torch.Tensor


class Stepper:
    """Runs optimizer steps of a task."""

    def __init__(
        self,
        task: Task,
        optimizer: torch.optim.Optimizer,
        mixed: MixedPrecision,
        *,
        grad_clip_norm: float | None = None,
    ) -> None:
        self.task = task
        self.optimizer = optimizer
        self.mixed = mixed
        self.grad_clip_norm = grad_clip_norm

    def step(self, batches: Sequence[Batch], lr: float) -> StepResult:
        """Train on batches that are on the device; together they are one step.

        Args:
            batches: One batch, or several whose rows the loss sees together.
            lr: Learning rate of this step.
        """
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        prepared = [self.task.prepare(batch) for batch in batches]
        losses = backward_batches(self.task, prepared, self.mixed.autocast, self.mixed.backward)
        if self.grad_clip_norm is not None:
            self.mixed.unscale(self.optimizer)
            parameters = self.mixed.parameters_to_clip(self.task.model, self.optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, self.grad_clip_norm)
        self.mixed.step(self.optimizer)
        self.task.after_step()
        return StepResult(losses, sum_losses(losses))
