"""Optimizer and learning-rate schedule."""

from training.optim.average import WeightAverage
from training.optim.build import build_optimizer, load_optimizer_state, set_learning_rate
from training.optim.groups import State, parameter_groups
from training.optim.length import Length, make_length
from training.optim.rows import train_only_rows
from training.optim.schedule import build_schedule, constant_schedule, cooldown_schedule, cosine_schedule, count_warmup
from training.optim.state import fit_optimizer_state

__all__ = [
    "Length",
    "State",
    "WeightAverage",
    "build_optimizer",
    "build_schedule",
    "constant_schedule",
    "cooldown_schedule",
    "cosine_schedule",
    "count_warmup",
    "fit_optimizer_state",
    "load_optimizer_state",
    "make_length",
    "parameter_groups",
    "set_learning_rate",
    "train_only_rows",
]
