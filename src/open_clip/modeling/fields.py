"""Kind and bounds of each value of a model's configuration. How values fit together is ``schema.py``'s job.

A configuration may come from anywhere, and a wrong value must not reach a layer: torch would ask for any memory.
"""

import dataclasses
import math
import types
from typing import Any, Union, get_args, get_origin

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, printable, suggest_nearest

_SHOWN = 80
_KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "an object"}
_WIDEST = 1 << 16
_MOST_LAYERS = 1 << 10

# Least and greatest value of numbers; far beyond any model that there is, and small enough to be computed with.
_BOUNDS: dict[str, tuple[float, float]] = {
    "embed_dim": (1, _WIDEST),
    "layers": (1, _MOST_LAYERS),
    "width": (1, _WIDEST),
    "heads": (1, _WIDEST),
    "head_width": (1, _WIDEST),
    "dim_head": (1, _WIDEST),
    "mlp_ratio": (1e-3, 1e3),
    "patch_size": (1, _WIDEST),
    "image_size": (1, _WIDEST),
    "context_length": (1, _WIDEST),
    "vocab_size": (1, 1 << 27),
    "pad_id": (0, 1 << 31),
    "eos_id": (0, 1 << 31),
    "patch_dropout": (0, 1 - 1e-6),
    "timm_drop": (0, 1),
    "timm_drop_path": (0, 1),
    "ls_init_value": (-1e6, 1e6),
    "attn_pooler_queries": (1, _WIDEST),
    "n_queries": (1, _WIDEST),
    "attn_pooler_heads": (1, _WIDEST),
    "init_logit_scale": (-1e3, 1e3),
    "init_logit_bias": (-1e6, 1e6),
    "eps": (0, 1),
}
_CHOICES: dict[str, tuple[object, ...]] = {
    "attentional_pool": (True, False, "parallel", "cascade"),
    "pos_embed_type": ("learnable", "sin_cos_2d"),
    "block_type": ("default", "custom"),
    "proj_type": ("linear", "none"),
    "approximate": ("none", "tanh"),
}
_OPTIONS_OF_LAYERS: dict[str, JsonObject] = {
    "norm_kwargs": {"eps": float, "elementwise_affine": bool, "bias": bool},
    "act_kwargs": {"approximate": str, "inplace": bool},
}
# Keys of later versions and of forks, with the family that needs them. Source: open_clip at 4.x, LAION's MaMMUT fork.
_FOREIGN_KEYS = {
    "tokenizer_type": "models with a tiktoken tokenizer",
    "tiktoken_name": "models with a tiktoken tokenizer",
    "tiktoken_bpe_path": "models with a tiktoken tokenizer",
    "tiktoken_config_path": "models with a tiktoken tokenizer",
    "text_arch": "modern text towers",
    "variable_text": "models of texts of variable length",
    "hf_model_config": "ModernBERT text towers",
    "does_full_decoding": "MaMMUT",
    "cross_attn_ratio": "MaMMUT",
    "tie_lm_head": "MaMMUT",
    "genlip_cfg": "GenLIP",
    "genlap_cfg": "GenLAP",
    "audio_cfg": "CLAP",
    "naflex_patch_interp": "NaFlex vision towers",
    "image_seq_len": "NaFlex vision towers",
    "timm_model_kwargs": "NaFlex vision towers",
}


def refuse_unknown(section: str, values: JsonObject, known: set[str]) -> None:
    """Refuse a key that a section does not have, by the family that needs it or with the nearest known ones.

    Raises:
        ConfigError: there is one; a key of another family that is null or false asks for nothing.
    """
    for key, value in values.items():
        if key in known:
            continue
        if key in _FOREIGN_KEYS:
            if value is None or value is False:
                continue
            raise ConfigError(
                f"{section} has {key!r} ({show(value)}): it is of the family {_FOREIGN_KEYS[key]}, which this version "
                "does not have. Choose another model, or use a version of OpenCLIP that knows it."
            )
        raise ConfigError(f"{section} has no field '{printable(key, _SHOWN)}'.{suggest_nearest(str(key), known)}")


def is_foreign(key: str) -> bool:
    """Tell whether a key belongs to a family of models that this version does not have."""
    return key in _FOREIGN_KEYS


def check_fields(section: str, cls: type, values: JsonObject) -> None:
    """Compare a section's values with the types of a dataclass's fields and with the bounds of their names.

    Raises:
        ConfigError: one is of another kind or out of bounds; names section, key, value and what can stand there.
    """
    for field in dataclasses.fields(cls):
        if field.name in values:
            check_value(section, field.name, field.type, values[field.name])


def check_value(section: str, key: str, kind: Any, value: object) -> None:
    """Check one value; see ``check_fields``."""
    place = f"{section}.{key}" if section else key
    if key in _OPTIONS_OF_LAYERS and isinstance(value, dict):
        options = _OPTIONS_OF_LAYERS[key]
        refuse_unknown(place, value, set(options))
        for name, item in value.items():
            check_value(place, name, options[name], item)
        return
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if not any(_is_of(value, one) for one in kinds):
        raise ConfigError(f"{place} is {show(value)}; it must be {' or '.join(dict.fromkeys(map(_name, kinds)))}.")
    if key in _CHOICES and value is not None and not any(value is one or value == one for one in _CHOICES[key]):
        raise ConfigError(f"{place} is {show(value)}; it can be {', '.join(map(show, _CHOICES[key]))}.")
    least, most = _BOUNDS.get(key, (-math.inf, math.inf))
    for number in value if isinstance(value, list | tuple) else (value,):
        if isinstance(number, int | float) and not isinstance(number, bool) and not least <= number <= most:
            raise ConfigError(f"{place} is {show(value)}; it must be from {least:g} to {most:g}.")


def show(value: object) -> str:
    """Write a foreign value for a message: as JSON has it, in one line, cut."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list | tuple) and len(value) > _SHOWN:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)} entries"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of more than 77 digits"
    return printable(repr(value[:_SHOWN] if isinstance(value, str) else value), _SHOWN)


def _is_of(value: object, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is types.NoneType:
        return value is None
    if kind is bool:
        # Programs that write null for a switch that is off are taken at their word, as by open_clip 3.3.0.
        return value is None or isinstance(value, bool)
    if get_origin(kind) is tuple:
        return (
            isinstance(value, list | tuple)
            and len(value) == len(get_args(kind))
            and all(_is_of(item, one) for item, one in zip(value, get_args(kind), strict=True))
        )
    if kind is float:
        # An integer may be too large to be a float.
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    base = get_origin(kind) or kind
    return isinstance(value, base)


def _name(kind: Any) -> str:
    if kind is types.NoneType:
        return "null"
    if get_origin(kind) is tuple:
        return f"a list of {len(get_args(kind))} whole numbers"
    return _KIND_NAMES.get(get_origin(kind) or kind, str(kind))
