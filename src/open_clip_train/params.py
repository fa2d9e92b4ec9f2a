"""Door to ``training.params``. No logic."""

from training.params import parse_args as parse_args
