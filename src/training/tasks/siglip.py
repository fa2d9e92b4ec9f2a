"""Training with the sigmoid loss (SigLIP, arXiv 2303.15343)."""

import math
from collections.abc import Mapping

from torch import nn

from open_clip.loss import SigLipLoss
from open_clip.protocols import WritesCaptions
from training.params import RunParams
from training.tasks.base import Setup
from training.tasks.clip import ClipTask, loss_options


class SigLipTask(ClipTask):
    """Train a two-tower model to answer for every image and caption whether they belong together."""

    name = "siglip"

    @classmethod
    def _learns_from_one(cls, params: RunParams) -> bool:
        return True

    @classmethod
    def model_options(cls, params: RunParams) -> Mapping[str, object]:
        """Say where scale and bias start.

        Source: open_clip 3.3.0; section 3.2 of the paper.
        """
        return {"init_logit_scale": math.log(10), "init_logit_bias": -10.0}

    @classmethod
    def why_not(cls, model: nn.Module) -> str | None:
        """Refuse models without a logit bias, and those that write captions."""
        if isinstance(model, WritesCaptions):
            return "it writes captions, which --task coca trains, with CLIP's contrastive loss"
        return "it has no logit bias" if getattr(model, "logit_bias", None) is None else None

    @classmethod
    def build(cls, setup: Setup) -> "SigLipTask":
        """Make it with the sigmoid loss; a flag says how captions travel between processes."""
        options, recipe = loss_options(setup), setup.params.recipe
        ranks = {name: options[name] for name in ("cache_labels", "rank", "world_size")}
        loss = SigLipLoss(**ranks, dist_impl=recipe.loss_dist_impl, chunk_size=recipe.loss_tile_rows)
        return cls(setup.model, loss, **setup.options)
