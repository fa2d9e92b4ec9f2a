"""Building towers from their configurations. What the towers compute is ``open_clip.transformer``'s job."""

import dataclasses
import functools
from typing import TypeAlias

import torch
from torch import nn

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.hf_model import HFTextEncoder
from open_clip.modeling.config import RESNET_POOL_WIDENING, CLIPTextCfg, CLIPVisionCfg, MultimodalCfg, make_cfg
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import (
    LayerNorm,
    LayerNormFp32,
    MultimodalTransformer,
    QuickGELU,
    TextTransformer,
    VisionTransformer,
)
from open_clip.transformer.types import ActLayer, NormLayer

ImageTower: TypeAlias = VisionTransformer | ModifiedResNet | TimmModel
TextTower: TypeAlias = TextTransformer | HFTextEncoder

_BLOCK_FIELDS = (
    "block_type",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)


def _block_options(cfg: CLIPVisionCfg | CLIPTextCfg) -> JsonObject:
    return {name: getattr(cfg, name) for name in _BLOCK_FIELDS}


def _layer_kinds(
    cfg: CLIPVisionCfg | CLIPTextCfg, quick_gelu: bool, cast_dtype: torch.dtype | None
) -> tuple[ActLayer, NormLayer]:
    act: ActLayer = QuickGELU if quick_gelu else nn.GELU
    # Towers cast to half precision keep their norms in fp32, so these must accept the other type.
    norm: NormLayer = LayerNormFp32 if cast_dtype in (torch.float16, torch.bfloat16) else LayerNorm
    if cfg.norm_kwargs:
        norm = functools.partial(norm, **cfg.norm_kwargs)
    if cfg.act_kwargs:
        act = functools.partial(act, **cfg.act_kwargs)
    return act, norm


def build_vision_tower(
    embed_dim: int,
    vision_cfg: CLIPVisionCfg | JsonObject,
    quick_gelu: bool = False,
    cast_dtype: torch.dtype | None = None,
) -> ImageTower:
    """Build the image tower a configuration asks for.

    Raises:
        ConfigError: it asks for a tower that this version does not have.
    """
    cfg = make_cfg(CLIPVisionCfg, vision_cfg)
    if cfg.timm_model_name:
        return TimmModel(
            cfg.timm_model_name,
            embed_dim,
            image_size=cfg.image_size,
            pool=cfg.timm_pool,
            proj=cfg.timm_proj,
            proj_bias=cfg.timm_proj_bias,
            drop=cfg.timm_drop,
            drop_path=cfg.timm_drop_path,
            patch_drop=cfg.patch_dropout if cfg.patch_dropout > 0 else None,
            pretrained=cfg.timm_model_pretrained,
        )
    if not isinstance(cfg.layers, int):
        return ModifiedResNet(
            cfg.layers,
            output_dim=embed_dim,
            heads=cfg.width * RESNET_POOL_WIDENING // cfg.head_width,
            image_size=cfg.image_size,
            width=cfg.width,
        )
    if cfg.patch_size is None:
        raise ConfigError("vision_cfg.patch_size is null, and a ViT needs it.")
    act_layer, norm_layer = _layer_kinds(cfg, quick_gelu, cast_dtype)
    return VisionTransformer(
        image_size=cfg.image_size,
        patch_size=cfg.patch_size,
        width=cfg.width,
        layers=cfg.layers,
        heads=cfg.width // cfg.head_width,
        mlp_ratio=cfg.mlp_ratio,
        ls_init_value=cfg.ls_init_value,
        attentional_pool=cfg.attentional_pool,
        attn_pooler_queries=cfg.attn_pooler_queries,
        attn_pooler_heads=cfg.attn_pooler_heads,
        output_dim=embed_dim,
        patch_dropout=cfg.patch_dropout,
        no_ln_pre=cfg.no_ln_pre,
        pos_embed_type=cfg.pos_embed_type,
        pool_type=cfg.pool_type,
        final_ln_after_pool=cfg.final_ln_after_pool,
        act_layer=act_layer,
        norm_layer=norm_layer,
        output_tokens=cfg.output_tokens,
        **_block_options(cfg),
    )


def build_text_tower(
    embed_dim: int,
    text_cfg: CLIPTextCfg | JsonObject,
    quick_gelu: bool = False,
    cast_dtype: torch.dtype | None = None,
) -> TextTower:
    """Build the text tower a configuration asks for: a Hugging Face encoder or the native transformer.

    Raises:
        ConfigError: it asks for a tower that there is not.
    """
    cfg = make_cfg(CLIPTextCfg, text_cfg)
    if not cfg.hf_model_name:
        return build_native_text_tower(embed_dim, cfg, quick_gelu, cast_dtype)
    return HFTextEncoder(
        cfg.hf_model_name,
        output_dim=embed_dim,
        proj_type=cfg.hf_proj_type,
        pooler_type=cfg.hf_pooler_type,
        pretrained=cfg.hf_model_pretrained,
        output_tokens=cfg.output_tokens,
    )


def build_native_text_tower(
    embed_dim: int,
    text_cfg: CLIPTextCfg | JsonObject,
    quick_gelu: bool = False,
    cast_dtype: torch.dtype | None = None,
) -> TextTransformer:
    """Build our own text transformer, the only tower whose parts can stand at the top level of a model.

    Raises:
        ConfigError: the configuration asks for another tower.
    """
    cfg = make_cfg(CLIPTextCfg, text_cfg)
    if cfg.hf_model_name:
        raise ConfigError(
            f"text_cfg asks for the Hugging Face encoder {cfg.hf_model_name!r}; set custom_text to true for it."
        )
    act_layer, norm_layer = _layer_kinds(cfg, quick_gelu, cast_dtype)
    return TextTransformer(
        context_length=cfg.context_length,
        vocab_size=cfg.vocab_size,
        width=cfg.width,
        heads=cfg.heads,
        layers=cfg.layers,
        mlp_ratio=cfg.mlp_ratio,
        ls_init_value=cfg.ls_init_value,
        output_dim=embed_dim,
        embed_cls=cfg.embed_cls,
        no_causal_mask=cfg.no_causal_mask,
        pad_id=cfg.pad_id,
        eos_id=cfg.eos_id,
        pool_type=cfg.pool_type,
        proj_type=cfg.proj_type,
        proj_bias=cfg.proj_bias,
        act_layer=act_layer,
        norm_layer=norm_layer,
        output_tokens=cfg.output_tokens,
        **_block_options(cfg),
    )


def build_text_decoder(
    vocab_size: int,
    multimodal_cfg: MultimodalCfg | JsonObject,
    quick_gelu: bool = False,
    cast_dtype: torch.dtype | None = None,
) -> MultimodalTransformer:
    """Build CoCa's caption decoder for a vocabulary."""
    cfg = make_cfg(MultimodalCfg, multimodal_cfg)
    # Upstream's decoder knows no arguments for these layers.
    plain = dataclasses.replace(cfg, norm_kwargs=None, act_kwargs=None)
    act_layer, norm_layer = _layer_kinds(plain, quick_gelu, cast_dtype)
    return MultimodalTransformer(
        width=cfg.width,
        layers=cfg.layers,
        heads=cfg.heads,
        context_length=cfg.context_length,
        ls_init_value=cfg.ls_init_value,
        act_layer=act_layer,
        norm_layer=norm_layer,
        output_dim=vocab_size,
    )
