"""Door to ``training.params``. No logic."""

from training.params import ParseKwargs as ParseKwargs
from training.params import get_default_params as get_default_params
from training.params import parse_args as parse_args
