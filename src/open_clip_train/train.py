"""Door to ``training.train``. No logic."""

from training.train import AverageMeter as AverageMeter
from training.train import backward as backward
from training.train import get_clip_metrics as get_clip_metrics
from training.train import maybe_compute_generative_loss as maybe_compute_generative_loss
from training.train import postprocess_clip_output as postprocess_clip_output
from training.train import unwrap_model as unwrap_model
