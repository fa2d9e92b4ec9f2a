"""Gathering features over ranks, with or without gradients. Only called when there is more than one rank."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def _gather_detached(features: Tensor, world_size: int) -> list[Tensor]:
    gathered = [torch.zeros_like(features) for _ in range(world_size)]
    dist.all_gather(gathered, features.detach().contiguous())
    return gathered


class _Gather(torch.autograd.Function):
    """All ranks' rows, [B, E] to [W*B, E]; backward sums what all ranks send back to this rank's rows.

    torch's own differentiable gather is deprecated in newer releases and its successor is missing in older ones.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, rank: int, world_size: int) -> Tensor:
        ctx.rank = rank
        return torch.cat(_gather_detached(features, world_size))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        rows = len(total) // dist.get_world_size()
        return total[ctx.rank * rows : (ctx.rank + 1) * rows], None, None


def gather_features(
    image_features: Tensor,
    text_features: Tensor,
    local_loss: bool = False,
    gather_with_grad: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[Tensor, Tensor]:
    """Concatenate the features [B, E] of all ranks to [W*B, E], in rank order.

    With ``gather_with_grad`` gradients flow back to the ranks the copies came from. Without it the copies carry none,
    but for this rank's slot, which is its live tensor unless ``local_loss`` scores the rank's own rows only.

    Source: open_clip.loss.gather_features (3.3.0).
    """
    if gather_with_grad:
        images: Tensor = _Gather.apply(image_features, rank, world_size)
        texts: Tensor = _Gather.apply(text_features, rank, world_size)
        return images, texts
    all_images = _gather_detached(image_features, world_size)
    all_texts = _gather_detached(text_features, world_size)
    if not local_loss:
        all_images[rank] = image_features
        all_texts[rank] = text_features
    return torch.cat(all_images), torch.cat(all_texts)
