"""The two attention layers of the towers. Masks are made by the callers, residuals by the blocks.

Shapes: B batch, L query positions, S key positions, D width, H heads, K head width, Q positions read.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.transformer.kernels import attend, attend_texts
from open_clip.transformer.layout import TextLayout
from open_clip.transformer.norms import LayerNormFp32
from open_clip.transformer.types import NormLayer


def _check_heads(width: int, num_heads: int) -> None:
    if num_heads < 1 or width % num_heads:
        raise ConfigError(
            f"attention: width {width} cannot be cut into {num_heads} heads; choose a divisor of the width."
        )


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, L, D] -> [B, H, L, K]."""
    return x.reshape(x.shape[0], x.shape[1], num_heads, -1).transpose(1, 2)


def _prepare_mask(attn_mask: Tensor | None, batch_size: int, dtype: torch.dtype) -> Tensor | None:
    """Bring a mask of nn.MultiheadAttention's forms to what broadcasts against [B, H, L, S]."""
    if attn_mask is None:
        return None
    if attn_mask.dim() == 3:
        # nn.MultiheadAttention wants a mask of each head of each row, row after row.
        attn_mask = attn_mask.reshape(batch_size, -1, *attn_mask.shape[1:])
    if attn_mask.dtype == torch.bool:
        # That layer says True where attention is forbidden, the kernels where it is allowed.
        return ~attn_mask
    return attn_mask.to(dtype)


class MultiHeadAttention(nn.MultiheadAttention):
    """torch's layer with the batch first, and a fast way through it when no weights are asked for.

    Query, key and value come from one product when they are the same tensor, and scaled_dot_product_attention may pick
    its fastest kernel, which the float mask of the original rules out. It stays torch's layer for programs that look
    for that class, call it with three tensors, read its parts or put another in its place.
    """

    def __init__(self, embed_dim: int, num_heads: int, kdim: int | None = None, vdim: int | None = None) -> None:
        _check_heads(embed_dim, num_heads)
        super().__init__(embed_dim, num_heads, kdim=kdim, vdim=vdim, batch_first=True)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        layout: TextLayout | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from ``query`` [B, L, D] to ``key`` and ``value`` [B, S, *].

        ``attn_mask``, [L, S] or [B*H, L, S], is added to the scores or, when bool, True where attention is forbidden.
        Without weights and ``key_padding_mask`` it may also be [B, 1, L, S], and with ``is_causal`` each position sees
        itself and what came before and no mask is needed. With a packed ``layout`` the tensors hold its texts one
        after the other, [1, T, *], where the query may be the last token of each text only; no mask, no weights.

        Returns:
            What was read [B, L, D], and the attention weights as torch gives them, or None.
        """
        if need_weights or key_padding_mask is not None:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        q, k, v = self.project(query, key, value)
        if layout is not None:
            return self._project_out(attend_texts(q, k, v, layout)), None
        return self.attend(q, k, v, attn_mask, is_causal), None

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Do the second half of ``forward``: from projected q [B, H, L, K], k and v [B, H, S, K] to [B, L, D]."""
        return self._project_out(attend(q, k, v, _prepare_mask(attn_mask, q.shape[0], q.dtype), is_causal))

    def _project_out(self, attended: Tensor) -> Tensor:
        """[B, H, L, K] -> [B, L, D]."""
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out

    def project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do the first half of ``forward``: project and split into heads, q [B, H, L, K], k and v [B, H, S, K]."""
        if self.in_proj_weight is not None and key is value:
            if key is query:
                q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
            else:
                sizes = [self.embed_dim, 2 * self.embed_dim]
                weights, biases = torch.split(self.in_proj_weight, sizes), torch.split(self.in_proj_bias, sizes)
                q = F.linear(query, weights[0], biases[0])
                k, v = F.linear(key, weights[1], biases[1]).chunk(2, dim=-1)
            return tuple(_split_heads(x, self.num_heads) for x in (q, k, v))  # type: ignore[return-value]
        return self.project_one(query, 0), self.project_one(key, 1), self.project_one(value, 2)

    def project_one(self, x: Tensor, index: int) -> Tensor:
        """Project only as query (index 0), key (1) or value (2): [B, L, *] -> [B, H, L, K]."""
        weights: tuple[Tensor | None, ...] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        weight = weights[index]
        assert weight is not None
        return _split_heads(F.linear(x, weight, self.in_proj_bias.chunk(3)[index]), self.num_heads)


class Attention(nn.Module):
    """Self attention of the custom blocks: norms on q and k, cosine scores, gains per head, a norm before the output.

    Source: open_clip.transformer.Attention (3.3.0).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        scaled_cosine: bool = False,
        scale_heads: bool = False,
        inner_norm: bool = False,
        logit_scale_max: float = math.log(1.0 / 0.01),
        norm_layer: NormLayer = LayerNormFp32,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        _check_heads(dim, num_heads)
        if scaled_cosine and qk_norm:
            raise ConfigError("attention: qk_norm and scaled_cosine_attn both normalise q and k; ask for one of them.")
        self.num_heads = num_heads
        self.scaled_cosine = scaled_cosine
        self.scale_heads = scale_heads
        self.logit_scale_max = logit_scale_max
        self.attn_drop_prob = attn_drop
        head_dim = dim // num_heads
        self.in_proj_weight = nn.Parameter(torch.randn(dim * 3, dim) * head_dim**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(dim * 3)) if qkv_bias else None
        self.ln_q: nn.Module = norm_layer(head_dim) if qk_norm else nn.Identity()
        self.ln_k: nn.Module = norm_layer(head_dim) if qk_norm else nn.Identity()
        self.logit_scale = nn.Parameter(torch.log(10 * torch.ones(num_heads, 1, 1))) if scaled_cosine else None
        self.head_scale = nn.Parameter(torch.ones(num_heads, 1, 1)) if scale_heads else None
        self.ln_inner: nn.Module = norm_layer(dim) if inner_norm else nn.Identity()
        self.out_proj = nn.Linear(dim, dim)
        self.out_drop = nn.Dropout(proj_drop)

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        read_x: Tensor | None = None,
        layout: TextLayout | None = None,
    ) -> Tensor:
        """Attend within ``x`` [B, L, D]; masks and layout as in ``MultiHeadAttention.forward``.

        Given ``read_x`` [B, Q, D], which are some of the positions, only these ask.
        """
        q, k, v = self._project(x, read_x)
        scale = None
        if self.logit_scale is not None:
            # The learned gain stands in place of the kernel's 1 / sqrt(K), at most 100 as CLIP's own scale.
            gain = self.logit_scale.clamp(max=self.logit_scale_max).exp()
            q = (F.normalize(q, dim=-1) * gain).to(v.dtype)
            k = F.normalize(k, dim=-1).to(v.dtype)
            scale = 1.0
        else:
            q, k = self.ln_q(q), self.ln_k(k)
        drop = self.attn_drop_prob if self.training else 0.0
        if layout is None:
            attended = attend(q, k, v, _prepare_mask(attn_mask, x.shape[0], q.dtype), is_causal, drop, scale)
        else:
            attended = attend_texts(q, k, v, layout, drop, scale)
        if self.head_scale is not None:
            attended = (attended * self.head_scale).to(v.dtype)
        out: Tensor = self.out_proj(self.ln_inner(attended.transpose(1, 2).flatten(2)))
        dropped: Tensor = self.out_drop(out)
        return dropped

    def own_matrices(self) -> list[Tensor | None]:
        """List what goes to half precision besides layers."""
        return [self.in_proj_weight, self.in_proj_bias]

    def _project(self, x: Tensor, read_x: Tensor | None) -> tuple[Tensor, ...]:
        if read_x is None:
            parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
            weights = self.in_proj_weight.chunk(3)
            inputs = (read_x, x, x)
            parts = tuple(F.linear(*part) for part in zip(inputs, weights, biases, strict=True))
        return tuple(_split_heads(part, self.num_heads) for part in parts)
