"""Door: what programs import from upstream's training file and that stands here too. The loop is ``training.loop``."""

import torch
from torch import Tensor

from training.distributed import unwrap_model
from training.evaluate import retrieval_metrics

__all__ = ["get_clip_metrics", "unwrap_model"]


def get_clip_metrics(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> dict[str, float]:
    """Rank each row's own pair, both ways, under upstream's names; the scale changes no rank.

    Args:
        image_features: [N, E] normalised.
        text_features: [N, E] normalised; row i belongs to image i.
        logit_scale: read by no one.
    """
    ids = torch.arange(len(image_features), device=image_features.device)
    metrics = retrieval_metrics(image_features, text_features, ids)
    return {name: value for name, value in metrics.items() if name.startswith(("image_to_text_", "text_to_image_"))}
