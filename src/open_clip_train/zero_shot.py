"""Door to ``training.zero_shot``. No logic."""

from training.zero_shot import accuracy as accuracy
from training.zero_shot import run as run
from training.zero_shot import zero_shot_eval as zero_shot_eval
