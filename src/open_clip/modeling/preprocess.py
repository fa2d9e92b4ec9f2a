"""What a model says about its inputs: pixel preprocessing and token ids. Building transforms is done elsewhere."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeGuard

from torch import nn

from open_clip.checked_json import JsonObject, is_number
from open_clip.errors import ConfigError
from open_clip.modeling.fields import show
from open_clip.transform.config import INTERPOLATIONS, RESIZE_MODES

_LARGEST = 1e6
_LARGEST_SIZE = 1 << 16


def get_model_preprocess_cfg(model: nn.Module) -> JsonObject:
    """Return the preprocessing settings kept on a model; older models have only ``image_mean`` and ``image_std``."""
    visual = getattr(model, "visual", model)
    found: JsonObject = getattr(visual, "preprocess_cfg", {})
    if found:
        return found
    legacy = {"size": "image_size", "mean": "image_mean", "std": "image_std"}
    return {key: value for key, name in legacy.items() if (value := getattr(visual, name, None)) is not None}


def set_model_preprocess_cfg(model: nn.Module, preprocess_cfg: JsonObject) -> None:
    """Keep preprocessing settings (``mean``, ``std``, ...) on ``model.visual``, under the old names too."""
    visual: Any = getattr(model, "visual", model)
    visual.image_mean = preprocess_cfg["mean"]
    visual.image_std = preprocess_cfg["std"]
    visual.preprocess_cfg = deepcopy(preprocess_cfg)


def get_model_tokenize_cfg(model: nn.Module) -> JsonObject:
    """Return the model's ``context_length`` and ``vocab_size``, where it says them."""
    text = getattr(model, "text", model)
    names = ("context_length", "vocab_size")
    return {name: value for name in names if (value := getattr(text, name, None)) is not None}


def check_preprocess_cfg(preprocess_cfg: object, place: str) -> None:
    """Check the values of preprocessing settings; keys that nobody reads are left alone, as upstream does.

    Args:
        preprocess_cfg: What stands under ``preprocess_cfg``.
        place: The file it came from, for messages.

    Raises:
        ConfigError: a value cannot be; names place, key and value.
    """
    if not isinstance(preprocess_cfg, dict):
        raise ConfigError(f"{place}: preprocess_cfg is {show(preprocess_cfg)}; it must be an object.")
    for key, (is_right, expected) in _PREPROCESS_RULES.items():
        value = preprocess_cfg.get(key)
        if value is not None and not is_right(value):
            raise ConfigError(f"{place}: preprocess_cfg.{key} is {show(value)}; it must be {expected}.")


def _is_number(value: object) -> TypeGuard[float]:
    return is_number(value) and abs(value) <= _LARGEST


def _are_channels(value: object) -> bool:
    return _is_number(value) or (
        isinstance(value, list | tuple) and len(value) in (1, 3) and all(_is_number(item) for item in value)
    )


def _are_deviations(value: object) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return _are_channels(value) and all(_is_number(item) and item > 0 for item in values)


def _is_size(value: object) -> bool:
    sizes = value if isinstance(value, list | tuple) else [value]
    return len(sizes) in (1, 2) and all(type(size) is int and 0 < size <= _LARGEST_SIZE for size in sizes)


_PREPROCESS_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "size": (_is_size, "a number of pixels, or height and width"),
    "mode": (lambda value: value == "RGB", '"RGB"'),
    "mean": (_are_channels, "a number for each of three channels"),
    "std": (_are_deviations, "a number above 0 for each of three channels"),
    "interpolation": (lambda value: value in INTERPOLATIONS, "bicubic, bilinear or random"),
    "resize_mode": (lambda value: value in RESIZE_MODES, "shortest, longest or squash"),
    "fill_color": (_are_channels, "a number, or one for each of three channels"),
}
