"""How long a run trains, in steps; an epoch is the steps of one pass over the data."""

import math
from dataclasses import dataclass

from training.params.optim import ScheduleParams


@dataclass(frozen=True)
class Length:
    """The length of a run.

    Attributes:
        steps_per_epoch: Optimizer steps of one pass over the data.
        epochs: Passes over the data, the last of which may be cut off.
        max_steps: Optimizer steps after which the run ends; None ends it with the last epoch.
    """

    steps_per_epoch: int
    epochs: int
    max_steps: int | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.epochs if self.max_steps is None else self.max_steps

    def is_reached(self, epoch: int, step: int) -> bool:
        """Tell whether nothing is left to train after so many whole epochs and optimizer steps.

        Without a number of steps epochs alone decide: a run that goes on with other data counts them on.
        """
        return epoch >= self.epochs if self.max_steps is None else step >= self.max_steps


def make_length(params: ScheduleParams, num_batches: int, accum_freq: int) -> Length:
    """Work out the length that the flags ask for.

    Args:
        params: Names one of epochs and steps.
        num_batches: Batches of an epoch, for each process.
        accum_freq: Batches of an optimizer step; the last of an epoch may have fewer.
    """
    steps_per_epoch = math.ceil(num_batches / accum_freq)
    if params.max_steps is not None:
        return Length(steps_per_epoch, math.ceil(params.max_steps / steps_per_epoch), params.max_steps)
    assert params.epochs is not None
    return Length(steps_per_epoch, params.epochs)
