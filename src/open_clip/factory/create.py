"""Building a model from its name: configuration, options, device, precision, weights. No transforms are made here."""

import dataclasses
import logging
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch

from open_clip.checked_json import JsonObject
from open_clip.checkpoint import load_checkpoint
from open_clip.errors import CheckpointError, ConfigError, printable, suggest_nearest
from open_clip.factory.description import Difference, Origin, adopt, public_name
from open_clip.factory.names import place_of
from open_clip.factory.nearest import explain_mismatch
from open_clip.factory.source import ModelSource, find_source, warn_of_quick_gelu
from open_clip.factory.weights import load_described, load_tower
from open_clip.families import check_model_cfg, find_family
from open_clip.families.base import Forced
from open_clip.families.clip.model import CLIP
from open_clip.families.coca.model import CoCa
from open_clip.families.custom_text.model import CustomTextCLIP
from open_clip.modeling.cast import (
    cast_all_but_norms,
    check_precision,
    convert_weights_to_lp,
    get_cast_dtype,
    get_pure_dtype,
)
from open_clip.modeling.fields import show
from open_clip.modeling.preprocess import set_model_preprocess_cfg
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

_logger = logging.getLogger(__name__)


def _build(model_cfg: JsonObject, precision: str) -> CLIP | CustomTextCLIP | CoCa:
    model = find_family(model_cfg).build(model_cfg, get_cast_dtype(precision))
    # What programs with type checkers expect; another family's model is of its own class.
    return cast(CLIP | CustomTextCLIP | CoCa, model)


def _move(model: CLIP | CustomTextCLIP | CoCa, device: torch.device, precision: str) -> None:
    model.to(device)
    if (dtype := get_cast_dtype(precision)) is not None:
        if isinstance(getattr(model, "visual", None), TimmModel):
            cast_all_but_norms(model, dtype)
        else:
            convert_weights_to_lp(model, dtype)
    elif (dtype := get_pure_dtype(precision)) is not None:
        model.to(dtype=dtype)


def create_model(
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
    force_preprocess_cfg: JsonObject | None = None,
    force_context_length: int | None = None,
    pretrained_image: bool = False,
    pretrained_text: bool = True,
    pretrained_image_path: str | Path | None = None,
    pretrained_text_path: str | Path | None = None,
    cache_dir: str | None = None,
    output_dict: bool | None = None,
    require_pretrained: bool = False,
    weights_only: bool = True,
    **model_kwargs: Any,
) -> CLIP | CustomTextCLIP | CoCa:
    """Build a model, put it on a device in a precision and load its weights.

    ``model_name`` is one of ``list_models()`` (``/`` reads as ``-``), ``hf-hub:org/repo`` or ``local-dir:PATH``;
    ``pretrained`` a tag of ``list_pretrained()``, which is downloaded to ``cache_dir``, or the path of a weights file;
    nothing = random weights, which ``require_pretrained`` makes an error.
    The precisions fp32 and amp* keep fp32 weights, fp16 and bf16 cast the matrices, pure_* cast everything.
    The ``force_*`` options and ``model_kwargs`` (top-level keys such as ``init_logit_bias``) replace parts of the
    configuration. ``pretrained_image`` and ``pretrained_text`` give a timm or Hugging Face tower its own library's base
    weights, downloaded, when neither a full checkpoint nor a file for that tower is loaded.
    ``weights_only`` is accepted for older callers: no file's code is ever run.

    Raises:
        ModelNotFound: unknown model name or tag.
        ConfigError: unknown option or unsupported configuration.
        CheckpointError: the weights cannot be read, do not fit or are required and missing.
    """
    check_precision(precision)
    if jit:
        warnings.warn("create_model: jit is ignored; TorchScript models are gone.", DeprecationWarning, stacklevel=2)
    pretrained_text = model_kwargs.pop("pretrained_hf", pretrained_text)
    source = find_source(model_name, pretrained, load_weights, cache_dir)
    if require_pretrained and source.weights_path is None:
        raise CheckpointError(f"{model_name}: pretrained weights are required and none were named or found.")
    check_model_cfg(source.model_cfg, place_of(model_name))
    told_cfg, taken = adopt(source.model_cfg, source.told, model_name)
    forced = Forced(force_quick_gelu, force_custom_text, force_patch_dropout, force_image_size, force_context_length)
    model_cfg = _apply_options(told_cfg, forced, model_kwargs)
    check_model_cfg(model_cfg, printable(model_name))
    # Before the next line, which writes into the configuration what holds for this call alone.
    origin = Origin(public_name(model_name), deepcopy(model_cfg), source.weights_path)
    image_weights = pretrained_image and source.weights_path is None and not pretrained_image_path
    text_weights = pretrained_text and source.weights_path is None and not pretrained_text_path
    of_image, of_text = find_family(model_cfg).ask_base_weights(model_cfg, image=image_weights, text=text_weights)
    warn_of_quick_gelu(model_name, model_cfg, source)
    model = _build(model_cfg, precision)
    model.origin = origin
    _set_preprocess(model, source.preprocess_cfg, force_preprocess_cfg)
    _move(model, torch.device(device), precision)
    with explain_mismatch(model):
        _load(model, source, taken)
    is_resized = force_image_size is not None or any(one.key == "vision_cfg.image_size" for one in taken)
    # Other towers were built in the new size and resize tables as they load; a timm network is built in its own size,
    # which its weights fit, and resizes itself afterwards.
    if is_resized and isinstance(model.visual, TimmModel):
        model.visual.set_input_size(model.visual.image_size)
        _set_preprocess(model, source.preprocess_cfg, force_preprocess_cfg)
    for tower, path in (("visual", pretrained_image_path), ("text", pretrained_text_path)):
        if path:
            load_tower(model, path, tower)
    model.output_dict = bool(output_dict or model_cfg.get("output_dict"))
    has_base = (pretrained_image_path or of_image) and (pretrained_text_path or of_text)
    if load_weights and source.weights_path is None and not has_base:
        _logger.warning("%s has random weights: no pretrained weights were named or found.", printable(model_name))
    return model


def _apply_options(model_cfg: JsonObject, forced: Forced, model_kwargs: JsonObject) -> JsonObject:
    family = find_family(model_cfg)
    known = family.option_names()
    for key in model_kwargs:
        if key not in known:
            raise ConfigError(f"create_model: no model takes {key!r}.{suggest_nearest(key, known)}")
    return family.apply_options(model_cfg, forced) | model_kwargs


def _load(model: CLIP | CustomTextCLIP | CoCa, source: ModelSource, taken: list[Difference]) -> None:
    """Load the weights a model's source has, and say in what the model is not the one they were trained in."""
    path = source.weights_path
    if path is None:
        return
    if source.state_dict is None:
        load_checkpoint(model, path)
        return
    if taken:
        # Not the model's plain form, and what the caller will get is.
        listed = ", ".join(f"{one.key} {show(one.trained)}" for one in taken)
        _logger.info("%s says so: the model is built with %s.", printable(path), listed)
    load_described(model, source.state_dict, source.told, path)


def _set_preprocess(model: CLIP | CustomTextCLIP | CoCa, preprocess_cfg: JsonObject, forced: JsonObject | None) -> None:
    merged = merge_preprocess_dict(dataclasses.asdict(PreprocessCfg()), preprocess_cfg)
    merged = merge_preprocess_dict(merged, forced or {})
    # A family may have no images; what prepares them is then never used.
    if hasattr(model, "visual"):
        merged["size"] = model.visual.image_size
    set_model_preprocess_cfg(model, merged)
