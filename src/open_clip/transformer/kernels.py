"""The attention kernel: torch's own, or one that was registered for a kind of device. No weights and no projections.

Shapes: B batch, L query positions, S key positions, H heads, K head width; R texts, T tokens of all texts together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.transformer.layout import TextLayout


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attend with q [B, H, L, K] to k and v [B, H, S, K]; arguments as in torch's scaled_dot_product_attention."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal, scale=scale)


def attend_texts(
    q: Tensor, k: Tensor, v: Tensor, layout: TextLayout, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attend causally within each text of a packed layout.

    ``k`` and ``v`` [1, H, T, K] hold the texts one after the other. ``q`` is of that shape too, or it holds the last
    token of each text only, [1, H, R, K].
    """
    return _attend_by_length(q, k, v, layout, dropout_p, scale)


def _attend_by_length(
    q: Tensor, k: Tensor, v: Tensor, layout: TextLayout, dropout_p: float, scale: float | None
) -> Tensor:
    """Run the kernel once for each length; texts of one length are neighbours, so that nothing is copied."""
    is_last_only = q.shape[2] != k.shape[2]
    sizes = [rows * length for rows, length in layout.shapes]
    asked = [rows for rows, _ in layout.shapes] if is_last_only else sizes
    # Splitting, unlike slicing, has a backward pass that puts the parts together in one go.
    parts = [torch.split(x[0].transpose(0, 1), n) for x, n in ((q, asked), (k, sizes), (v, sizes))]
    attended = []
    for (rows, _), *group in zip(layout.shapes, *parts, strict=True):
        one_q, one_k, one_v = (x.unflatten(0, (rows, -1)).transpose(1, 2) for x in group)
        out = attend(one_q, one_k, one_v, None, not is_last_only, dropout_p, scale)
        attended.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended).transpose(0, 1).unsqueeze(0)
