"""What CLIP, CustomTextCLIP and CoCa share as families: configurations with ``vision_cfg`` and ``text_cfg``."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.families.base import Family, Forced, TokenizerMaker, TokenizerRequest
from open_clip.modeling.config import SECTIONS, make_cfg
from open_clip.modeling.schema import KNOWN_KEYS, check_text_section, check_towers
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SigLipTokenizer, SimpleTokenizer
from open_clip.tokenizer.options import HF_OPTIONS, OWN_OPTIONS, check_config_options

_TOP_DEFAULTS = {"quick_gelu": False, "custom_text": False, "init_logit_bias": None, "nonscalar_logit_scale": False}


class TowerFamily(Family):
    """A family whose models have an image tower of ``vision_cfg`` and a text tower of ``text_cfg``."""

    adopted: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "": ("quick_gelu", "custom_text", "init_logit_bias", "nonscalar_logit_scale"),
        "vision_cfg": ("image_size",),
        "text_cfg": ("context_length",),
        "multimodal_cfg": ("context_length",),
    }

    def option_names(self) -> tuple[str, ...]:
        """Name the top-level keys of all three, as a ``multimodal_cfg`` makes a CoCa of any."""
        return tuple(key for key in KNOWN_KEYS if key != "custom_text")

    def build(self, model_cfg: JsonObject, cast_dtype: torch.dtype | None) -> nn.Module:
        """Make the model; a decoder that is null is one that is not there."""
        present = {key: value for key, value in model_cfg.items() if value is not None or key != "multimodal_cfg"}
        return super().build(present, cast_dtype)

    def check(self, model_cfg: JsonObject) -> None:
        """Check keys, kinds and bounds, and that the parts fit each other."""
        check_towers(_without_family(model_cfg))

    def check_texts(self, model_cfg: JsonObject) -> None:
        """Check a configuration for its tokenizer: only the text part must be there."""
        check_text_section(_without_family(model_cfg))

    def apply_options(self, model_cfg: JsonObject, forced: Forced) -> JsonObject:
        """Return a copy of a configuration with the ``force_*`` options written into it."""
        cfg = deepcopy(model_cfg)
        if forced.quick_gelu:
            cfg["quick_gelu"] = True
        if forced.patch_dropout is not None:
            cfg["vision_cfg"]["patch_dropout"] = forced.patch_dropout
        if forced.image_size is not None:
            cfg["vision_cfg"]["image_size"] = _checked_size(_to_size(forced.image_size), cfg["vision_cfg"])
        if forced.context_length is not None:
            if not _is_whole(forced.context_length):
                raise ConfigError(
                    f"force_context_length={forced.context_length!r}: it is a number of tokens from 1 up."
                )
            cfg["text_cfg"]["context_length"] = forced.context_length
            if "multimodal_cfg" in cfg:
                cfg["multimodal_cfg"]["context_length"] = forced.context_length
        if forced.custom_text or cfg.get("custom_text") or "hf_model_name" in cfg["text_cfg"]:
            cfg["custom_text"] = True
            if cfg.get("family") == "clip":
                cfg["family"] = "custom_text"
        return cfg

    def ask_base_weights(self, model_cfg: JsonObject, image: bool, text: bool) -> tuple[bool, bool]:
        """Write whether a timm and a Hugging Face tower start from weights of their own library.

        What the configuration says itself does not count. Source: open_clip.create_model (3.3.0).
        """
        vision_cfg, text_cfg = model_cfg["vision_cfg"], model_cfg["text_cfg"]
        if "timm_model_name" in vision_cfg:
            vision_cfg["timm_model_pretrained"] = image
        if "hf_model_name" in text_cfg:
            text_cfg["hf_model_pretrained"] = text
        return image and bool(vision_cfg.get("timm_model_name")), text and bool(text_cfg.get("hf_model_name"))

    def settings(self, model_cfg: JsonObject) -> dict[str, JsonObject]:
        """Give all values by section, defaults included, in one form; an empty dict for a section that is not there."""
        values = {section: _flat(model_cfg, section) for section in SECTIONS}
        top = {key: model_cfg.get(key, default) for key, default in _TOP_DEFAULTS.items()}
        top["custom_text"] = bool(top["custom_text"] or values["text_cfg"].get("hf_model_name"))
        return {"": top | {"embed_dim": model_cfg["embed_dim"]}, **values}

    def choose_tokenizer(self, model_cfg: JsonObject, request: TokenizerRequest) -> TokenizerMaker:
        """Choose the Hugging Face tokenizer that a configuration names, SigLIP's by the model's name, else CLIP's own.

        Source: open_clip.get_tokenizer (3.3.0): the order of the choices.
        """
        text_cfg: JsonObject = model_cfg.get("text_cfg") or {}
        length = request.context_length
        length = text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH) if length is None else length
        hf_name = text_cfg.get("hf_tokenizer_name")
        known = HF_OPTIONS if hf_name else OWN_OPTIONS
        options = check_config_options(text_cfg.get("tokenizer_kwargs"), known) | dict(request.options)
        if hf_name:
            return partial(
                HFTokenizer,
                request.folder or hf_name,
                context_length=length,
                cache_dir=request.cache_dir,
                tokenizer_mode=text_cfg.get("tokenizer_mode"),
                **options,
            )
        name = request.model.lower()
        if request.is_own and "siglip" in name:
            return partial(
                SigLipTokenizer, _siglip_vocabulary(name), context_length=length, cache_dir=request.cache_dir
            )
        return partial(SimpleTokenizer, context_length=length, **options)


def _without_family(model_cfg: JsonObject) -> JsonObject:
    if not isinstance(model_cfg, dict):
        return model_cfg
    return {key: value for key, value in model_cfg.items() if key != "family"}


def _siglip_vocabulary(name: str) -> str:
    if "siglip2" in name:
        return "gemma"
    return "mc4" if "i18n" in name else "c4-en"


def _flat(model_cfg: JsonObject, section: str) -> JsonObject:
    values = model_cfg.get(section)
    if values is None:
        return {}
    made = asdict(make_cfg(SECTIONS[section], values))
    return {key: list(value) if isinstance(value, tuple) else value for key, value in made.items()}


def _to_size(image_size: object) -> object:
    if isinstance(image_size, list | tuple) and len(image_size) == 1:
        return image_size[0]
    return tuple(image_size) if isinstance(image_size, list) else image_size


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _checked_size(size: object, vision_cfg: JsonObject) -> Any:
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
