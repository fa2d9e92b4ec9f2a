"""What a model name and a ``pretrained`` argument stand for: configuration, preprocessing, weights. Builds nothing."""

import json
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip.checkpoint import is_openai_archive, read_metadata
from open_clip.constants import HF_CONFIG_NAME
from open_clip.errors import CheckpointError, ConfigError, ModelNotFound, cut_list, printable, suggest_nearest
from open_clip.factory.names import (
    get_model_config,
    parse_model_name,
    place_of,
    read_folder_config,
    read_hub_config,
    unknown_model,
)
from open_clip.factory.weights import find_weights_file, find_weights_in_folder
from open_clip.model.preprocess import check_preprocess_cfg
from open_clip.pretrained import (
    download_pretrained,
    download_pretrained_from_hf,
    get_pretrained_cfg,
    list_pretrained_tags_by_model,
)

_logger = logging.getLogger(__name__)

# Where our own safetensors files keep what ``open_clip_config.json`` says.
CONFIG_METADATA = "open_clip_config"
_PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class Source:
    """What a model is made of.

    Attributes:
        model_cfg: Its configuration.
        preprocess_cfg: How its pictures are prepared, as far as that is known.
        weights_path: The weights; None when there are none or they are not wanted.
        quick_gelu: Whether the weights were trained with QuickGELU; None when that is not known.
    """

    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    weights_path: Path | None
    quick_gelu: bool | None = None


def find_source(
    model_name: str, pretrained: str | Path | None, load_weights: bool = True, cache_dir: str | None = None
) -> Source:
    """Look a model up and bring its weights here.

    Raises:
        ModelNotFound: unknown model name or tag.
        FileNotFoundError: a ``local-dir:`` folder or its configuration is missing.
        CheckpointError: weights or a hub repository are missing or cannot be fetched.
    """
    scheme, rest = parse_model_name(model_name)
    if scheme is not None:
        if pretrained:
            _logger.warning("%s brings its own weights; pretrained=%r is ignored.", model_name, pretrained)
        if scheme == "hf-hub":
            config = read_hub_config(rest, cache_dir)
            check_preprocess_cfg(config.get("preprocess_cfg") or {}, place_of(model_name))
            weights = Path(download_pretrained_from_hf(rest, cache_dir=cache_dir)) if load_weights else None
        else:
            config = read_folder_config(rest)
            check_preprocess_cfg(config.get("preprocess_cfg") or {}, place_of(model_name))
            weights = find_weights_in_folder(rest) if load_weights else None
        _refuse_other_places(model_name, config["model_cfg"])
        return Source(config["model_cfg"], config.get("preprocess_cfg") or {}, weights)
    model_cfg = get_model_config(rest)
    if model_cfg is None:
        raise unknown_model(model_name)
    if not pretrained:
        return Source(model_cfg, {}, None)
    if not isinstance(pretrained, str | Path):
        raise ConfigError(f"pretrained is {pretrained!r}; it can be a tag or the path of a weights file.")
    tag_cfg = get_pretrained_cfg(rest, str(pretrained))
    if tag_cfg:
        weights = Path(download_pretrained(tag_cfg, cache_dir=cache_dir)) if load_weights else None
        preprocess_cfg = {key: tag_cfg[key] for key in _PREPROCESS_KEYS}
        return Source(model_cfg, preprocess_cfg, weights, tag_cfg.get("quick_gelu", False))
    path = find_weights_file(pretrained)
    if path is None:
        raise _unknown_tag(str(pretrained), rest)
    if not load_weights:
        return Source(model_cfg, {}, None)
    preprocess_cfg, quick_gelu = _describe_file(path)
    return Source(model_cfg, preprocess_cfg, path, quick_gelu)


def _refuse_other_places(model_name: str, model_cfg: dict[str, Any]) -> None:
    """Refuse a downloaded or given configuration that sends timm to another repository or folder.

    Raises:
        ConfigError: it does.
    """
    vision_cfg = model_cfg.get("vision_cfg")
    network = vision_cfg.get("timm_model_name") if isinstance(vision_cfg, dict) else None
    if network is not None and not (isinstance(network, str) and re.fullmatch(r"[\w.-]+", network)):
        raise ConfigError(
            f"{printable(model_name)}: its configuration takes the image tower from {printable(network, 120)!r}. A "
            "model's configuration names a network of timm's own; another folder or repository is only taken from a "
            "configuration that you add yourself (add_model_config)."
        )


def _unknown_tag(tag: str, model: str) -> ModelNotFound:
    tags = list_pretrained_tags_by_model(model)
    has = f"It has {cut_list(tags)}." if tags else "It has none by tag."
    near = suggest_nearest(tag[:100], tags)
    return ModelNotFound(
        f"{model} has no weights called '{printable(tag, 100)}', and there is no file of that name.{near} {has} "
        "open_clip.list_pretrained() lists all; the path of a weights file can be given too."
    )


def _describe_file(path: Path) -> tuple[dict[str, Any], bool | None]:
    """Read how pictures are prepared for a bare file's weights, and whether they know QuickGELU; few files say."""
    written = read_metadata(path).get(CONFIG_METADATA)
    if written is not None:
        try:
            return _split_config(json.loads(written))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: its metadata entry {CONFIG_METADATA!r} is damaged ({error!r}).") from error
    if is_openai_archive(path):
        return {}, True
    if (path.parent / HF_CONFIG_NAME).is_file():
        _logger.info("%s beside %s says how its pictures are prepared.", HF_CONFIG_NAME, path)
        config = read_folder_config(path.parent)
        return _split_config({"preprocess_cfg": {}} | config)
    # Known to whoever trained them only, and wrong statistics cost accuracy silently.
    _logger.warning(
        "%s does not say how its pictures were prepared; OpenAI's mean, std and bicubic resizing are used unless "
        "arguments (image_mean, ...) say otherwise.",
        path,
    )
    return {}, None


def _split_config(config: dict[str, Any]) -> tuple[dict[str, Any], bool | None]:
    preprocess_cfg, model_cfg = config["preprocess_cfg"], config.get("model_cfg")
    known = {key: preprocess_cfg[key] for key in _PREPROCESS_KEYS if key in preprocess_cfg}
    return known, bool(model_cfg.get("quick_gelu")) if model_cfg else None


def warn_of_quick_gelu(model_name: str, model_cfg: dict[str, Any], source: Source) -> None:
    """Warn when the weights were trained with another activation than the model has."""
    has = bool(model_cfg.get("quick_gelu"))
    if source.weights_path is None or source.quick_gelu is None or source.quick_gelu == has:
        return
    trained, built = ("QuickGELU", "GELU") if source.quick_gelu else ("GELU", "QuickGELU")
    remedy = f"{model_name}-quickgelu or force_quick_gelu=True" if source.quick_gelu else "the model without quickgelu"
    warnings.warn(
        f"QuickGELU mismatch: the weights of {model_name} were trained with {trained} and the model is built with "
        f"{built}, which costs accuracy. Use {remedy}.",
        UserWarning,
        stacklevel=3,
    )
