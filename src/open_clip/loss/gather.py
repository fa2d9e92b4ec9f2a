"""Gathering features over ranks, with or without gradients. Only called when there is more than one rank."""

import torch
import torch.distributed as dist
from torch import Tensor


def _gather_detached(features: Tensor, world_size: int) -> list[Tensor]:
    gathered = [torch.zeros_like(features) for _ in range(world_size)]
    dist.all_gather(gathered, features.detach().contiguous())
    return gathered


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
        # Imported late: it drags in the rpc package, which single-process users need not pay for.
        from torch.distributed.nn.functional import all_gather

        images: tuple[Tensor, ...] = all_gather(image_features.contiguous())  # type: ignore[no-untyped-call]
        texts: tuple[Tensor, ...] = all_gather(text_features.contiguous())  # type: ignore[no-untyped-call]
        return torch.cat(images), torch.cat(texts)
    all_images = _gather_detached(image_features, world_size)
    all_texts = _gather_detached(text_features, world_size)
    if not local_loss:
        all_images[rank] = image_features
        all_texts[rank] = text_features
    return torch.cat(all_images), torch.cat(all_texts)
