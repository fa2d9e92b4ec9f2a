"""What a weights file says of its model, and how a model differs from it. Reads no file and changes no model.

The text has the form of ``open_clip_config.json`` with a few more keys, and stands in checkpoints (entry
``open_clip_config``) and in the metadata of safetensors: ``model_cfg``, ``preprocess_cfg``, ``model`` (the name it was
built by), ``recipe`` and ``versions``.
"""

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from open_clip.checked_json import JsonObject
from open_clip.checkpoint import CONFIG_ENTRY
from open_clip.errors import CheckpointError, ConfigError, printable
from open_clip.factory.names import LOCAL_DIR_SCHEME, parse_config, parse_model_name
from open_clip.families import check_model_cfg, find_family
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg
from open_clip.modeling.fields import show
from open_clip.modeling.preprocess import check_preprocess_cfg, get_model_preprocess_cfg
from open_clip.version import __version__

PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")
# What only training sees, or who fetches words and first weights: the function of trained weights is the same.
TRAINING_ONLY = ("patch_dropout", "timm_drop", "timm_drop_path")
_WITHOUT_EFFECT = (
    "timm_model_pretrained",
    "hf_model_pretrained",
    "hf_tokenizer_name",
    "tokenizer_mode",
    "tokenizer_kwargs",
)


@dataclass(frozen=True)
class Origin:
    """What a model was made of; ``create_model`` leaves it on the model as ``origin``.

    Attributes:
        name: The name it was asked for by; of a folder only that it was one.
        model_cfg: The configuration it was built from, options included.
        weights: The file of its weights; None when they are random.
    """

    name: str
    model_cfg: JsonObject
    weights: Path | None = None


@dataclass(frozen=True)
class Description:
    """What a weights file says of its model.

    Attributes:
        model_cfg: The configuration it was trained with; None when the file has none.
        preprocess_cfg: How its images are prepared, as far as it says.
        model: The name it was built by; None in files of other programs.
        recipe: What trained it.
    """

    model_cfg: JsonObject | None = None
    preprocess_cfg: JsonObject = field(default_factory=dict)
    model: str | None = None
    recipe: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One value in which a model differs from what its weights were trained with."""

    key: str
    trained: object
    built: object

    def __str__(self) -> str:
        return f"{self.key} was {show(self.trained)} and is {show(self.built)}"


def public_name(model_name: str) -> str:
    """Give the name to write down: a folder's place is of no use elsewhere and nobody's business."""
    scheme, rest = parse_model_name(model_name)
    return LOCAL_DIR_SCHEME if scheme == "local-dir" else model_name if scheme else rest


def describe_model(
    model: nn.Module, recipe: JsonObject | None = None, model_cfg: JsonObject | None = None
) -> str | None:
    """Write down what a model is, for the file of its weights.

    Args:
        model: The model.
        recipe: What trained it.
        model_cfg: Its configuration; needed for a model that ``create_model`` did not make.

    Returns:
        The text; None when the configuration is not known.
    """
    origin = getattr(model, "origin", None)
    model_cfg = model_cfg or (origin.model_cfg if isinstance(origin, Origin) else None)
    if model_cfg is None:
        return None
    known = get_model_preprocess_cfg(model)
    told: JsonObject = {
        "model_cfg": model_cfg,
        "preprocess_cfg": {key: known[key] for key in PREPROCESS_KEYS if key in known},
        "model": getattr(origin, "name", None),
        "versions": {"open_clip_torch": __version__, "torch": torch.__version__},
    }
    return json.dumps(told | ({"recipe": recipe} if recipe else {}), default=_plain)


def _plain(value: object) -> JsonObject:
    if isinstance(value, CLIPVisionCfg | CLIPTextCfg):
        return asdict(value)
    raise TypeError(f"a configuration cannot hold {type(value).__name__}")


def read_description(text: object, place: str) -> Description:
    """Read what a file says of its model.

    Args:
        text: The entry of the file.
        place: The file, for messages.

    Raises:
        CheckpointError: it is damaged, or of a model that this version does not have.
    """
    try:
        told = parse_config(text) if isinstance(text, str) else text
        if not isinstance(text, str) or not isinstance(told, dict):
            raise ConfigError(f"it is {show(told)}; the text of an object belongs there")
        return parse_description(told, CONFIG_ENTRY)
    except (ValueError, ConfigError) as error:
        raise CheckpointError(
            f"{printable(place)}: its entry {CONFIG_ENTRY!r}, which says what model it holds, cannot be used: "
            f"{str(error).rstrip('.')}. Take another file, or the weights alone (its state_dict)."
        ) from error


def parse_description(told: JsonObject, place: str) -> Description:
    """Check a description that was read; see ``read_description``.

    Raises:
        ConfigError: a value cannot be.
    """
    model_cfg, preprocess_cfg = told.get("model_cfg"), told.get("preprocess_cfg") or {}
    if model_cfg:
        check_model_cfg(model_cfg, place)
    check_preprocess_cfg(preprocess_cfg, place)
    model, recipe = told.get("model"), told.get("recipe") or {}
    if not isinstance(model, str | None) or not isinstance(recipe, dict):
        raise ConfigError(
            f"{place}: model is {show(model)} and recipe {show(recipe)}; a text and an object stand there."
        )
    known = {key: preprocess_cfg[key] for key in PREPROCESS_KEYS if preprocess_cfg.get(key) is not None}
    return Description(model_cfg or None, known, model, recipe)


def adopt(model_cfg: JsonObject, told: Description, model_name: str) -> tuple[JsonObject, list[Difference]]:
    """Let a file of the model that was named bring along what options had changed when it was trained.

    The name of another model is the caller's word for that model's values, so nothing is taken over then.

    Returns:
        The configuration to build from, and what in it comes from the file.
    """
    if told.model_cfg is None or told.model != public_name(model_name):
        return model_cfg, []
    cfg, taken = copy.deepcopy(model_cfg), []
    all_theirs, all_ours = (find_family(one).settings(one) for one in (told.model_cfg, model_cfg))
    for section, keys in find_family(model_cfg).adopted.items():
        theirs, ours = all_theirs.get(section, {}), all_ours.get(section, {})
        for key in keys:
            if key not in theirs or key not in ours or theirs[key] == ours[key]:
                continue
            target = cfg[section] if section else cfg
            target[key] = theirs[key]
            taken.append(Difference(f"{section}.{key}" if section else key, theirs[key], ours[key]))
    return cfg, taken


def settle_config(model: nn.Module, model_cfg: JsonObject | None) -> tuple[JsonObject, list[Difference]]:
    """Bring a configuration that is to be written beside a model in line with what the model was built with.

    Returns:
        The configuration, and what in it had to be changed.
    """
    origin = getattr(model, "origin", None)
    if not isinstance(origin, Origin):
        return model_cfg or {}, []
    if not model_cfg:
        return origin.model_cfg, []
    check_model_cfg(model_cfg, "model_config")
    return adopt(model_cfg, Description(origin.model_cfg, model=""), "")


def list_differences(model: nn.Module, told: Description, training: bool = False) -> list[Difference]:
    """List in what a built model and its preprocessing differ from what weights were trained with.

    Args:
        model: A model of ``create_model``; of another nothing is known, so nothing is listed.
        told: What the file says.
        training: Whether what only training sees counts, too.
    """
    origin = getattr(model, "origin", None)
    if not isinstance(origin, Origin):
        return []
    found = []
    all_theirs, all_ours = (
        find_family(one).settings(one) if told.model_cfg else {} for one in (told.model_cfg or {}, origin.model_cfg)
    )
    for section in {**all_ours, **all_theirs}:
        theirs, ours = all_theirs.get(section, {}), all_ours.get(section, {})
        for key in {**theirs, **ours}:
            was, now = theirs.get(key), ours.get(key)
            if key in _WITHOUT_EFFECT or was == now or (key in TRAINING_ONLY and not training):
                continue
            if key == "init_logit_bias" and (was is None) == (now is None):
                continue
            found.append(Difference(f"{section}.{key}" if section else key, was, now))
    known = get_model_preprocess_cfg(model)
    for key, was in told.preprocess_cfg.items():
        if key in known and _listed(was) != _listed(known[key]):
            found.append(Difference(key, _listed(was), _listed(known[key])))
    return found


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
