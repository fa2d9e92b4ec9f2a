"""Finding the weights a caller names, and loading them into a model or into one of its towers."""

import logging
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from open_clip.checkpoint import WeightsMismatch, load_weights, read_described, read_state_dict
from open_clip.checkpoint.foreign import name_foreign
from open_clip.checkpoint.keys import convert_for
from open_clip.checkpoint.load import LoadedKeys
from open_clip.errors import CheckpointError, cut_list, naming_file, printable, suggest_nearest
from open_clip.factory.description import Description, Difference, list_differences, read_description

_logger = logging.getLogger(__name__)

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth")
# Upstream's order of preference among the files of a model folder.
_PREFERRED_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)


def find_weights_in_folder(folder: str | Path) -> Path | None:
    """Return the weights file of a model folder, safetensors first, or None when there is none."""
    folder = Path(folder)
    for name in _PREFERRED_NAMES:
        if (folder / name).is_file():
            return folder / name
    for suffix in _WEIGHT_SUFFIXES:
        if found := sorted(folder.glob(f"*{suffix}")):
            return found[0]
    return None


def find_weights_file(pretrained: str | Path) -> Path | None:
    """Return the file that ``pretrained`` names; None when it is no path but looks like a tag.

    Raises:
        CheckpointError: it is a folder, or written as a path and there is no such file.
    """
    path = Path(pretrained)
    shown = printable(path, 300)
    # The functions of os.path answer No for a name that no file system takes; those of pathlib raise.
    if os.path.isfile(path):
        return path
    if os.path.isdir(path):
        raise CheckpointError(
            f"{shown}: is a folder; name one weights file in it, or load the folder as the model local-dir:{shown}."
        )
    if os.path.exists(path):
        raise CheckpointError(f"{shown}: is a device or a pipe, not a weights file.")
    if len(path.parts) > 1 or path.suffix:
        near = suggest_nearest(path.name, _names_beside(path))
        raise CheckpointError(f"{shown}: there is no such weights file.{printable(near)}")
    return None


def _place_in(model: nn.Module, name: str, key: str) -> str:
    """Return what stands before an entry's name of a tower's own file in the whole model's names."""
    tower = getattr(model, name, None)
    if tower is None:
        return ""
    # A file of timm's holds the network alone, which a timm tower keeps one level down.
    trunk = getattr(tower, "trunk", None)
    return f"{name}.trunk." if trunk is not None and key in trunk.state_dict() else f"{name}."


def _names_beside(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path.parent))[:1_000]
    except (OSError, ValueError):
        return []


def load_described(
    model: nn.Module, state_dict: dict[str, Tensor], told: Description, path: str | Path, strict: bool = True
) -> LoadedKeys:
    """Load weights that were read into a model of ``create_model``; name what differs from what they were trained in.

    Returns:
        As ``load_checkpoint``.

    Raises:
        CheckpointError: they do not fit; what the file says of its model is compared in the message.
    """
    # The activation has a warning of its own, and the layout of names changes no result.
    quiet = ("quick_gelu", "custom_text")
    return _load_compared(model, state_dict, told, list_differences(model, told), path, strict, quiet)


def _load_compared(
    model: nn.Module,
    weights: dict[str, Tensor],
    told: Description,
    differences: list[Difference],
    path: str | Path,
    strict: bool,
    quiet: tuple[str, ...] = (),
) -> LoadedKeys:
    """Load weights; name the differences where they do not fit, and warn of those that are not quiet where they do."""
    with naming_file(path):
        try:
            result = load_weights(model, weights, strict=strict)
        except WeightsMismatch as error:
            of = f" of {printable(told.model)}" if told.model else ""
            named = cut_list(differences)
            reason = f"\nThe file says that it holds a model{of} with other settings: {named}." if named else ""
            raise WeightsMismatch(f"{error}{reason}", error.shapes) from None
    if loud := [one for one in differences if one.key not in quiet]:
        _logger.warning(
            "%s was trained with other settings than the model has, so its results are not those of training: %s.",
            printable(path),
            cut_list(loud),
        )
    return result


def load_state_dict(
    checkpoint_path: str | Path, device: str | torch.device = "cpu", weights_only: bool = True
) -> dict[str, Tensor]:
    """Read a weights file of any supported layout to a device; its code is never run, whatever ``weights_only`` is.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return {name: tensor.to(device) for name, tensor in read_state_dict(checkpoint_path).items()}


def load_checkpoint(
    model: nn.Module,
    checkpoint_path: str | Path,
    strict: bool = True,
    weights_only: bool = True,
    device: str | torch.device = "cpu",
) -> LoadedKeys:
    """Load a weights file into a model; as ``open_clip.checkpoint.load_checkpoint``, and name settings that differ."""
    state_dict, entry = read_described(checkpoint_path)
    told = Description() if entry is None else read_description(entry, str(checkpoint_path))
    return load_described(model, state_dict, told, checkpoint_path, strict)


def load_tower(model: nn.Module, path: str | Path, name: str) -> None:
    """Load what a file has for a model's tower ``visual`` or ``text``, non-strict, resizing its positions to fit.

    Names may begin with the tower's or not. A model that keeps its text at the top level takes all that a file has.
    What the file says of its model is compared as far as it concerns the tower; a difference is warned of.

    Raises:
        CheckpointError: the file cannot be read, a shape differs, or nothing in it belongs to the tower.
    """
    prefix = f"{name}." if hasattr(model, name) else ""
    read, entry = read_described(path)
    told = Description() if entry is None else read_description(entry, str(path))
    with naming_file(path):
        read = convert_for(model, read)
        if any(key.startswith(prefix) for key in read):
            weights = {key: value for key, value in read.items() if key.startswith(prefix)}
        else:
            weights = {_place_in(model, name, key) + key: value for key, value in read.items()}
        if weights.keys().isdisjoint(model.state_dict()):
            remedy = name_foreign(read) or "Check the file."
            raise CheckpointError(f"nothing in it belongs to the tower {name!r}. {remedy}")
    if (bias := getattr(model, "logit_bias", None)) is not None:
        # Of a whole model's weights a missing bias is zero; a tower's say nothing about it.
        weights.setdefault("logit_bias", bias.detach())
    differences = [one for one in list_differences(model, told) if _concerns(one.key, name, told)]
    result = _load_compared(model, weights, told, differences, path, strict=False)
    if missing := [key for key in result.missing_keys if key.startswith(prefix)]:
        _logger.warning("%s leaves %d entries of the tower as they were.", printable(path), len(missing))


def _concerns(key: str, tower: str, told: Description) -> bool:
    """Tell whether a setting changes what a tower computes; how images are prepared is the image tower's."""
    if key in ("quick_gelu", "embed_dim"):
        return True
    is_of_images = key.startswith("vision_cfg.") or key in told.preprocess_cfg
    return is_of_images if tower == "visual" else key.startswith("text_cfg.")
