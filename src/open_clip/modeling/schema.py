"""Check the configuration of a whole model before anything is built from it; builds nothing, reads no file."""

import math
import os
from dataclasses import is_dataclass

import torch

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.modeling.config import (
    RESNET_POOL_WIDENING,
    SECTIONS,
    Cfg,
    CLIPTextCfg,
    CLIPVisionCfg,
    MultimodalCfg,
    make_cfg,
)
from open_clip.modeling.fields import check_value, is_foreign, refuse_unknown, show
from open_clip.tuples import to_pair

_TOP_LEVEL: JsonObject = {
    "embed_dim": int,
    "quick_gelu": bool,
    "custom_text": bool,
    "init_logit_scale": float,
    "init_logit_bias": float | None,
    "nonscalar_logit_scale": bool,
    "output_dict": bool | None,
    "pad_id": int,
}
# The keys that a configuration with towers can have.
KNOWN_KEYS = (*_TOP_LEVEL, *SECTIONS)
_BYTES_PER_WEIGHT = 4
# A bottleneck block of p planes: 1x1 from 4p, 3x3, 1x1 to 4p.
_RESNET_BLOCK_WEIGHTS = 17


def check_text_section(cfg: JsonObject) -> None:
    """Check a configuration as ``check_towers`` does, for its tokenizer: only the text part must be there.

    Raises:
        ConfigError: as ``check_towers``.
    """
    if "embed_dim" in cfg or is_of_unknown_family(cfg):
        check_towers(cfg)
    else:
        _read(CLIPTextCfg, "text_cfg", {"text_cfg": cfg.get("text_cfg") or {}})


def is_of_unknown_family(cfg: JsonObject) -> bool:
    """Tell from the sections of a configuration whether it is one of a family that this version does not have."""
    is_decoder = cfg.get("multimodal_cfg") is not None and cfg.get("text_cfg") is None
    return is_decoder or any(is_foreign(key) and cfg[key] is not None for key in cfg)


def check_towers(cfg: object) -> None:
    """Check the keys, kinds and bounds of a configuration with towers, and that its parts fit each other.

    Raises:
        ConfigError: a key of a family that this version does not have, an unknown key, a value that cannot be, or a
            model that this machine's memory could not hold; names section, key and value.
    """
    if not isinstance(cfg, dict):
        raise ConfigError(f"the configuration of a model is {show(cfg)}; it must be an object.")
    refuse_unknown("the configuration", {key: cfg[key] for key in cfg if is_foreign(key)}, set())
    if cfg.get("multimodal_cfg") is not None and cfg.get("text_cfg") is None:
        raise ConfigError(
            "it has multimodal_cfg and no text_cfg: it is of the family MaMMUT, which this version does not have. "
            "Choose another model, or use a version of OpenCLIP that knows it."
        )
    refuse_unknown("the configuration", cfg, set(KNOWN_KEYS))
    # A section that is null is one that is not there, as in the files of some repositories.
    cfg = {key: value for key, value in cfg.items() if value is not None or key != "multimodal_cfg"}
    for key in ("embed_dim", "vision_cfg", "text_cfg"):
        if cfg.get(key) is None:
            raise ConfigError(f"it has no {key}; a model needs embed_dim, vision_cfg and text_cfg.")
    for key, kind in _TOP_LEVEL.items():
        if key in cfg:
            check_value("", key, kind, cfg[key])
    vision, text = _read(CLIPVisionCfg, "vision_cfg", cfg), _read(CLIPTextCfg, "text_cfg", cfg)
    decoder = _read(MultimodalCfg, "multimodal_cfg", cfg) if "multimodal_cfg" in cfg else None
    weights = _check_vision(vision, cfg["embed_dim"]) + _check_text(text, cfg["embed_dim"], "text_cfg")
    if decoder is not None:
        weights += 2 * _check_text(decoder, cfg["embed_dim"], "multimodal_cfg")
    refuse_too_large(weights)


def check_image_tower(cfg: JsonObject) -> None:
    """Check ``embed_dim``, ``vision_cfg`` and ``quick_gelu`` of a configuration whose only tower is that of images.

    Raises:
        ConfigError: as ``check_towers``.
    """
    for key in ("embed_dim", "vision_cfg"):
        if cfg.get(key) is None:
            raise ConfigError(f"it has no {key}, which an image tower needs.")
    for key in ("embed_dim", "quick_gelu"):
        if key in cfg:
            check_value("", key, _TOP_LEVEL[key], cfg[key])
    refuse_too_large(_check_vision(_read(CLIPVisionCfg, "vision_cfg", cfg), cfg["embed_dim"]))


def refuse_too_large(weights: float) -> None:
    """Refuse a model that this machine's memory could not hold, before it is built.

    Args:
        weights: How many it has.

    Raises:
        ConfigError: they take more than there is.
    """
    needed, memory = weights * _BYTES_PER_WEIGHT, _memory_bytes()
    if needed > memory:
        raise ConfigError(
            f"a model of these sizes has {weights:.1e} weights, which take {needed / 2**30:,.0f} GiB; this machine has "
            f"{memory / 2**30:,.0f} GiB of memory. Look for a size that is too large: layers, width, vocab_size, "
            "context_length or image_size."
        )


def _memory_bytes() -> float:
    """Give this machine's memory, where models are built; without end for those that are only outlined."""
    if torch.get_default_device().type != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _read(kind: type[Cfg], name: str, cfg: JsonObject) -> Cfg:
    values = cfg[name]
    if not isinstance(values, dict) and not is_dataclass(values):
        raise ConfigError(f"{name} is {show(values)}; it must be an object.")
    return make_cfg(kind, values if isinstance(values, dict) else vars(values))


def _check_vision(cfg: CLIPVisionCfg, embed_dim: int) -> float:
    """Check an image tower's sizes, and estimate the number of its weights."""
    if cfg.timm_model_name:
        return 0.0
    if not isinstance(cfg.layers, int):
        pool = cfg.width * RESNET_POOL_WIDENING
        _refuse_uneven("vision_cfg", pool, pool // cfg.head_width, f"width x {RESNET_POOL_WIDENING}", "head_width")
        planes = [cfg.width * 2**stage for stage in range(len(cfg.layers))]
        blocks = sum(n * _RESNET_BLOCK_WEIGHTS * p * p for n, p in zip(cfg.layers, planes, strict=True))
        return float(blocks + 4 * pool * pool)
    if cfg.patch_size is None:
        raise ConfigError("vision_cfg.patch_size is null, and a ViT needs it.")
    (height, width), (rows, columns) = to_pair(cfg.image_size), to_pair(cfg.patch_size)
    if rows > height or columns > width:
        raise ConfigError(
            f"vision_cfg.patch_size is {show(cfg.patch_size)}, larger than image_size {show(cfg.image_size)}."
        )
    _refuse_uneven("vision_cfg", cfg.width, cfg.width // cfg.head_width, "width", "head_width")
    if cfg.attentional_pool and (cfg.attn_pooler_heads > embed_dim or embed_dim % cfg.attn_pooler_heads):
        raise ConfigError(f"vision_cfg.attn_pooler_heads is {cfg.attn_pooler_heads}; it must divide {embed_dim}.")
    if cfg.pos_embed_type == "sin_cos_2d" and (cfg.width % 4 or height // rows != width // columns):
        raise ConfigError("vision_cfg.pos_embed_type sin_cos_2d needs a square grid and a width that 4 divides.")
    places = (height // rows) * (width // columns) + 1
    return float(
        _block_weights(cfg.layers, cfg.width, cfg.mlp_ratio) + cfg.width * (places + 3 * rows * columns + embed_dim)
    )


def _check_text(cfg: CLIPTextCfg, embed_dim: int, section: str) -> float:
    """Check a text tower's or decoder's sizes, and estimate the number of its weights."""
    if cfg.hf_model_name:
        return 0.0
    _refuse_uneven(section, cfg.width, cfg.heads, "width", "heads")
    positions = float(cfg.context_length) * (cfg.context_length + cfg.width)
    return float(
        _block_weights(cfg.layers, cfg.width, cfg.mlp_ratio) + positions + cfg.width * (cfg.vocab_size + embed_dim)
    )


def _block_weights(layers: int, width: int, mlp_ratio: float) -> float:
    return float(layers) * width * width * (4 + 2 * mlp_ratio)


def _refuse_uneven(section: str, width: int, heads: int, of_what: str, key: str) -> None:
    if heads < 1 or width % heads:
        raise ConfigError(
            f"{section}: {of_what} is {width} and {key} gives {heads} heads; each needs the same whole share of it."
        )
