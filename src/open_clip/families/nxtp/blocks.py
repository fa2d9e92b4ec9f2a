"""A block of a LLaMA decoder: attention over rotary positions, and a gated feed-forward part. No tokens and no head.

Shapes: B rows, T positions of one call, K positions seen with those before it, D width, H heads, d head width.
Source: arXiv 2302.13971 (LLaMA), 2104.09864 (rotary positions), 1910.07467 (RMS norm), 2002.05202 (SwiGLU).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.families.nxtp.cache import Cache
from open_clip.transformer.kernels import attend


class RMSNorm(nn.Module):
    """Scales vectors to a mean square of one, in fp32 at least, and gives back the type it was given."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of ``x`` [..., D]."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.rms_norm(wide, self.weight.shape, self.weight.to(wide.dtype), self.eps).to(x.dtype)


# The cosine and the sine of each position and channel, both [B or 1, 1, T, d].
Rotation = tuple[Tensor, Tensor]


def make_rotation(positions: Tensor, head_width: int, base: float, dtype: torch.dtype) -> Rotation:
    """Make the tables that turn queries and keys of a type by their positions (int64 [B or 1, T]), in fp32 at least.

    Channel c of the first half of a head turns with channel c of the second half.
    """
    wide = torch.promote_types(dtype, torch.float32)
    channels = torch.arange(0, head_width, 2, device=positions.device, dtype=wide)
    angles = positions.to(wide)[:, None, :, None] * base ** (-channels / head_width)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn queries or keys [B, H, T, d] by their positions."""
    cosine, sine = (table.to(x.dtype) for table in rotation)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


class SelfAttention(nn.Module):
    """Attention with rotary positions; several query heads may share a head of keys and values."""

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Make queries [B, H, T, d] of ``x`` [B, T, D], and keys and values of as many heads as they have."""
        parts = (proj(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2) for proj in self._projections())
        query, key, value = parts
        return rotate(query, rotation), rotate(key, rotation), value

    def _projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q_proj, self.k_proj, self.v_proj

    def share_heads(self, x: Tensor) -> Tensor:
        """Give each query head its head of keys or values: [B, kv_heads, K, d] as [B, H, K, d]."""
        return x if self.kv_heads == self.heads else x.repeat_interleave(self.heads // self.kv_heads, dim=1)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """Let the positions ``x`` [B, T, D] read what ``mask`` [B or 1, 1, T, K] lets them."""
        query, key, value = self.project(x, rotation)
        if cache is not None:
            key, value = cache.append(layer, key, value)
        attended = attend(query, self.share_heads(key), self.share_heads(value), mask)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class GatedMLP(nn.Module):
    """SwiGLU: a feed-forward part of which one half gates the other."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner_width, bias=False)
        self.up_proj = nn.Linear(width, inner_width, bias=False)
        self.down_proj = nn.Linear(inner_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Change ``x`` [..., D] position by position."""
        changed: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return changed


class DecoderBlock(nn.Module):
    """Attention and feed-forward part, each after a norm and added to what came in."""

    def __init__(self, width: int, heads: int, kv_heads: int, ffn_width: int, norm_eps: float) -> None:
        super().__init__()
        self.norm_1 = RMSNorm(width, norm_eps)
        self.attn = SelfAttention(width, heads, kv_heads)
        self.norm_2 = RMSNorm(width, norm_eps)
        self.mlp = GatedMLP(width, ffn_width)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """Run the block on ``x`` [B, T, D]."""
        x = x + self.attn(self.norm_1(x), rotation, mask, cache, layer)
        changed: Tensor = x + self.mlp(self.norm_2(x))
        return changed
