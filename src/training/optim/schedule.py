"""Learning rate as a pure function of the optimizer step.

Source of the formulas: open_clip 3.3.0, ``scheduler.py``.
"""

import math
from collections.abc import Callable

from training.optim.length import Length
from training.params.optim import ScheduleParams

Schedule = Callable[[int], float]


def cosine_schedule(base_lr: float, warmup: int, total_steps: int, min_lr: float = 0.0) -> Schedule:
    """Rise linearly over ``warmup`` steps, then fall along half a cosine to ``min_lr`` at ``total_steps``, and stay.

    Source of the floor: MAE, ``util/lr_sched.py``.
    """

    def lr_at(step: int) -> float:
        if step < warmup:
            return _warmup_lr(base_lr, warmup, step)
        # A run that goes on with fewer steps an epoch may be past the last, where a cosine would rise again.
        progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
        return min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (base_lr - min_lr)

    return lr_at


def constant_schedule(base_lr: float, warmup: int) -> Schedule:
    """Rise linearly over ``warmup`` steps, then stay."""
    return lambda step: _warmup_lr(base_lr, warmup, step) if step < warmup else base_lr


def cooldown_schedule(
    base_lr: float, warmup: int, total_steps: int, cooldown_steps: int, power: float = 1.0, end_lr: float = 0.0
) -> Schedule:
    """Rise, stay, and fall to ``end_lr`` by a polynomial over the last ``cooldown_steps``."""
    start = total_steps - cooldown_steps

    def lr_at(step: int) -> float:
        if step < warmup:
            return _warmup_lr(base_lr, warmup, step)
        if step < start:
            return base_lr
        # Past the last step, too: no root of less than nothing.
        decay: float = max(0.0, 1 - (step - start) / max(total_steps - start, 1)) ** power
        return decay * (base_lr - end_lr) + end_lr

    return lr_at


def count_warmup(params: ScheduleParams, total_steps: int) -> int:
    """Count the steps of warm-up of a run of ``total_steps``: those asked for or the share, whichever is more."""
    return max(params.warmup or 0, round((params.lr_warmup_share or 0.0) * total_steps))


def build_schedule(params: ScheduleParams, base_lr: float, length: Length) -> Schedule:
    """Make the schedule the flags ask for; a function of the step alone, so resuming needs no state."""
    warmup = count_warmup(params, length.steps)
    if params.skip_scheduler:
        return lambda step: base_lr
    if params.lr_scheduler == "cosine":
        return cosine_schedule(base_lr, warmup, length.steps, params.min_lr)
    if params.lr_scheduler == "const":
        return constant_schedule(base_lr, warmup)
    cooldown_steps = length.steps_per_epoch * (params.epochs_cooldown or 0)
    return cooldown_schedule(
        base_lr, warmup, length.steps, cooldown_steps, params.lr_cooldown_power, params.lr_cooldown_end
    )


def _warmup_lr(base_lr: float, warmup: int, step: int) -> float:
    return base_lr * (step + 1) / warmup
