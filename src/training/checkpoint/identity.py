"""Whether a checkpoint to go on with is of the model that the flags build; changes neither."""

import logging
from pathlib import Path

import torch

from open_clip.checkpoint import CONFIG_ENTRY
from open_clip.errors import ConfigError, cut_list, printable
from open_clip.factory.description import TRAINING_ONLY, Description, Difference, list_differences, read_description
from training.checkpoint.schema import Payload
from training.params.by_path import hash_file, is_by_path

_LOG = logging.getLogger(__name__)
# Which flag sets what a checkpoint says of its model; what is not here comes with --model.
_FLAGS = {
    "quick_gelu": "--force-quick-gelu",
    "custom_text": "--force-custom-text",
    "init_logit_bias": "--siglip",
    "vision_cfg.image_size": "--force-image-size",
    "vision_cfg.patch_dropout": "--force-patch-dropout",
    "text_cfg.context_length": "--force-context-length",
    "multimodal_cfg.context_length": "--force-context-length",
    "mean": "--image-mean",
    "std": "--image-std",
    "interpolation": "--image-interpolation",
    "resize_mode": "--image-resize-mode",
}


def read_told(payload: Payload, path: Path) -> Description:
    """Read what a checkpoint says of its model; upstream's and older files say nothing.

    Raises:
        CheckpointError: When what it says is damaged.
    """
    entry = payload.get(CONFIG_ENTRY)
    return Description() if entry is None else read_description(entry, str(path))


def refuse_other_model(model: torch.nn.Module, payload: Payload, path: Path) -> None:
    """Compare a model, and how its images are prepared, with what a checkpoint was trained with.

    Args:
        model: The bare model.
        payload: The checkpoint.
        path: Its name, for messages.

    Raises:
        ConfigError: When they differ; names each value and its flag.
        CheckpointError: As :func:`read_told`.
    """
    differences = list_differences(model, read_told(payload, path))
    if differences:
        raise ConfigError(
            f"{printable(path)}: was saved with other settings than this run has: {_with_flags(differences)}. Give the "
            "flags it was trained with (--config takes them from config.yaml of its run folder), or take its weights "
            "alone with --pretrained FILE, which keeps what the file says."
        )


def describe_recipe(name: str, precision: str, word: str | None) -> dict[str, str]:
    """Say in a checkpoint what trains: its recipe, and which contents the file had where it is a person's own.

    Args:
        name: The recipe's.
        precision: That of the flags.
        word: What ``--task`` said.
    """
    told = {"name": name, "precision": precision}
    if word is not None and is_by_path(word):
        told["file_sha256"] = hash_file(word)
    return told


def refuse_other_recipe(recipe: dict[str, str], model: torch.nn.Module, payload: Payload, path: Path) -> None:
    """Refuse to go on training with another loss than a checkpoint was trained with.

    Settings that only training sees may change, with a warning; so may the file of a person's own recipe.

    Args:
        recipe: The run's, as :func:`describe_recipe` gives it.
        model: The bare model.
        payload: The checkpoint.
        path: Its name, for messages.

    Raises:
        ConfigError: When they differ.
    """
    told = read_told(payload, path)
    was, name = told.recipe.get("name"), recipe["name"]
    if was is not None and was != name:
        raise ConfigError(
            f"{printable(path)}: was trained with the recipe {printable(was, 80)} and this run has {name} "
            "(--task, --siglip, --distill-model, --model). Give the same flags, or start anew from its "
            "weights with --pretrained FILE."
        )
    if told.recipe.get("file_sha256") != recipe.get("file_sha256"):
        _LOG.warning(
            "%s: the file of the recipe %s was another one: training goes on with --task's.", printable(path), name
        )
    changed = [
        one for one in list_differences(model, told, training=True) if one.key.rpartition(".")[2] in TRAINING_ONLY
    ]
    if changed:
        _LOG.warning("%s: training goes on with other settings: %s.", printable(path), _with_flags(changed))


def _with_flags(differences: list[Difference]) -> str:
    return cut_list(f"{one} ({_FLAGS.get(one.key, '--model')})" for one in differences)
