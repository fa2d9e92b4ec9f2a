"""Gathering features over ranks, with or without gradients. Only called when there is more than one rank."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# The names changed in torch 2.14, which warns of the older ones.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def gather_rows(rows: Tensor, world_size: int) -> Tensor:
    """Return all ranks' rows, [B, E] to [W*B, E], in rank order and without gradient."""
    gathered = rows.new_empty((world_size * len(rows), *rows.shape[1:]))
    _all_gather(gathered, rows.detach().contiguous())
    return gathered


def scatter_sums(rows: Tensor, world_size: int) -> Tensor:
    """Add up all ranks' [W*B, E] and return the B rows that are this rank's: half of what an all-reduce sends."""
    own = rows.new_empty((len(rows) // world_size, *rows.shape[1:]))
    _reduce_scatter(own, rows.contiguous())
    return own


class _Gather(torch.autograd.Function):
    """All ranks' rows, [B, E] to [W*B, E]; backward sums what all ranks send back to this rank's rows.

    torch's own differentiable gather is deprecated in newer releases and its successor is missing in older ones.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, world_size: int) -> Tensor:
        ctx.world_size = world_size
        return gather_rows(features, world_size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return scatter_sums(gradients[0], ctx.world_size), None


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
        images: Tensor = _Gather.apply(image_features, world_size)
        texts: Tensor = _Gather.apply(text_features, world_size)
        return images, texts
    all_images, all_texts = gather_rows(image_features, world_size), gather_rows(text_features, world_size)
    if not local_loss:
        own = len(image_features) * rank
        all_images = torch.cat([all_images[:own], image_features, all_images[own + len(image_features) :]])
        all_texts = torch.cat([all_texts[:own], text_features, all_texts[own + len(text_features) :]])
    return all_images, all_texts
