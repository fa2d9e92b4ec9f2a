"""Residual attention blocks. Stacking them is ``stack.py``'s job.

Shapes: B batch, L positions, S key positions, D width, Q positions read.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from open_clip.transformer.attention import Attention, MultiHeadAttention
from open_clip.transformer.layout import TextLayout
from open_clip.transformer.norms import LayerNorm, LayerScale
from open_clip.transformer.reading import has_own_hooks, runs_own_forward, take_positions
from open_clip.transformer.types import ActLayer, NormLayer


def _layer_scale(width: int, init_value: float | None) -> nn.Module:
    return nn.Identity() if init_value is None else LayerScale(width, init_value)


class ResidualAttentionBlock(nn.Module):
    """Pre-norm attention, then a pre-norm two-layer network, each added to its input.

    With ``is_cross_attention`` keys and values are another tensor and pass through ``ln_1_kv``.
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: ActLayer = nn.GELU,
        norm_layer: NormLayer = LayerNorm,
        is_cross_attention: bool = False,
    ) -> None:
        super().__init__()
        self.ln_1 = norm_layer(d_model)
        self.attn: nn.Module = MultiHeadAttention(d_model, n_head)
        self.ls_1 = _layer_scale(d_model, ls_init_value)
        if is_cross_attention:
            self.ln_1_kv = norm_layer(d_model)
        self.ln_2 = norm_layer(d_model)
        hidden = int(d_model * mlp_ratio)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(d_model, hidden), gelu=act_layer(), c_proj=nn.Linear(hidden, d_model))
        )
        self.ls_2 = _layer_scale(d_model, ls_init_value)

    def get_weight_dtype(self) -> torch.dtype:
        """Return the type of the block's matrices."""
        dtype: torch.dtype = self.mlp.c_fc.weight.dtype  # type: ignore[union-attr, assignment]
        return dtype

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        read: Tensor | int | None = None,
        layout: TextLayout | None = None,
    ) -> Tensor:
        """Map ``q_x`` [B, L, D] to the same shape; ``k_x`` and ``v_x`` [B, S, D] only for cross attention.

        ``read`` and ``layout`` are as in ``Transformer.forward``: the former gives [B, Q, D], and only of the positions
        read are query, output projection and network computed.
        """
        if read is not None or layout is not None:
            normed = self.ln_1(q_x)
            read_x, query, attn_mask, is_causal = take_positions(q_x, normed, read, attn_mask, is_causal, layout)
            options: dict[str, object] = {"need_weights": False, "attn_mask": attn_mask, "is_causal": is_causal}
            attended = self.attn(query, normed, normed, layout=layout, **options)[0]
            # What stands behind the rows read only accompanied them; see `accompany`.
            return self.add_branches(read_x, attended[:, : read_x.shape[1]])
        key, value = k_x, v_x
        if hasattr(self, "ln_1_kv"):
            key = None if k_x is None else self.ln_1_kv(k_x)
            value = key if v_x is None or v_x is k_x else self.ln_1_kv(v_x)
        return self.add_branches(q_x, self.attention(self.ln_1(q_x), key, value, attn_mask, is_causal))

    def attention(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Do the attention alone, on what is already normed: [B, L, D]; keys and values left out are ``q_x``."""
        k_x = q_x if k_x is None else k_x
        v_x = q_x if v_x is None else v_x
        options: dict[str, object] = {"need_weights": False, "attn_mask": attn_mask}
        if is_causal and isinstance(self.attn, MultiHeadAttention):
            options["is_causal"] = True
        elif is_causal:
            # A layer that a program put here instead may know masks only.
            options["attn_mask"] = torch.ones(q_x.shape[1], k_x.shape[1], dtype=torch.bool, device=q_x.device).triu(1)
        attended: Tensor = self.attn(q_x, k_x, v_x, **options)[0]
        return attended

    def add_branches(self, x: Tensor, attended: Tensor) -> Tensor:
        """Do what follows the attention: add its output to ``x`` [B, L, D], then the two-layer network's."""
        x = x + self.ls_1(attended)
        out: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return out


class CustomResidualAttentionBlock(nn.Module):
    """The residual block with the extra norms and gains that ``block_type: custom`` asks for.

    Source: open_clip.transformer.CustomResidualAttentionBlock (3.3.0).
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: ActLayer = nn.GELU,
        norm_layer: NormLayer = LayerNorm,
        qk_norm: bool = False,
        scale_cosine_attn: bool = False,
        scale_heads: bool = False,
        scale_attn_inner: bool = False,
        scale_attn: bool = False,
        scale_fc: bool = False,
    ) -> None:
        super().__init__()
        self.ln_1 = norm_layer(d_model)
        self.attn = Attention(
            d_model,
            n_head,
            qk_norm=qk_norm,
            scaled_cosine=scale_cosine_attn,
            scale_heads=scale_heads,
            inner_norm=scale_attn_inner,
            norm_layer=norm_layer,
        )
        self.ln_attn = norm_layer(d_model) if scale_attn else nn.Identity()
        self.ls_1 = _layer_scale(d_model, ls_init_value)
        self.ln_2 = norm_layer(d_model)
        hidden = int(d_model * mlp_ratio)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(d_model, hidden),
                gelu=act_layer(),
                ln=norm_layer(hidden) if scale_fc else nn.Identity(),
                c_proj=nn.Linear(hidden, d_model),
            )
        )
        self.ls_2 = _layer_scale(d_model, ls_init_value)

    def get_weight_dtype(self) -> torch.dtype:
        """Return the type of the block's matrices."""
        dtype: torch.dtype = self.mlp.c_fc.weight.dtype  # type: ignore[union-attr, assignment]
        return dtype

    def forward(
        self,
        x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        read: Tensor | int | None = None,
        layout: TextLayout | None = None,
    ) -> Tensor:
        """Map ``x`` [B, L, D] as the plain block does; ``k_x`` and ``v_x`` only mirror it."""
        assert k_x is v_x is None
        normed = self.ln_1(x)
        x, query, attn_mask, is_causal = take_positions(x, normed, read, attn_mask, is_causal, layout)
        options: dict[str, object] = {"attn_mask": attn_mask, "is_causal": is_causal}
        if read is not None or layout is not None:
            options |= {"read_x": query, "layout": layout}
        x = x + self.ls_1(self.ln_attn(self.attn(normed, **options)[:, : x.shape[1]]))
        out: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return out


def knows_layouts(block: nn.Module) -> bool:
    """Tell whether a block is one of these, with its own attention, and so takes a layout and can be told to read."""
    if not runs_own_forward(block, (ResidualAttentionBlock, CustomResidualAttentionBlock)):
        return False
    attn = block.attn
    return isinstance(attn, nn.Module) and runs_own_forward(attn, (MultiHeadAttention, Attention))


def knows_reading(block: nn.Module) -> bool:
    """Tell whether a block may leave out what is not read: it knows how, and no program's hook waits for the rest."""
    return knows_layouts(block) and not has_own_hooks(block.modules())
