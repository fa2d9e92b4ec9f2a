"""Door to ``training.logger``. No logic."""

from training.logger import setup_logging as setup_logging
