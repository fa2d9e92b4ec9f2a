"""What goes along with a training run: saves, evaluations, a trace, a watchdog; to the loop each is a hook.

Every process has the same hooks in the same order, and the loop calls all of them at the same points of a run.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from functools import reduce
from operator import or_

from training.loop.phases import EVALUATION, SAVE


class Wants(Flag):
    """What a hook asks the loop to do after a step inside an epoch."""

    NOTHING = 0
    SAVE = auto()
    EVALUATION = auto()


@dataclass(frozen=True)
class Moment:
    """A point of a run between two steps.

    Attributes:
        epoch: Epochs completed.
        step: Optimizer steps done.
        ends_epoch: Whether an epoch has just been completed.
        is_stopping: Whether the run was asked to stop and ends here.
        is_last: Whether nothing is left to train; the run may end inside an epoch.
    """

    epoch: int
    step: int
    ends_epoch: bool
    is_stopping: bool = False
    is_last: bool = False


class Hook:
    """Goes along with a run; a subclass fills in what it needs, the rest does nothing."""

    def batch_arrived(self) -> None:
        """Hear that the loop takes a batch."""

    def step_done(self, step: int) -> Wants:
        """Hear that a step is done whose numbers may not have reached the host; say what its state is needed for.

        What is asked for inside an epoch is done at the end of one in any case.
        """
        return Wants.NOTHING

    def save(self, moment: Moment) -> None:
        """Save the state of the run where that is due; its numbers are known to be sound."""

    def evaluate(self, moment: Moment) -> None:
        """Evaluate the model where that is due."""

    def during(self, phase: str) -> contextlib.AbstractContextManager[object]:
        """Stand around what takes longer than a step: ``save`` or ``evaluation``."""
        return contextlib.nullcontext()


class Hooks:
    """The hooks of a run, called in their order."""

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = tuple(hooks)

    def batch_arrived(self) -> None:
        """Tell all."""
        for hook in self._hooks:
            hook.batch_arrived()

    def step_done(self, step: int) -> Wants:
        """Tell all, and gather what they want."""
        return reduce(or_, [hook.step_done(step) for hook in self._hooks], Wants.NOTHING)

    def save(self, moment: Moment) -> None:
        """Have all save."""
        with SAVE, self.during("save"):
            for hook in self._hooks:
                hook.save(moment)

    def evaluate(self, moment: Moment) -> None:
        """Have all evaluate."""
        with EVALUATION, self.during("evaluation"):
            for hook in self._hooks:
                hook.evaluate(moment)

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Enter all."""
        with contextlib.ExitStack() as entered:
            for hook in self._hooks:
                entered.enter_context(hook.during(phase))
            yield
