"""CLIP in the layout of Hugging Face transformers and in ours: weights and configuration, both ways.

Only the layouts of plain CLIP are known: two transformers, a patch embedding, learned positions. Reads no files.

Source: transformers' CLIPModel and CLIPConfig (4.x and 5.x use the same names).
"""

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, cut_list, printable

# (ours, theirs): beginnings of names outside the blocks. `pre_layrnorm` is spelt so there.
_OUTSIDE = (
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("ln_final.", "text_model.final_layer_norm."),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
)
_WHOLE = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_TOWERS = (
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
)
_IN_BLOCK = (
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)
_PARTS = "qkv"
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
# With this id, which old configurations have by mistake, transformers takes the largest id for the end of text.
_LEGACY_EOS = 2
_DEFAULT_EPS = 1e-5
_KNOWN_KEYS = {
    "vision": {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "norm_kwargs"},
    "text": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs", "pool_type"}
    | {"eos_id"},
}


class GivesDict(Protocol):
    """A configuration of transformers'."""

    def to_dict(self) -> JsonObject:
        """Give its entries."""


def from_transformers(
    state_dict: Mapping[str, Tensor], config: JsonObject | GivesDict
) -> tuple[dict[str, Tensor], JsonObject]:
    """Turn a transformers CLIPModel's weights and configuration into ours.

    Args:
        state_dict: as ``CLIPModel.state_dict()`` gives it.
        config: a ``CLIPConfig``, or the dict of its ``config.json``.

    Returns:
        (state dict, model configuration): ``open_clip.CLIP(**configuration).load_state_dict(...)`` takes them.

    Raises:
        ConfigError: the model is not a plain CLIP.
    """
    model_cfg = _config_from(dict(config) if isinstance(config, Mapping) else config.to_dict())
    return convert_transformers_weights(state_dict), model_cfg


def is_transformers(state_dict: Mapping[str, Tensor]) -> bool:
    """Tell from the names whether weights are those of a whole CLIPModel of transformers."""
    return all(key in state_dict for key in (*_WHOLE.values(), *_TRANSPOSED.values()))


def convert_transformers_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape a transformers CLIPModel's weights.

    Raises:
        ConfigError: the model is not a plain CLIP.
    """
    weights = {key: value for key, value in state_dict.items() if not key.endswith("embeddings.position_ids")}
    converted: dict[str, Tensor] = {}
    for ours, theirs in _WHOLE.items():
        converted[ours] = _take(weights, theirs)
    for ours, theirs in _TRANSPOSED.items():
        converted[ours] = _take(weights, theirs).T.contiguous()
    blocks: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        ours_name, part = _name_from(key)
        if part is None:
            converted[ours_name] = value
        else:
            blocks.setdefault(ours_name, {})[part] = value
    for name, parts in blocks.items():
        converted[name] = torch.cat([_take(parts, part, name) for part in _PARTS])
    return converted


def to_transformers(state_dict: Mapping[str, Tensor], model_cfg: JsonObject) -> tuple[dict[str, Tensor], JsonObject]:
    """Turn our weights and configuration into those of a transformers CLIPModel.

    Args:
        state_dict: of a CLIP, or of a CustomTextCLIP with the native text tower.
        model_cfg: as ``open_clip.get_model_config`` gives it.

    Returns:
        (state dict, configuration): ``CLIPModel(CLIPConfig(**configuration)).load_state_dict(...)`` takes them.

    Raises:
        ConfigError: the model has parts that transformers' CLIP has no place for.
    """
    config = _config_to(model_cfg)
    weights = {key.removeprefix("text."): value for key, value in state_dict.items()}
    if "text_projection.weight" in weights:
        weights["text_projection"] = weights.pop("text_projection.weight").T
    converted: dict[str, Tensor] = {}
    for ours, theirs in _WHOLE.items():
        converted[theirs] = _take(weights, ours).reshape(()) if ours == "logit_scale" else _take(weights, ours)
    for ours, theirs in _TRANSPOSED.items():
        converted[theirs] = _take(weights, ours).T.contiguous()
    for key, value in weights.items():
        name = _name_to(key)
        if "{}" not in name:
            converted[name] = value
            continue
        for part, piece in zip(_PARTS, value.chunk(3), strict=True):
            converted[name.format(part)] = piece.contiguous()
    return converted, config


def _take(weights: dict[str, Tensor], key: str, where: str = "the weights") -> Tensor:
    if key not in weights:
        raise ConfigError(f"{where}: {printable(repr(key), 120)} is missing; only plain CLIP models are converted.")
    return weights.pop(key)


def _name_from(key: str) -> tuple[str, str | None]:
    """Our name for one of theirs, and which part of a joined entry it is."""
    for ours, theirs in _OUTSIDE:
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs), None
    for ours_tower, theirs_tower in _TOWERS:
        number, _, rest = key.removeprefix(theirs_tower).partition(".")
        if not key.startswith(theirs_tower):
            continue
        for ours, theirs in _IN_BLOCK:
            if rest.startswith(theirs):
                return f"{ours_tower}{number}.{ours}{rest.removeprefix(theirs)}", None
        for part in _PARTS:
            if rest.startswith(f"self_attn.{part}_proj."):
                return f"{ours_tower}{number}.attn.in_proj_{rest.rpartition('.')[2]}", part
    raise ConfigError(
        f"{printable(repr(key), 120)} is no part of transformers' CLIPModel; only plain CLIP models are converted."
    )


def _name_to(key: str) -> str:
    """Their name for one of ours, with ``{}`` where a joined entry is cut in three."""
    for ours, theirs in _OUTSIDE:
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    for ours_tower, theirs_tower in _TOWERS:
        number, _, rest = key.removeprefix(ours_tower).partition(".")
        if not key.startswith(ours_tower):
            continue
        for ours, theirs in _IN_BLOCK:
            if rest.startswith(ours):
                return f"{theirs_tower}{number}.{theirs}{rest.removeprefix(ours)}"
        if rest.startswith("attn.in_proj_"):
            return f"{theirs_tower}{number}.self_attn.{{}}_proj.{rest.removeprefix('attn.in_proj_')}"
    raise ConfigError(
        f"transformers' CLIP has no place for {printable(repr(key), 120)}; only plain CLIP models are converted."
    )


def _config_from(config: JsonObject) -> JsonObject:
    text, vision = config["text_config"], config["vision_config"]
    acts = {tower.get("hidden_act", "quick_gelu") for tower in (text, vision)}
    if len(acts) != 1 or not acts <= _ACTIVATIONS.keys():
        raise ConfigError(f"hidden_act is {cut_list(sorted(acts))}; both towers need quick_gelu or both gelu.")
    if vision.get("num_channels", 3) != 3:
        raise ConfigError(f"vision_config has {vision['num_channels']} channels; only 3 are supported.")
    vision_cfg = {
        "image_size": vision["image_size"],
        "layers": vision["num_hidden_layers"],
        "width": vision["hidden_size"],
        "head_width": vision["hidden_size"] // vision["num_attention_heads"],
        "patch_size": vision["patch_size"],
        "mlp_ratio": _ratio(vision["intermediate_size"], vision["hidden_size"]),
    }
    text_cfg = {
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        "width": text["hidden_size"],
        "heads": text["num_attention_heads"],
        "layers": text["num_hidden_layers"],
        "mlp_ratio": _ratio(text["intermediate_size"], text["hidden_size"]),
    }
    eos_id = text.get("eos_token_id", text["vocab_size"] - 1)
    if eos_id not in (_LEGACY_EOS, text["vocab_size"] - 1):
        text_cfg |= {"pool_type": "eos", "eos_id": eos_id}
    for cfg, tower in ((vision_cfg, vision), (text_cfg, text)):
        if (eps := tower.get("layer_norm_eps", _DEFAULT_EPS)) != _DEFAULT_EPS:
            cfg["norm_kwargs"] = {"eps": eps}
    quick_gelu = _ACTIVATIONS[acts.pop()]
    return {
        "embed_dim": config["projection_dim"],
        "quick_gelu": quick_gelu,
        "vision_cfg": vision_cfg,
        "text_cfg": text_cfg,
    }


def _ratio(inner: int, width: int) -> float:
    """Give the factor that, times the width and cut to a whole number, is the inner width."""
    ratio = inner / width
    return ratio if int(width * ratio) == inner else math.nextafter(ratio, math.inf)


def _config_to(model_cfg: JsonObject) -> JsonObject:
    vision, text = dict(model_cfg["vision_cfg"]), dict(model_cfg["text_cfg"])
    for name, cfg in (("vision", vision), ("text", text)):
        if other := sorted(cfg.keys() - _KNOWN_KEYS[name]):
            raise ConfigError(f"{name}_cfg has {cut_list(other)}, which transformers' CLIP has no place for.")
    pool_type = text.get("pool_type", "argmax")
    if not isinstance(vision["layers"], int) or pool_type not in ("argmax", "eos"):
        raise ConfigError("only models with a ViT and a text tower pooled at the end of text are converted.")
    act = "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"
    embed_dim = model_cfg["embed_dim"]
    vision_config = {
        "image_size": vision.get("image_size", 224),
        "num_hidden_layers": vision["layers"],
        "hidden_size": vision["width"],
        "num_attention_heads": vision["width"] // vision.get("head_width", 64),
        "patch_size": vision["patch_size"],
        "intermediate_size": int(vision["width"] * vision.get("mlp_ratio", 4.0)),
    }
    vocab_size = text.get("vocab_size", 49408)
    text_config = {
        "max_position_embeddings": text.get("context_length", 77),
        "vocab_size": vocab_size,
        "hidden_size": text["width"],
        "num_attention_heads": text["heads"],
        "num_hidden_layers": text["layers"],
        "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4.0)),
        "bos_token_id": vocab_size - 2,
        "eos_token_id": text["eos_id"] if pool_type == "eos" else vocab_size - 1,
    }
    for config, cfg in ((vision_config, vision), (text_config, text)):
        eps = (cfg.get("norm_kwargs") or {}).get("eps", _DEFAULT_EPS)
        config |= {"hidden_act": act, "layer_norm_eps": eps, "projection_dim": embed_dim}
    return {"text_config": text_config, "vision_config": vision_config, "projection_dim": embed_dim}
