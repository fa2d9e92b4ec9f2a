"""CoCa's caption decoder: causal blocks over text tokens, each followed by one that reads the image's tokens.

The tokens come from the text tower; choosing words from the scores is ``open_clip.generation``'s job.
Shapes: B batch, L text tokens, S image tokens, D width, V vocabulary.
"""

from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from open_clip.errors import ConfigError
from open_clip.transformer.blocks import ResidualAttentionBlock
from open_clip.transformer.norms import LayerNorm
from open_clip.transformer.stack import Transformer
from open_clip.transformer.text import causal_mask
from open_clip.transformer.types import ActLayer, NormLayer


class MultimodalTransformer(Transformer):
    """Decoder whose self attention and cross attention blocks take turns; ``output_dim`` is the vocabulary's size.

    Source: open_clip.transformer.MultimodalTransformer (3.3.0): names, shapes and the draws of its blocks. Upstream
    leaves ``text_projection`` as the memory happened to be; here it is drawn, after everything else.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        context_length: int = 77,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: ActLayer = nn.GELU,
        norm_layer: NormLayer = LayerNorm,
        output_dim: int = 512,
        batch_first: bool = True,
    ) -> None:
        super().__init__(width, layers, heads, mlp_ratio, ls_init_value, act_layer, norm_layer)
        if not batch_first:
            raise ConfigError("batch_first=False: inputs are [batch, tokens, width] here; transpose them.")
        self.context_length = context_length
        self.cross_attn = nn.ModuleList(
            ResidualAttentionBlock(
                width, heads, mlp_ratio, ls_init_value, act_layer, norm_layer, is_cross_attention=True
            )
            for _ in range(layers)
        )
        self.register_buffer("attn_mask", causal_mask(context_length), persistent=False)
        self.ln_final = norm_layer(width)
        # A plain product, no layer: weights of CoCa keep the matrix as [D, V].
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, output_dim))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block in the backward pass."""
        self.grad_checkpointing = enable

    def own_matrices(self) -> list[Tensor | None]:
        """List what goes to half precision besides layers."""
        return [self.text_projection]

    def _run_cross(self, block: nn.Module, x: Tensor, image_embs: Tensor) -> Tensor:
        out: Tensor
        if self.grad_checkpointing and torch.is_grad_enabled():
            out = checkpoint(block, x, image_embs, image_embs, use_reentrant=False)
        else:
            out = block(x, image_embs, image_embs)
        return out

    def to_logits(self, x: Tensor) -> Tensor:
        """Turn block outputs [B, L, D] into scores of the next token [B, L, V]."""
        normed: Tensor = self.ln_final(x)
        return normed @ self.text_projection

    def forward(self, image_embs: Tensor, text_embs: Tensor) -> Tensor:  # type: ignore[override]
        """Score the token after each of ``text_embs`` [B, L, D], given image tokens [B, S, D]: [B, L, V].

        Raises:
            ConfigError: there are more tokens than the context takes.
        """
        if text_embs.shape[1] > self.context_length:
            raise ConfigError(
                f"the text has {text_embs.shape[1]} tokens, but the decoder takes {self.context_length}; "
                "tokenise with the model's context_length."
            )
        x = text_embs
        for block, cross_block in zip(self.resblocks, self.cross_attn, strict=True):
            x = self._run_block(block, x, None, is_causal=True)
            x = self._run_cross(cross_block, x, image_embs)
        return self.to_logits(x)

    def forward_intermediates(self, *args: object, **kwargs: object) -> NoReturn:
        """Refuse: the stack's intermediate outputs are not defined where two kinds of blocks take turns.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("the caption decoder has no forward_intermediates; the image and text towers have.")
