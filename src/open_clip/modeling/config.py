"""The tower configurations of a model's JSON file. Building towers from them is ``towers.py``'s job."""

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.modeling.fields import check_fields, refuse_unknown

# A ResNet's `width` is its stem's; what its pool reads is this many times as wide.
RESNET_POOL_WIDENING = 32
Cfg = TypeVar("Cfg", "CLIPVisionCfg", "CLIPTextCfg", "MultimodalCfg")


@dataclass
class CLIPVisionCfg:
    """What the image tower is made of.

    A list in ``layers`` means a ResNet, ``timm_model_name`` a timm tower, otherwise a ViT.
    """

    layers: tuple[int, int, int, int] | int = 12
    width: int = 768
    head_width: int = 64
    mlp_ratio: float = 4.0
    patch_size: int | tuple[int, int] | None = 16
    image_size: int | tuple[int, int] = 224
    ls_init_value: float | None = None
    patch_dropout: float = 0.0
    attentional_pool: bool | str = False
    attn_pooler_queries: int = 256
    attn_pooler_heads: int = 8
    no_ln_pre: bool = False
    pos_embed_type: str = "learnable"
    final_ln_after_pool: bool = False
    pool_type: str = "tok"
    output_tokens: bool = False
    act_kwargs: JsonObject | None = None
    norm_kwargs: JsonObject | None = None
    block_type: str | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False
    timm_model_name: str | None = None
    timm_model_pretrained: bool = False
    timm_pool: str = "avg"
    timm_proj: str | None = "linear"
    timm_proj_bias: bool = False
    timm_drop: float = 0.0
    timm_drop_path: float | None = None


@dataclass
class CLIPTextCfg:
    """What the text tower is made of and how its texts are tokenised.

    ``hf_model_name`` means a Hugging Face encoder, otherwise the native transformer.
    """

    context_length: int = 77
    vocab_size: int = 49408
    hf_tokenizer_name: str | None = None
    tokenizer_mode: str | None = None
    tokenizer_kwargs: JsonObject | None = None
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0
    ls_init_value: float | None = None
    embed_cls: bool = False
    pad_id: int = 0
    eos_id: int = 2
    no_causal_mask: bool = False
    final_ln_after_pool: bool = False
    pool_type: str = "argmax"
    proj_bias: bool = False
    proj_type: str = "linear"
    output_tokens: bool = False
    act_kwargs: JsonObject | None = None
    norm_kwargs: JsonObject | None = None
    block_type: str | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False
    hf_model_name: str | None = None
    hf_model_pretrained: bool = True
    hf_proj_type: str | None = "mlp"
    hf_pooler_type: str | None = "mean_pooler"


@dataclass
class MultimodalCfg(CLIPTextCfg):
    """What CoCa's caption decoder is made of: ``context_length``, ``width``, ``heads``, ``layers``, ``ls_init_value``.

    The other fields are known, as configurations have them, and change nothing.
    """

    mlp_ratio: float = 4
    dim_head: int = 64
    n_queries: int = 256
    attn_pooler_heads: int = 8


#: The sections of a configuration with towers.
SECTIONS: dict[str, type[CLIPVisionCfg | CLIPTextCfg]] = {
    "vision_cfg": CLIPVisionCfg,
    "text_cfg": CLIPTextCfg,
    "multimodal_cfg": MultimodalCfg,
}

# Configs written for v2.17 are still around; these are the fields that were renamed since.
_OLD_VISION_NAMES = {"n_queries": "attn_pooler_queries"}
_OLD_TEXT_NAMES = {"proj": "hf_proj_type", "pooler_type": "hf_pooler_type"}


def _rename_old_keys(cls: type, values: JsonObject) -> JsonObject:
    old_names = _OLD_VISION_NAMES if cls is CLIPVisionCfg else _OLD_TEXT_NAMES
    renamed = {old_names.get(key, key): value for key, value in values.items()}
    if cls is CLIPVisionCfg and "global_average_pool" in renamed:
        renamed["pool_type"] = "avg" if renamed.pop("global_average_pool") else renamed.get("pool_type", "tok")
    if cls is CLIPVisionCfg and renamed.pop("input_patchnorm", False):
        raise ConfigError(
            "input_patchnorm is set: patches embedded by a norm and a linear layer left open_clip during 2.x, and "
            "no published weights have them. Such a model needs the version it was trained with."
        )
    return renamed


def make_cfg(cls: type[Cfg], values: Cfg | JsonObject) -> Cfg:
    """Make a tower configuration from a dict of a JSON file (an instance passes through); v2.17 names are known.

    Raises:
        ConfigError: a key is not known or of another family, or a value is of another kind or out of bounds.
    """
    if isinstance(values, cls):
        return values
    assert isinstance(values, dict)
    section = next(name for name, kind in SECTIONS.items() if kind is cls)
    values = _rename_old_keys(cls, values)
    known = {field.name for field in dataclasses.fields(cls)}
    refuse_unknown(section, values, known)
    values = {key: value for key, value in values.items() if key in known}
    check_fields(section, cls, values)
    return cls(**values)
