"""The native text tower: a transformer over token ids. Tokenising is ``open_clip.tokenizer``'s job.

Shapes: B batch, L tokens, D width, E output width.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.transformer.freezing import LayerGroup, unfreeze_norms, unlock_last_groups
from open_clip.transformer.layout import TextLayout
from open_clip.transformer.norms import LayerNorm
from open_clip.transformer.pooling import text_global_pool
from open_clip.transformer.stack import Transformer
from open_clip.transformer.text_rows import can_read_ends, check_text_length, encode_ends
from open_clip.transformer.texts import Texts, open_texts
from open_clip.transformer.types import ActLayer, Intermediates, NormLayer


def causal_mask(num_positions: int) -> Tensor:
    """Build the mask [L, L] that adds -inf to what comes later."""
    return torch.full((num_positions, num_positions), float("-inf")).triu(1)


def project_pooled(pooled: Tensor, projection: nn.Module | Tensor | None) -> Tensor:
    """Project [..., D] with a matrix [D, E] or a linear layer; None leaves it alone."""
    if projection is None:
        return pooled
    projected: Tensor = projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
    return projected


def text_layer_groups(tower: nn.Module) -> list[LayerGroup]:
    """List a native text tower's parts, or a CLIP's own, from the embeddings to the projection."""
    blocks: list[nn.Module] = list(tower.transformer.resblocks)  # type: ignore[union-attr, arg-type]
    embeddings: Any = [tower.token_embedding, tower.positional_embedding, getattr(tower, "cls_emb", None)]
    ends: list[Any] = [[blocks[-1], tower.ln_final]]
    if tower.text_projection is not None:
        ends.append([tower.text_projection])
    return [embeddings, *([block] for block in blocks[:-1]), *ends]


def lock_text_layers(tower: nn.Module, unlocked_layers: int, freeze_layer_norm: bool) -> None:
    """Freeze a native text tower but for its last groups; with ``freeze_layer_norm=False`` its norms stay trainable."""
    unlock_last_groups(text_layer_groups(tower), unlocked_layers)
    if not freeze_layer_norm:
        unfreeze_norms(tower.transformer)  # type: ignore[arg-type]
        tower.ln_final.requires_grad_(True)


def lock_text_tower(model: nn.Module, unlocked_layers: int = 0) -> None:
    """Freeze the native text tower of any model, or the tower itself, but for its last groups of layers."""
    tower = getattr(model, "text", None)
    lock_text_layers(tower if isinstance(tower, nn.Module) else model, unlocked_layers, freeze_layer_norm=True)


class TextTransformer(nn.Module):
    """Text transformer; causal and read at the end-of-text token unless the options say otherwise.

    A causal tower that is read at a token takes texts shorter than its context: what follows that token cannot change
    the result.
    """

    def __init__(
        self,
        context_length: int = 77,
        vocab_size: int = 49408,
        width: int = 512,
        heads: int = 8,
        layers: int = 12,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        output_dim: int | None = 512,
        embed_cls: bool = False,
        no_causal_mask: bool = False,
        use_pad_mask: bool = False,
        correct_cls_mask: bool = False,
        pad_id: int = 0,
        eos_id: int = 2,
        pool_type: str = "argmax",
        proj_type: str = "linear",
        proj_bias: bool = False,
        act_layer: ActLayer = nn.GELU,
        norm_layer: NormLayer = LayerNorm,
        output_tokens: bool = False,
        **block_options: Any,
    ) -> None:
        super().__init__()
        if pool_type not in ("argmax", "eos", "last", "first", "none"):
            raise ConfigError(f"text pool_type is {pool_type!r}; it can be argmax, eos, last, first or none.")
        if proj_type not in ("linear", "none"):
            raise ConfigError(f"text proj_type is {proj_type!r}; it can be linear or none.")
        self.output_tokens = output_tokens
        self.num_pos = context_length + 1 if embed_cls else context_length
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.width = width
        self.output_dim = output_dim
        self.heads = heads
        self.pad_id = pad_id
        self.eos_id = eos_id
        self.pool_type = pool_type
        # A causal tower cannot read the padding behind its last token anyway.
        self.use_pad_mask = use_pad_mask and no_causal_mask
        self.correct_cls_mask = correct_cls_mask
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.cls_emb = nn.Parameter(torch.empty(width)) if embed_cls else None
        self.positional_embedding = nn.Parameter(torch.empty(self.num_pos, width))
        self.transformer = Transformer(
            width, layers, heads, mlp_ratio, ls_init_value, act_layer, norm_layer, **block_options
        )
        self.ln_final = norm_layer(width)
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", None if no_causal_mask else causal_mask(self.num_pos), persistent=False)
        self.text_projection: nn.Linear | nn.Parameter | None = None
        if proj_type == "linear" and output_dim:
            self.text_projection = (
                nn.Linear(width, output_dim) if proj_bias else nn.Parameter(torch.empty(width, output_dim))
            )
        self.init_parameters()

    def init_parameters(self) -> None:
        """Draw the initial weights, in upstream's order.

        Source: open_clip.transformer.TextTransformer.init_parameters (3.3.0).
        """
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        if self.cls_emb is not None:
            nn.init.normal_(self.cls_emb, std=0.01)
        width = self.transformer.width
        in_std, out_std, hidden_std = (
            width**-0.5,
            width**-0.5 * (2 * self.transformer.layers) ** -0.5,
            (2 * width) ** -0.5,
        )
        for block in self.transformer.resblocks:
            attn: Any = block.attn
            mlp: Any = block.mlp
            nn.init.normal_(attn.in_proj_weight, std=in_std)
            nn.init.normal_(attn.out_proj.weight, std=out_std)
            nn.init.normal_(mlp.c_fc.weight, std=hidden_std)
            nn.init.normal_(mlp.c_proj.weight, std=out_std)
        if isinstance(self.text_projection, nn.Linear):
            nn.init.normal_(self.text_projection.weight, std=in_std)
            nn.init.zeros_(self.text_projection.bias)
        elif self.text_projection is not None:
            nn.init.normal_(self.text_projection, std=in_std)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block in the backward pass."""
        self.transformer.grad_checkpointing = enable

    def lock(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the tower but for its last groups: projection, last block with its norm, blocks, embeddings."""
        self.requires_grad_(False)
        lock_text_layers(self, unlocked_layers, freeze_layer_norm)

    def layer_groups(self) -> list[LayerGroup]:
        """List the tower's parts from the input to the output, for freezing and for learning rates by depth."""
        return text_layer_groups(self)

    def own_matrices(self) -> list[Tensor | None]:
        """List what goes to half precision besides layers; a projection with a bias is a layer."""
        return [self.text_projection] if isinstance(self.text_projection, Tensor) else []

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay should leave alone."""
        names = {"positional_embedding"}
        return names | {"cls_emb"} if self.cls_emb is not None else names

    def _embed(self, text: Tensor) -> tuple[Tensor, Tensor | None, bool]:
        """Return what enters the first block, the mask to add and whether plain causal attention is enough."""
        dtype = self.transformer.get_cast_dtype()
        x = self.token_embedding(text).to(dtype)
        if self.cls_emb is not None:
            x = torch.cat([x, self.cls_emb.to(dtype).expand(x.shape[0], 1, -1)], dim=1)
        length = x.shape[1]
        check_text_length(length, self.num_pos)
        x = x + self.positional_embedding[:length].to(dtype)
        if self.cls_emb is None and not self.use_pad_mask:
            return x, None, self.attn_mask is not None
        return x, self.padding_mask(text, length), False

    def padding_mask(self, text: Tensor, length: int) -> Tensor:
        """Forbid every position to read padding, [B, 1, L, L] bool, True where forbidden.

        With an appended class token the columns are shifted by one, so that position j is judged by token j-1: weights
        were trained that way. ``correct_cls_mask`` puts them right.
        """
        forbidden = text == self.pad_id
        if self.cls_emb is not None:
            readable = torch.zeros_like(forbidden[:, :1])
            parts = [forbidden, readable] if self.correct_cls_mask else [readable, forbidden]
            forbidden = torch.cat(parts, dim=1)
        forbidden = forbidden[:, None, None, :].expand(-1, 1, length, -1)
        if self.attn_mask is not None:
            forbidden = forbidden | torch.ones(length, length, dtype=torch.bool, device=text.device).triu(1)
        return forbidden

    def _pool(self, x: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        if self.cls_emb is not None:
            return self.ln_final(x[:, -1]), x[:, :-1]
        x = self.ln_final(x)
        return text_global_pool(x, text, self.pool_type, self.eos_id), x

    def can_skip_padding(self, layout: TextLayout | None = None) -> bool:
        """Tell whether ``Texts`` may have a layout: the result is the same, and no hook waits for the padding.

        Hooks do not count when there is a ``layout`` already.
        """
        return self.cls_emb is None and not self.output_tokens and can_read_ends(self, self.pool_type, layout)

    def forward(self, text: Tensor | Texts) -> Tensor | tuple[Tensor, Tensor]:
        """Encode texts or their token ids [B, L] as [B, E], with ``output_tokens`` as a pair with the tokens [B, L, D].

        The layout of ``Texts`` says how to leave the padding out; towers that need the padding pass over it.
        """
        ids, layout = open_texts(text)
        if self.can_skip_padding(layout):
            ends = encode_ends(self, ids, self.pool_type, self.eos_id, layout)
            return project_pooled(self.ln_final(ends), self.text_projection)
        x, mask, is_causal = self._embed(ids)
        pooled, tokens = self._pool(self.transformer(x, mask, is_causal), ids)
        pooled = project_pooled(pooled, self.text_projection)
        return (pooled, tokens) if self.output_tokens else pooled

    def forward_intermediates(
        self,
        text: Tensor,
        indices: int | list[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: Literal["NLC"] = "NLC",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """Encode texts and collect the outputs of some blocks; arguments as in the image tower.

        Raises:
            ConfigError: a format other than 'NLC', or a block that does not exist.
        """
        if output_fmt != "NLC":
            raise ConfigError(f"text_output_fmt is {output_fmt!r}; texts have no other form than NLC.")
        x, mask, is_causal = self._embed(text)
        last, collected = self.transformer.forward_intermediates(x, mask, indices, stop_early, is_causal)
        if normalize_intermediates:
            collected = [self.ln_final(tokens) for tokens in collected]
        output: Intermediates = {}
        if self.cls_emb is not None:
            if output_extra_tokens:
                output["text_intermediates_suffix"] = [tokens[:, -1:] for tokens in collected]
            collected = [tokens[:, :-1] for tokens in collected]
        output["text_intermediates"] = collected
        if not intermediates_only:
            pooled, _ = self._pool(last, text)
            output["text_features"] = project_pooled(pooled, self.text_projection)
        return output

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the blocks after the last one named, and the norm and projection if asked; return the blocks named."""
        taken = self.transformer.prune_intermediate_layers(indices)
        if prune_norm:
            self.ln_final = nn.Identity()
        if prune_head:
            self.text_projection = None
        return taken
