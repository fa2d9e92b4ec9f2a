"""The ``force_*`` options and keyword arguments of ``create_model``, applied to a model configuration."""

import inspect
from copy import deepcopy
from typing import Any

from open_clip.errors import ConfigError, suggest_nearest
from open_clip.model import CLIP, CoCa

_TOP_LEVEL_KEYS = tuple(
    name for name in inspect.signature(CLIP).parameters | inspect.signature(CoCa).parameters if name != "cast_dtype"
)


def _to_size(image_size: Any) -> Any:
    if isinstance(image_size, list | tuple) and len(image_size) == 1:
        return image_size[0]
    return tuple(image_size) if isinstance(image_size, list) else image_size


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _checked_size(size: Any, vision_cfg: dict[str, Any]) -> Any:
    """Return the size of an image when the tower can make at least one patch of it."""
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(map(_is_whole, sides)):
        raise ConfigError(f"force_image_size={size!r}: it is a number of pixels from 1 up, or (height, width).")
    if "timm_model_name" in vision_cfg:
        return size
    # A ResNet halves an image five times.
    patch: Any = 32 if isinstance(vision_cfg.get("layers"), list | tuple) else vision_cfg.get("patch_size", 16)
    patches = patch if isinstance(patch, list | tuple) else (patch, patch)
    if any(side < least for side, least in zip(sides, patches, strict=True)):
        raise ConfigError(
            f"force_image_size={size!r} is too small: this model's images have at least {patches[0]} x {patches[1]} "
            "pixels, one patch."
        )
    return size


def apply_options(
    model_cfg: dict[str, Any],
    model_kwargs: dict[str, Any],
    *,
    force_quick_gelu: bool = False,
    force_patch_dropout: float | None = None,
    force_image_size: int | tuple[int, int] | None = None,
    force_context_length: int | None = None,
) -> dict[str, Any]:
    """Return a copy of a model configuration with the options and the top-level ``model_kwargs`` written into it.

    Raises:
        ConfigError: an argument is not one a model takes.
    """
    for key in model_kwargs:
        if key not in _TOP_LEVEL_KEYS:
            raise ConfigError(f"create_model: no model takes {key!r}.{suggest_nearest(key, _TOP_LEVEL_KEYS)}")
    cfg = deepcopy(model_cfg)
    if force_quick_gelu:
        cfg["quick_gelu"] = True
    if force_patch_dropout is not None:
        cfg["vision_cfg"]["patch_dropout"] = force_patch_dropout
    if force_image_size is not None:
        cfg["vision_cfg"]["image_size"] = _checked_size(_to_size(force_image_size), cfg["vision_cfg"])
    if force_context_length is not None:
        if not _is_whole(force_context_length):
            raise ConfigError(f"force_context_length={force_context_length!r}: it is a number of tokens from 1 up.")
        cfg["text_cfg"]["context_length"] = force_context_length
        if "multimodal_cfg" in cfg:
            cfg["multimodal_cfg"]["context_length"] = force_context_length
    return cfg | model_kwargs


def ask_base_weights(model_cfg: dict[str, Any], image: bool, text: bool) -> None:
    """Write into a configuration whether a timm and a Hugging Face tower start from weights of their own library.

    What the configuration says itself does not count. Source: open_clip.create_model (3.3.0).
    """
    if "timm_model_name" in model_cfg["vision_cfg"]:
        model_cfg["vision_cfg"]["timm_model_pretrained"] = image
    if "hf_model_name" in model_cfg["text_cfg"]:
        model_cfg["text_cfg"]["hf_model_pretrained"] = text


def is_custom_text(model_cfg: dict[str, Any], force_custom_text: bool = False) -> bool:
    """Tell whether a configuration asks for the layout with a whole tower under ``text``."""
    return bool(force_custom_text or model_cfg.get("custom_text") or "hf_model_name" in model_cfg["text_cfg"])
