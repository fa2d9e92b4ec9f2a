"""The native image tower: a ViT as CLIP uses it. Preprocessing is ``open_clip.transform``'s job.

Shapes: B batch, P patches, W width, E output width.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.transformer.freezing import LayerGroup, unlock_last_groups
from open_clip.transformer.norms import LayerNorm
from open_clip.transformer.patches import PatchDropout, check_images, expand_token, sin_cos_2d
from open_clip.transformer.pooling import AttentionalPooler
from open_clip.transformer.reading import has_own_hooks
from open_clip.transformer.stack import Transformer
from open_clip.transformer.types import ActLayer, Intermediates, NormLayer
from open_clip.tuples import to_pair


class VisionTransformer(nn.Module):
    """Vision transformer with a class token, of which the pooled vector is projected to the embedding width."""

    def __init__(
        self,
        image_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        ls_init_value: float | None = None,
        attentional_pool: bool | str = False,
        attn_pooler_queries: int = 256,
        attn_pooler_heads: int = 8,
        output_dim: int = 512,
        patch_dropout: float = 0.0,
        no_ln_pre: bool = False,
        pos_embed_type: str = "learnable",
        pool_type: str = "tok",
        final_ln_after_pool: bool = False,
        act_layer: ActLayer = nn.GELU,
        norm_layer: NormLayer = LayerNorm,
        output_tokens: bool = False,
        **block_options: Any,
    ) -> None:
        super().__init__()
        if pool_type not in ("tok", "avg", "none"):
            raise ConfigError(f"image pool_type is {pool_type!r}; it can be tok, avg or none.")
        self.output_tokens = output_tokens
        self.image_size = to_pair(image_size)
        self.patch_size = to_pair(patch_size)
        self.grid_size = (self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1])
        self.final_ln_after_pool = final_ln_after_pool
        self.output_dim = output_dim
        self.pool_type = pool_type
        self.has_fixed_positions = pos_embed_type == "sin_cos_2d"
        # The order of the draws below is part of the contract: a seed gives the weights upstream gives.
        self.conv1 = nn.Conv2d(3, width, kernel_size=self.patch_size, stride=self.patch_size, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = self._make_positions(pos_embed_type, width)
        self.patch_dropout: nn.Module = PatchDropout(patch_dropout) if patch_dropout > 0.0 else nn.Identity()
        self.ln_pre: nn.Module = nn.Identity() if no_ln_pre else norm_layer(width)
        self.transformer = Transformer(
            width, layers, heads, mlp_ratio, ls_init_value, act_layer, norm_layer, **block_options
        )
        pool_width = self._make_poolers(attentional_pool, attn_pooler_queries, attn_pooler_heads, width)
        self.ln_post = norm_layer(pool_width)
        self.proj: nn.Parameter | None = nn.Parameter(width**-0.5 * torch.randn(pool_width, output_dim))

    def _make_positions(self, pos_embed_type: str, width: int) -> nn.Parameter:
        num_patches = self.grid_size[0] * self.grid_size[1]
        if pos_embed_type == "learnable":
            return nn.Parameter(width**-0.5 * torch.randn(num_patches + 1, width))
        if pos_embed_type != "sin_cos_2d":
            raise ConfigError(f"pos_embed_type is {pos_embed_type!r}; it can be learnable or sin_cos_2d.")
        if self.grid_size[0] != self.grid_size[1]:
            raise ConfigError(f"pos_embed_type 'sin_cos_2d' needs a square image; the grid is {self.grid_size}.")
        return nn.Parameter(sin_cos_2d(width, self.grid_size[0], has_class_token=True), requires_grad=False)

    def _make_poolers(self, kind: bool | str, num_queries: int, num_heads: int, width: int) -> int:
        """Build the attentional poolers asked for and return the width of what they give."""
        self.attn_pool: AttentionalPooler | None = None
        self.attn_pool_contrastive: AttentionalPooler | None = None
        self.attn_pool_type = kind if isinstance(kind, str) else ""
        if not kind:
            return width
        if self.attn_pool_type not in ("", "parallel", "cascade"):
            raise ConfigError(f"attentional_pool is {kind!r}; it can be true, false, 'parallel' or 'cascade'.")
        self.attn_pool = AttentionalPooler(self.output_dim, width, n_head=num_heads, n_queries=num_queries)
        if self.attn_pool_type:
            if width != self.output_dim:
                raise ConfigError(
                    f"attentional_pool {kind!r} needs embed_dim ({self.output_dim}) and width ({width}) equal."
                )
            self.pool_type = "none"
            self.attn_pool_contrastive = AttentionalPooler(self.output_dim, width, n_head=num_heads, n_queries=1)
        return self.output_dim

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the tower but for its last ``unlocked_groups`` groups.

        From the end: the projection, the last block with its norm, each block before, then what makes the embeddings.
        ``freeze_bn_stats`` is for towers that have batch norms; this one has none.
        """
        self.requires_grad_(False)
        unlock_last_groups(self.layer_groups(), unlocked_groups)

    def layer_groups(self) -> list[LayerGroup]:
        """List the tower's parts from the input to the output, for freezing and for learning rates by depth."""
        blocks = list(self.transformer.resblocks)
        positions = None if self.has_fixed_positions else self.positional_embedding
        stem: LayerGroup = [self.conv1, self.class_embedding, positions, self.ln_pre]
        middle: list[LayerGroup] = [[block] for block in blocks[:-1]]
        return [stem, *middle, [blocks[-1], self.ln_post], [self.proj]]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block in the backward pass."""
        self.transformer.grad_checkpointing = enable

    def own_matrices(self) -> list[Tensor | None]:
        """List what goes to half precision besides layers."""
        return [self.proj]

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay should leave alone."""
        return {"positional_embedding", "class_embedding"}

    def _embeds(self, x: Tensor) -> Tensor:
        """Turn images [B, 3, H, W] into what enters the first block, [B, 1 + P, width]."""
        num_channels = getattr(self.conv1, "in_channels", None)
        check_images(x, num_channels, self.image_size, self.patch_size, len(self.positional_embedding))
        x = self.conv1(x).flatten(2).transpose(1, 2)
        class_token = expand_token(self.class_embedding.to(x.dtype), x.shape[0])
        x = torch.cat([class_token, x], dim=1) + self.positional_embedding.to(x.dtype)
        x = self.patch_dropout(x)
        embedded: Tensor = self.ln_pre(x)
        return embedded

    def _global_pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.pool_type == "avg":
            return x[:, 1:].mean(dim=1), x[:, 1:]
        if self.pool_type == "tok":
            return x[:, 0], x[:, 1:]
        return x, x

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pool block outputs [B, 1 + P, width] into ([B, pool width], tokens), not yet projected."""
        # The norm stands where the weights were trained with it: before a pair of poolers, behind a single one, and
        # without a pooler on either side of the pooling.
        if self.attn_pool is not None and self.attn_pool_contrastive is not None:
            x = self.ln_post(x)
            tokens: Tensor = self.attn_pool(x)
            source = x if self.attn_pool_type == "parallel" else tokens
            return self.attn_pool_contrastive(source), tokens
        if self.attn_pool is not None:
            return self._global_pool(self.ln_post(self.attn_pool(x)))
        if self.final_ln_after_pool:
            pooled, tokens = self._global_pool(x)
            return self.ln_post(pooled), tokens
        return self._global_pool(self.ln_post(x))

    def _reads_class_token(self) -> bool:
        """Tell whether the last block's class token is all that is used, and no program's hook waits for the rest."""
        if self.pool_type != "tok" or self.attn_pool is not None or self.output_tokens:
            return False
        return not has_own_hooks((self.transformer, self.ln_post))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Encode images [B, 3, H, W] as [B, E], with ``output_tokens`` as a pair with the unpooled tokens."""
        pooled, tokens = self._pool(self.transformer(self._embeds(x), read=0 if self._reads_class_token() else None))
        if self.proj is not None:
            pooled = pooled @ self.proj
        return (pooled, tokens) if self.output_tokens else pooled

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """Encode images and collect the outputs of some blocks.

        Args:
            x: images [B, 3, H, W].
            indices: None = all, n = the last n, a list = those (negatives from the end).
            stop_early: skip the blocks after the last one collected.
            normalize_intermediates: pass what is collected through the final norm.
            intermediates_only: leave ``image_features`` out.
            output_fmt: 'NCHW' gives [B, W, rows, columns] without the class token, 'NLC' [B, P, W].
            output_extra_tokens: also return the class tokens as ``image_intermediates_prefix``.

        Raises:
            ConfigError: unknown format, or a block that does not exist.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ConfigError(f"image_output_fmt is {output_fmt!r}; it can be NCHW or NLC.")
        if output_fmt == "NCHW" and self.training and isinstance(self.patch_dropout, PatchDropout):
            raise ConfigError("image_output_fmt NCHW needs all patches; call eval() first or ask for NLC.")
        height, width = x.shape[-2] // self.patch_size[0], x.shape[-1] // self.patch_size[1]
        last, collected = self.transformer.forward_intermediates(self._embeds(x), None, indices, stop_early)
        if normalize_intermediates:
            if self.attn_pool is not None and self.output_dim != self.transformer.width:
                raise ConfigError("normalize_intermediates: the norm of this tower fits its pooled vectors only.")
            collected = [self.ln_post(tokens) for tokens in collected]
        patches = [tokens[:, 1:] for tokens in collected]
        if output_fmt == "NCHW":
            patches = [tokens.transpose(1, 2).reshape(x.shape[0], -1, height, width) for tokens in patches]
        output: Intermediates = {"image_intermediates": patches}
        if output_extra_tokens:
            output["image_intermediates_prefix"] = [tokens[:, :1] for tokens in collected]
        if not intermediates_only:
            pooled, _ = self._pool(last)
            output["image_features"] = pooled if self.proj is None else pooled @ self.proj
        return output

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the blocks after the last one named, and the norm and projection if asked; return the blocks named."""
        taken = self.transformer.prune_intermediate_layers(indices)
        if prune_norm:
            self.ln_post = nn.Identity()
        if prune_head:
            self.proj = None
        return taken
