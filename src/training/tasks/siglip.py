"""Training with the sigmoid loss (SigLIP, arXiv 2303.15343)."""

import math
from typing import Any

import torch

from open_clip.errors import ConfigError
from open_clip.loss import SigLipLoss
from training.distributed import unwrap_model
from training.tasks.clip import ClipTask

# Where scale and bias start, by the names of the model's arguments. Source: open_clip 3.3.0; section 3.2 of the paper.
SIGLIP_START = {"init_logit_scale": math.log(10), "init_logit_bias": -10.0}


class SigLipTask(ClipTask):
    """Train a two-tower model to answer for every image and caption whether they belong together.

    The model needs a ``logit_bias``; ``loss`` says how captions travel between processes.

    Raises:
        ConfigError: the model has no bias.
    """

    name = "siglip"

    def __init__(self, model: torch.nn.Module, loss: SigLipLoss, **options: Any) -> None:
        super().__init__(model, loss, **options)
        if getattr(unwrap_model(model), "logit_bias", None) is None:
            raise ConfigError("--siglip needs a model with a logit bias, and this one has none; leave --siglip out.")
