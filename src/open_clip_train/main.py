"""Door to ``training.main``: ``python -m open_clip_train.main`` is ``python -m training.main``. No logic."""

from training.early_signals import answer_early_signals

if __name__ == "__main__":
    answer_early_signals()  # before the imports that take long

from training.main import LATEST_CHECKPOINT_NAME as LATEST_CHECKPOINT_NAME
from training.main import _leave
from training.main import get_latest_checkpoint as get_latest_checkpoint
from training.main import main as main
from training.main import natural_key as natural_key
from training.main import random_seed as random_seed

if __name__ == "__main__":
    _leave(main())
