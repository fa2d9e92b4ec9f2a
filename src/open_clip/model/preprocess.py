"""What a model says about its inputs: pixel preprocessing and token ids. Building transforms is done elsewhere."""

from copy import deepcopy
from typing import Any

from torch import nn


def get_model_preprocess_cfg(model: nn.Module) -> dict[str, Any]:
    """Return the preprocessing settings kept on a model; older models have only ``image_mean`` and ``image_std``."""
    visual = getattr(model, "visual", model)
    found: dict[str, Any] = getattr(visual, "preprocess_cfg", {})
    if found:
        return found
    legacy = {"size": "image_size", "mean": "image_mean", "std": "image_std"}
    return {key: value for key, name in legacy.items() if (value := getattr(visual, name, None)) is not None}


def set_model_preprocess_cfg(model: nn.Module, preprocess_cfg: dict[str, Any]) -> None:
    """Keep preprocessing settings (``mean``, ``std``, ...) on ``model.visual``, under the old names too."""
    visual: Any = getattr(model, "visual", model)
    visual.image_mean = preprocess_cfg["mean"]
    visual.image_std = preprocess_cfg["std"]
    visual.preprocess_cfg = deepcopy(preprocess_cfg)


def get_model_tokenize_cfg(model: nn.Module) -> dict[str, Any]:
    """Return the model's ``context_length`` and ``vocab_size``, where it says them."""
    text = getattr(model, "text", model)
    names = ("context_length", "vocab_size")
    return {name: value for name in names if (value := getattr(text, name, None)) is not None}
