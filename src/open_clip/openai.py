"""OpenAI's models by name or file. No code in their files is ever run; ``create_model`` with the tag does the same.

Source: open_clip.openai (3.3.0): names, precisions and the eval mode of what is returned.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from open_clip.checkpoint import read_state_dict
from open_clip.errors import ModelNotFound, cut_list, suggest_nearest
from open_clip.model import build_model_from_openai_state_dict, get_cast_dtype, set_model_preprocess_cfg
from open_clip.modeling.cast import check_precision, get_pure_dtype
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_models_by_tag
from open_clip.transform import PreprocessCfg

__all__ = ["list_openai_models", "load_openai_model"]

_TAG = "openai"


def list_openai_models() -> list[str]:
    """List the models that OpenAI published weights for."""
    return list_pretrained_models_by_tag(_TAG)


def _find_file(name: str, cache_dir: str | None) -> str:
    """Return the weights file that a model's name or a path stands for, downloaded if need be."""
    known = list_openai_models()
    model_name = name.replace("/", "-")
    if model_name in known:
        # OpenAI's own archive when it lies in the cache or can be fetched is what this function is asked for.
        return download_pretrained(get_pretrained_cfg(model_name, _TAG), prefer_hf_hub=False, cache_dir=cache_dir)
    if Path(name).is_file():
        return name
    raise ModelNotFound(
        f"{name!r} is neither a file nor a model of OpenAI's.{suggest_nearest(model_name, known)} "
        f"Known are {cut_list(known, limit=len(known))}."
    )


def _default_device() -> torch.device:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def load_openai_model(
    name: str,
    precision: str | None = None,
    device: str | torch.device | None = None,
    cache_dir: str | None = None,
) -> nn.Module:
    """Build one of OpenAI's models with its weights, in eval mode.

    Args:
        name: one of ``list_openai_models()`` or the path of a file, TorchScript archive or plain weights.
        precision: as in ``create_model``; fp32 on a CPU and fp16 elsewhere when left out.
        device: where to put the model; torch's accelerator, else the CPU, when left out.
        cache_dir: where downloads are kept.

    Raises:
        ModelNotFound: no such model or file.
        ConfigError: unknown precision.
        CheckpointError: the file cannot be read or is not OpenAI's layout.
    """
    device = _default_device() if device is None else torch.device(device)
    precision = precision or ("fp32" if device.type == "cpu" else "fp16")
    check_precision(precision)
    weights = read_state_dict(_find_file(name, cache_dir))
    model = build_model_from_openai_state_dict(weights, cast_dtype=get_cast_dtype(precision) or torch.float32)
    model = model.to(device=device, dtype=get_pure_dtype(precision))
    visual: Any = model.visual
    set_model_preprocess_cfg(model, dataclasses.asdict(PreprocessCfg()) | {"size": visual.image_size})
    return model
