"""Door to ``training.main``: ``python -m open_clip_train.main`` is ``python -m training.main``. No logic."""

from training.main import _leave
from training.main import main as main
from training.main import random_seed as random_seed

if __name__ == "__main__":
    _leave(main())
