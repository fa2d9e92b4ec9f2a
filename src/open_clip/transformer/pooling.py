"""Turning a sequence into one vector per sample. Norms and projections are the towers' job."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.transformer.attention import MultiHeadAttention
from open_clip.transformer.norms import LayerNorm

# Pool types that read one token, which ends the text.
READ_AT_END = ("argmax", "eos")


def text_global_pool(
    x: Tensor, text: Tensor | None = None, pool_type: str = "argmax", eos_token_id: int | None = None
) -> Tensor:
    """Pick one position of each text.

    Args:
        x: token features [B, L, D].
        text: token ids [B, L]; needed by 'argmax' and 'eos'.
        pool_type: 'first', 'last', 'argmax' (the largest id, which is CLIP's end of text), 'eos' (the first
            ``eos_token_id``) or 'none' (everything).
        eos_token_id: needed by 'eos'.

    Returns:
        [B, D], or ``x`` itself for 'none'.

    Raises:
        ConfigError: unknown pool type, or it needs ids that were not given.
    """
    if pool_type == "first":
        return x[:, 0]
    if pool_type == "last":
        return x[:, -1]
    if pool_type == "none":
        return x
    if pool_type not in READ_AT_END:
        raise ConfigError(f"text pool_type is {pool_type!r}; it can be argmax, eos, last, first or none.")
    if text is None or (pool_type == "eos" and eos_token_id is None):
        raise ConfigError(f"text pool_type {pool_type!r} needs the token ids and, for 'eos', eos_token_id.")
    return x[torch.arange(x.shape[0], device=x.device), find_ends(text, pool_type, eos_token_id or 0)]


def find_ends(text: Tensor, pool_type: str, eos_token_id: int) -> Tensor:
    """Find the position that 'argmax' or 'eos' reads of each text [B, L]: int64 [B]."""
    rank = text if pool_type == "argmax" else torch.eq(text, eos_token_id).int()
    return rank.argmax(dim=-1)


class AttentionalPooler(nn.Module):
    """A few learned queries that read the whole sequence.

    Source: arXiv 2205.01917, section 3.2; parameter names of open_clip 3.3.0.
    """

    def __init__(
        self,
        d_model: int,
        context_dim: int,
        n_head: int = 8,
        n_queries: int = 256,
        norm_layer: Callable[[int], nn.Module] = LayerNorm,
    ) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(n_queries, d_model))
        self.attn = MultiHeadAttention(d_model, n_head, kdim=context_dim, vdim=context_dim)
        self.ln_q = norm_layer(d_model)
        self.ln_k = norm_layer(context_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Read ``x`` [B, L, context] with the queries and return [B, queries, D]."""
        x = self.ln_k(x)
        query = self.ln_q(self.query.to(x.dtype))
        pooled: Tensor = self.attn(query.expand(x.shape[0], -1, -1), x, x, need_weights=False)[0]
        return pooled
