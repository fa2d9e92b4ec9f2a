"""What a model name and a ``pretrained`` argument stand for: configuration, preprocessing, weights. Builds nothing."""

import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from open_clip.checked_json import JsonObject, read_json
from open_clip.checkpoint import is_openai_archive, read_described
from open_clip.constants import HF_CONFIG_NAME
from open_clip.errors import ConfigError, ModelNotFound, cut_list, printable, suggest_nearest
from open_clip.factory.description import PREPROCESS_KEYS, Description, parse_description, read_description
from open_clip.factory.names import (
    get_model_config,
    parse_model_name,
    place_of,
    read_folder_config,
    read_hub_config,
    unknown_model,
)
from open_clip.factory.weights import find_weights_file, find_weights_in_folder
from open_clip.modeling.preprocess import check_preprocess_cfg
from open_clip.pretrained import (
    download_pretrained,
    download_pretrained_from_hf,
    get_pretrained_cfg,
    list_pretrained_tags_by_model,
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSource:
    """What a model is made of.

    Attributes:
        model_cfg: Its configuration.
        preprocess_cfg: How its images are prepared, as far as that is known.
        weights_path: The weights; None when there are none or they are not wanted.
        quick_gelu: Whether the weights were trained with QuickGELU; None when that is not known.
        state_dict: The weights of a file that the caller named; read here, since it says what they are.
        told: What that file says of its model.
    """

    model_cfg: JsonObject
    preprocess_cfg: JsonObject
    weights_path: Path | None
    quick_gelu: bool | None = None
    state_dict: dict[str, Tensor] | None = None
    told: Description = Description()


def find_source(
    model_name: str, pretrained: str | Path | None, load_weights: bool = True, cache_dir: str | None = None
) -> ModelSource:
    """Look a model up and bring its weights here.

    Raises:
        ModelNotFound: unknown model name or tag.
        ModelFolderError: a ``local-dir:`` folder or its configuration is missing.
        ConfigError: a configuration cannot be.
        CheckpointError: weights or a hub repository are missing or cannot be fetched.
    """
    scheme, rest = parse_model_name(model_name)
    if pretrained and not isinstance(pretrained, str | Path):
        raise ConfigError(f"pretrained is {pretrained!r}; it can be a tag or the path of a weights file.")
    if scheme is not None:
        config = read_hub_config(rest, cache_dir) if scheme == "hf-hub" else read_folder_config(rest)
        model_cfg, preprocess_cfg = config["model_cfg"], config.get("preprocess_cfg") or {}
        check_preprocess_cfg(preprocess_cfg, place_of(model_name))
        _refuse_other_places(model_name, model_cfg)
        path = find_weights_file(pretrained) if pretrained else None
        if path is not None:
            return _of_file(model_cfg, preprocess_cfg, path, load_weights)
        if pretrained:
            _logger.warning(
                "%s brings its own weights; pretrained=%r is no file and is ignored.", printable(model_name), pretrained
            )
        weights = _bring_weights(scheme, rest, cache_dir) if load_weights else None
        return ModelSource(model_cfg, preprocess_cfg, weights)
    known_cfg = get_model_config(rest)
    if known_cfg is None:
        raise unknown_model(model_name)
    if not pretrained:
        return ModelSource(known_cfg, {}, None)
    tag_cfg = get_pretrained_cfg(rest, str(pretrained))
    if tag_cfg:
        tagged = Path(download_pretrained(tag_cfg, cache_dir=cache_dir)) if load_weights else None
        preprocess_cfg = {key: tag_cfg[key] for key in PREPROCESS_KEYS}
        return ModelSource(known_cfg, preprocess_cfg, tagged, tag_cfg.get("quick_gelu", False))
    path = find_weights_file(pretrained)
    if path is None:
        raise _unknown_tag(str(pretrained), rest)
    return _of_file(known_cfg, {}, path, load_weights)


def _bring_weights(scheme: str, rest: str, cache_dir: str | None) -> Path | None:
    if scheme == "hf-hub":
        return Path(download_pretrained_from_hf(rest, cache_dir=cache_dir))
    return find_weights_in_folder(rest)


def _refuse_other_places(model_name: str, model_cfg: JsonObject) -> None:
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


def _of_file(model_cfg: JsonObject, preprocess_cfg: JsonObject, path: Path, load_weights: bool) -> ModelSource:
    """Read a weights file that the caller named, with what it or a configuration beside it says of its model."""
    if not load_weights:
        return ModelSource(model_cfg, preprocess_cfg, None)
    state_dict, entry = read_described(path)
    told, quick_gelu = Description(), None
    if entry is not None:
        told = read_description(entry, str(path))
    elif is_openai_archive(path):
        quick_gelu = True
    elif (path.parent / HF_CONFIG_NAME).is_file():
        _logger.info("%s beside %s says how its images are prepared.", HF_CONFIG_NAME, printable(path))
        told = parse_description(read_folder_config(path.parent), str(path.parent / HF_CONFIG_NAME))
    else:
        quick_gelu = _read_transformers_activation(path.parent / "config.json")
        if not preprocess_cfg:
            # Known to whoever trained them only, and wrong statistics cost accuracy silently.
            _logger.warning(
                "%s does not say how its images were prepared; OpenAI's mean, std and bicubic resizing are used unless "
                "arguments (image_mean, ...) say otherwise.",
                printable(path),
            )
    if told.model_cfg is not None:
        quick_gelu = bool(told.model_cfg.get("quick_gelu"))
    return ModelSource(model_cfg, preprocess_cfg | told.preprocess_cfg, path, quick_gelu, state_dict, told)


def _read_transformers_activation(path: Path) -> bool | None:
    """Tell whether a config.json of transformers' CLIP beside weights asks for QuickGELU; None without one."""
    try:
        config = read_json(path)
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or config.get("model_type") != "clip":
        return None
    text = config.get("text_config")
    return (text.get("hidden_act", "quick_gelu") if isinstance(text, dict) else "quick_gelu") == "quick_gelu"


def warn_of_quick_gelu(model_name: str, model_cfg: JsonObject, source: ModelSource) -> None:
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
