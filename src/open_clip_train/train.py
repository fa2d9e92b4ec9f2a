"""Door to ``training.train``. No logic."""

from training.train import get_clip_metrics as get_clip_metrics
from training.train import unwrap_model as unwrap_model
