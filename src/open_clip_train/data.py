"""Door to ``training.data``. No logic."""

from training.data import *  # noqa: F403
from training.data import __all__ as __all__
