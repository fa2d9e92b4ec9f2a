"""Door: the schedules under upstream's names and signatures; the formulas are in ``training.optim.schedule``."""

from collections.abc import Callable

import torch

from training.optim import constant_schedule, cooldown_schedule, cosine_schedule, set_learning_rate


def assign_learning_rate(optimizer: torch.optim.Optimizer, new_lr: float) -> None:
    """Set the learning rate of every group."""
    set_learning_rate(optimizer, new_lr)


def const_lr(
    optimizer: torch.optim.Optimizer, base_lr: float, warmup_length: int, steps: int
) -> Callable[[int], float]:
    """Give a function that sets and returns the learning rate of a step: warm-up, then constant."""
    return _adjuster(optimizer, constant_schedule(base_lr, warmup_length))


def const_lr_cooldown(
    optimizer: torch.optim.Optimizer,
    base_lr: float,
    warmup_length: int,
    steps: int,
    cooldown_steps: int,
    cooldown_power: float = 1.0,
    cooldown_end_lr: float = 0.0,
) -> Callable[[int], float]:
    """Give a function that sets and returns the learning rate of a step: warm-up, constant, cooldown."""
    return _adjuster(
        optimizer, cooldown_schedule(base_lr, warmup_length, steps, cooldown_steps, cooldown_power, cooldown_end_lr)
    )


def cosine_lr(
    optimizer: torch.optim.Optimizer, base_lr: float, warmup_length: int, steps: int
) -> Callable[[int], float]:
    """Give a function that sets and returns the learning rate of a step: warm-up, then half a cosine."""
    return _adjuster(optimizer, cosine_schedule(base_lr, warmup_length, steps))


def _adjuster(optimizer: torch.optim.Optimizer, lr_at: Callable[[int], float]) -> Callable[[int], float]:
    def adjust(step: int) -> float:
        lr = lr_at(step)
        set_learning_rate(optimizer, lr)
        return lr

    return adjust
