"""Door to ``training.precision``. No logic."""

from training.precision import get_autocast as get_autocast
