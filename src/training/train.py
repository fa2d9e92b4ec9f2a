"""Door: what programs with a loop of their own import from upstream's training file. Our loop is ``training.loop``."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.distributed import unwrap_model
from training.evaluate import retrieval_metrics

__all__ = [
    "AverageMeter",
    "backward",
    "get_clip_metrics",
    "maybe_compute_generative_loss",
    "postprocess_clip_output",
    "unwrap_model",
]


class AverageMeter:
    """The last value seen (``val``) and the mean of all since the last reset (``avg``), with ``sum`` and ``count``."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.val: float = 0
        self.avg: float = 0
        self.sum: float = 0
        self.count: int = 0

    def update(self, val: float, n: int = 1) -> None:
        """See a value that stands for ``n`` samples."""
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def backward(total_loss: Tensor, scaler: Any) -> None:
    """Run the backward pass, through the gradient scaler when there is one."""
    (total_loss if scaler is None else scaler.scale(total_loss)).backward()


def postprocess_clip_output(model_out: Sequence[Tensor]) -> dict[str, Tensor]:
    """Name what a model that returns a tuple returned: image_features, text_features, logit_scale."""
    return dict(zip(("image_features", "text_features", "logit_scale"), model_out, strict=False))


def maybe_compute_generative_loss(model_out: Mapping[str, Tensor]) -> Tensor | None:
    """Return the cross entropy of CoCa's ``logits`` [B, L, V] for ``labels`` [B, L]; None when they are not there."""
    if "logits" not in model_out or "labels" not in model_out:
        return None
    return F.cross_entropy(model_out["logits"].flatten(0, 1), model_out["labels"].flatten())


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
