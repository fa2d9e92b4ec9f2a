"""Models together with the transforms that fit them. The transforms themselves are ``open_clip.transform``'s."""

from pathlib import Path
from typing import Any

import torch

from open_clip.checked_json import JsonObject
from open_clip.errors import CheckpointError, cut_list
from open_clip.factory.create import create_model
from open_clip.factory.names import HUB_SCHEME, LOCAL_DIR_SCHEME, parse_model_name
from open_clip.families.clip.model import CLIP
from open_clip.families.coca.model import CoCa
from open_clip.families.custom_text.model import CustomTextCLIP
from open_clip.modeling.preprocess import get_model_preprocess_cfg
from open_clip.pretrained import list_pretrained_tags_by_model
from open_clip.transform import AugmentationCfg, Compose, PreprocessCfg, image_transform_v2


def _forced_preprocess(mean: object, std: object, interpolation: str | None, resize_mode: str | None) -> JsonObject:
    given = {"mean": mean, "std": std, "interpolation": interpolation, "resize_mode": resize_mode}
    return {key: value for key, value in given.items() if value is not None}


def create_model_and_transforms(
    model_name: str,
    pretrained: str | Path | None = None,
    load_weights: bool = True,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    jit: bool = False,
    force_quick_gelu: bool = False,
    force_custom_text: bool = False,
    force_patch_dropout: float | None = None,
    force_image_size: int | tuple[int, int] | None = None,
    force_context_length: int | None = None,
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    image_interpolation: str | None = None,
    image_resize_mode: str | None = None,
    aug_cfg: JsonObject | AugmentationCfg | None = None,
    pretrained_image: bool = False,
    pretrained_text: bool = True,
    pretrained_image_path: str | Path | None = None,
    pretrained_text_path: str | Path | None = None,
    cache_dir: str | None = None,
    output_dict: bool | None = None,
    weights_only: bool = True,
    **model_kwargs: Any,
) -> tuple[CLIP | CustomTextCLIP | CoCa, Compose, Compose]:
    """Build a model with its training and validation transforms; arguments and errors as ``create_model``.

    The ``image_*`` arguments replace the model's preprocessing settings, ``aug_cfg`` is for the training transform.

    Returns:
        (model, training transform, validation transform).
    """
    model = create_model(
        model_name,
        pretrained,
        load_weights,
        precision,
        device,
        jit,
        force_quick_gelu,
        force_custom_text,
        force_patch_dropout,
        force_image_size,
        _forced_preprocess(image_mean, image_std, image_interpolation, image_resize_mode),
        force_context_length,
        pretrained_image,
        pretrained_text,
        pretrained_image_path,
        pretrained_text_path,
        cache_dir,
        output_dict,
        weights_only=weights_only,
        **model_kwargs,
    )
    preprocess = PreprocessCfg(**get_model_preprocess_cfg(model))
    return (
        model,
        image_transform_v2(preprocess, is_train=True, aug_cfg=aug_cfg),
        image_transform_v2(preprocess, is_train=False),
    )


def create_model_from_pretrained(
    model_name: str,
    pretrained: str | Path | None = None,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    jit: bool = False,
    force_quick_gelu: bool = False,
    force_custom_text: bool = False,
    force_image_size: int | tuple[int, int] | None = None,
    force_context_length: int | None = None,
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    image_interpolation: str | None = None,
    image_resize_mode: str | None = None,
    return_transform: bool = True,
    cache_dir: str | None = None,
    weights_only: bool = True,
    **model_kwargs: Any,
) -> CLIP | CustomTextCLIP | CoCa | tuple[CLIP | CustomTextCLIP | CoCa, Compose]:
    """Build a model that must have weights, with its validation transform unless ``return_transform`` is off.

    Raises:
        CheckpointError: no weights were named; otherwise as ``create_model``.
    """
    if not pretrained and not model_name.startswith((LOCAL_DIR_SCHEME, HUB_SCHEME)):
        tags = list_pretrained_tags_by_model(parse_model_name(model_name)[1])
        raise CheckpointError(
            f"{model_name}: create_model_from_pretrained needs `pretrained`: the path of a weights file"
            + (f" or a tag ({cut_list(tags)})." if tags else ".")
        )
    model = create_model(
        model_name,
        pretrained,
        precision=precision,
        device=device,
        jit=jit,
        force_quick_gelu=force_quick_gelu,
        force_custom_text=force_custom_text,
        force_image_size=force_image_size,
        force_preprocess_cfg=_forced_preprocess(image_mean, image_std, image_interpolation, image_resize_mode),
        force_context_length=force_context_length,
        cache_dir=cache_dir,
        require_pretrained=True,
        weights_only=weights_only,
        **model_kwargs,
    )
    if not return_transform:
        return model
    return model, image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False)
