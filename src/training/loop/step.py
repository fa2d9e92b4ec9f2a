"""One optimizer step, from prepared batches to moved weights, without a host sync where the device allows it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from training.data import Batch
from training.device import Device, MixedPrecision
from training.distributed import World, average_gradients, is_sharded
from training.loop.accumulate import backward_batches, sum_losses
from training.loop.guard import StepGuard
from training.loop.phases import BACKWARD, FORWARD, OPTIMIZER
from training.loop.statistics import RunningStatistics
from training.optim import set_learning_rate
from training.tasks import Outputs, Task


@dataclass(frozen=True)
class StepResult:
    """What a step leaves on the device: named losses and their sum, all detached scalars."""

    losses: Outputs
    total: torch.Tensor


class Stepper:
    """Runs optimizer steps of a task.

    Args:
        task: The recipe.
        optimizer: Updates the task's model.
        mixed: The precision of forward, backward and update.
        device: Where the model computes.
        grad_clip_norm: Norm to clip the gradient to; None for no clipping.
        guard: Judges each step before its update; None takes every update.
        begin_step: Hears of each step before its forward pass.
        world: The processes that train together; this one alone by default.
    """

    def __init__(
        self,
        task: Task,
        optimizer: torch.optim.Optimizer,
        mixed: MixedPrecision,
        device: Device,
        *,
        grad_clip_norm: float | None = None,
        guard: StepGuard | None = None,
        begin_step: Callable[[], None] = lambda: None,
        world: World | None = None,
    ) -> None:
        self.task = task
        self.optimizer = optimizer
        self.mixed = mixed
        self.device = device
        self.grad_clip_norm = grad_clip_norm
        self.guard = guard
        self._begin_step = begin_step
        self._world = world or World()
        self._statistics = RunningStatistics(task.trained)

    def step(self, batches: Sequence[Batch], lr: float) -> StepResult:
        """Train on batches that are on the device; together they are one step.

        Args:
            batches: One batch, or several whose rows the loss sees together.
            lr: Learning rate of this step.
        """
        set_learning_rate(self.optimizer, lr)
        self.mixed.clear_gradients(self.optimizer)
        self._begin_step()
        if self.guard is not None:
            # The forward pass moves running statistics before anybody knows whether the step is skipped.
            self._statistics.remember()
        with FORWARD:
            prepared = [self.task.prepare(batch) for batch in batches]
        losses = backward_batches(self.task, prepared, self._forward, self._backward, self.device, self._statistics)
        total = sum_losses(losses)
        with OPTIMIZER:
            if self.task.own is not None:
                # The wrapper of several processes averages the gradients of the model alone.
                average_gradients(self.task.own.parameters(), self._world)
            norm = self._clip()
            skip: torch.Tensor | bool = False
            if self.guard is not None:
                fault = self.mixed.gradient_fault(self.task.trained, self.optimizer, norm)
                skip = self.guard.judge(total, fault, self.optimizer)
                self._statistics.undo(skip)
            self.mixed.step(self.optimizer, skip)
            self.task.after_step()
            self.mixed.keep_bounds()
        return StepResult(losses, total)

    @contextlib.contextmanager
    def _forward(self) -> Iterator[None]:
        with FORWARD, self.mixed.autocast():
            yield

    def _backward(self, loss: torch.Tensor, is_last: bool) -> None:
        with BACKWARD:
            self.mixed.backward(loss, is_last)

    def _clip(self) -> torch.Tensor | None:
        # Of a sharded model each process holds a part of the gradient: only the norm over all shows a fault in it.
        is_spread = is_sharded(self.task.model)
        if self.grad_clip_norm is None and not is_spread:
            return None
        self.mixed.unscale(self.optimizer)
        parameters = self.mixed.parameters_to_clip(self.task.trained, self.optimizer)
        if is_spread:
            from training.distributed.spread_tensors import clip_gradients

            return clip_gradients(parameters, self.grad_clip_norm)
        assert self.grad_clip_norm is not None
        return torch.nn.utils.clip_grad_norm_(parameters, self.grad_clip_norm)
