"""Door to ``training.distributed``. No logic."""

from training.distributed import *  # noqa: F403
from training.distributed import __all__ as __all__
