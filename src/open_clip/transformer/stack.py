"""A stack of residual blocks with checkpointing and intermediate outputs. Embedding and pooling are the towers' job."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from open_clip.errors import ConfigError
from open_clip.transformer.blocks import CustomResidualAttentionBlock, ResidualAttentionBlock, knows_reading
from open_clip.transformer.layout import TextLayout
from open_clip.transformer.norms import LayerNorm
from open_clip.transformer.reading import take_read
from open_clip.transformer.types import ActLayer, NormLayer


@dataclass(frozen=True)
class BlockOptions:
    """The switches of the custom block; any of them, or ``block_type='custom'``, selects it."""

    block_type: str | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False

    def use_custom(self) -> bool:
        """Tell whether the custom block is asked for.

        Raises:
            ConfigError: ``block_type`` is neither 'default' nor 'custom'.
        """
        if self.block_type not in (None, "default", "custom"):
            raise ConfigError(f"block_type is {self.block_type!r}; it can be 'default' or 'custom'.")
        switches = (self.qk_norm, self.scaled_cosine_attn, self.scale_heads, self.scale_attn_inner)
        return self.block_type == "custom" or any(switches) or self.scale_attn or self.scale_fc


def take_indices(num_blocks: int, indices: int | list[int] | None) -> list[int]:
    """Turn an index argument into block numbers: None = all, n = the last n, a list = those (negatives from the end).

    Raises:
        ConfigError: a number points outside the stack.
    """
    if indices is None:
        return list(range(num_blocks))
    if isinstance(indices, int):
        if not 0 < indices <= num_blocks:
            raise ConfigError(f"indices={indices} asks for the last {indices} of {num_blocks} blocks.")
        return list(range(num_blocks - indices, num_blocks))
    taken = [index + num_blocks if index < 0 else index for index in indices]
    for index, given in zip(taken, indices, strict=True):
        if not 0 <= index < num_blocks:
            raise ConfigError(f"indices holds {given}, but the tower has {num_blocks} blocks.")
    return taken


def feature_take_indices(
    num_features: int, indices: int | list[int] | None = None, as_set: bool = False
) -> tuple[list[int] | set[int], int]:
    """Turn an index argument (None = all, n = the last n, a list = those) into block numbers and the largest of them.

    Raises:
        ConfigError: a number points outside the ``num_features`` blocks.
    """
    taken = take_indices(num_features, indices)
    return (set(taken) if as_set else taken), max(taken)


class Transformer(nn.Module):
    """Residual attention blocks, one after the other."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: ActLayer = nn.GELU,
        norm_layer: NormLayer = LayerNorm,
        **block_options: Any,
    ) -> None:
        super().__init__()
        self.width = width
        self.layers = layers
        self.batch_first = True
        self.grad_checkpointing = False
        options = BlockOptions(**block_options)
        common: dict[str, Any] = {
            "mlp_ratio": mlp_ratio,
            "ls_init_value": ls_init_value,
            "act_layer": act_layer,
            "norm_layer": norm_layer,
        }
        block: type[ResidualAttentionBlock] | type[CustomResidualAttentionBlock] = ResidualAttentionBlock
        if options.use_custom():
            block = CustomResidualAttentionBlock
            common |= {
                "qk_norm": options.qk_norm,
                "scale_cosine_attn": options.scaled_cosine_attn,
                "scale_heads": options.scale_heads,
                "scale_attn_inner": options.scale_attn_inner,
                "scale_attn": options.scale_attn,
                "scale_fc": options.scale_fc,
            }
        self.resblocks = nn.ModuleList([block(width, heads, **common) for _ in range(layers)])

    def get_cast_dtype(self) -> torch.dtype:
        """Return the type of the first block's matrices: what embeddings are cast to before they enter."""
        dtype: torch.dtype = self.resblocks[0].get_weight_dtype()  # type: ignore[operator]
        return dtype

    def _run_block(
        self, block: nn.Module, x: Tensor, attn_mask: Tensor | None, is_causal: bool, **options: Any
    ) -> Tensor:
        out: Tensor
        if self.grad_checkpointing and torch.is_grad_enabled():
            out = checkpoint(block, x, None, None, attn_mask, is_causal, use_reentrant=False, **options)
        else:
            out = block(x, attn_mask=attn_mask, is_causal=is_causal, **options)
        return out

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        read: Tensor | int | None = None,
        layout: TextLayout | None = None,
    ) -> Tensor:
        """Run all blocks on ``x`` [B, L, D]; masks as in ``MultiHeadAttention.forward``.

        Args:
            x: [B, L, D], or [1, T, D] with a packed layout.
            attn_mask: not together with a layout.
            is_causal: with a layout it is.
            read: give only this position of each row, [B, 1, D]: a number, or int64 [B]; with a layout only these
                positions of the stream, [1, Q, D]. The last block computes no more than that where it can.
            layout: a packed one: ``x`` is a stream of texts, and attention stays within each. Ask
                ``knows_layouts`` first.
        """
        options: dict[str, object] = {} if layout is None else {"layout": layout}
        if read is None:
            for block in self.resblocks:
                x = self._run_block(block, x, attn_mask, is_causal, **options)
            return x
        for block in self.resblocks[:-1]:
            x = self._run_block(block, x, attn_mask, is_causal, **options)
        last = self.resblocks[-1]
        if attn_mask is None and knows_reading(last):
            return self._run_block(last, x, None, is_causal, read=read, **options)
        return take_read(self._run_block(last, x, attn_mask, is_causal, **options), read, layout)

    def forward_intermediates(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        indices: int | list[int] | None = None,
        stop_early: bool = False,
        is_causal: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks and collect the outputs of some.

        ``indices`` is None for all, n for the last n, a list for those (negatives from the end); ``stop_early`` skips
        the blocks after the last one collected. Masks as in ``MultiHeadAttention.forward``.

        Returns:
            The output of the last block run and the collected outputs, all [B, L, D].
        """
        taken = take_indices(len(self.resblocks), indices)
        last = max(taken, default=-1) if stop_early else len(self.resblocks) - 1
        collected = []
        for index, block in enumerate(self.resblocks):
            if index > last:
                break
            x = self._run_block(block, x, attn_mask, is_causal)
            if index in taken:
                collected.append(x)
        return x, collected

    def prune_intermediate_layers(self, indices: int | list[int] | None = 1) -> list[int]:
        """Drop the blocks after the last one that ``indices`` names and return the block numbers asked for."""
        taken = take_indices(len(self.resblocks), indices)
        self.resblocks = self.resblocks[: max(taken) + 1]
        return taken


class CustomTransformer(Transformer):
    """The stack of custom blocks under a class of its own, for programs that build it themselves."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: ActLayer = nn.GELU,
        norm_layer: NormLayer = LayerNorm,
        batch_first: bool = True,
        block_types: str | list[str] = "CustomResidualAttentionBlock",
    ) -> None:
        names = [block_types] * layers if isinstance(block_types, str) else block_types
        if len(names) != layers or set(names) - {"CustomResidualAttentionBlock"}:
            raise ConfigError(f"block_types is {block_types!r}; it names CustomResidualAttentionBlock once a layer.")
        if not batch_first:
            raise ConfigError("batch_first is False; the batch always comes first here.")
        super().__init__(width, layers, heads, mlp_ratio, ls_init_value, act_layer, norm_layer, block_type="custom")
