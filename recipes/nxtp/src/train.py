"""Train as a config file says: ./scripts/run train.py configs/config_g3m.py [key=value ...] [--print-config]."""

from training.early_signals import answer_early_signals

if __name__ == "__main__":
    answer_early_signals()  # before the imports that take long

from training.dialects.nxtp import train
from training.main import _leave

if __name__ == "__main__":
    _leave(train())
