"""Finding the weights a caller names, and loading them into a model or into one of its towers."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from open_clip.checkpoint import convert_state_dict, load_weights, read_state_dict
from open_clip.errors import CheckpointError, suggest_nearest

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
    if path.is_file():
        return path
    if path.is_dir():
        raise CheckpointError(
            f"{path}: is a folder; name one weights file in it, or load the folder as the model local-dir:{path}."
        )
    if path.exists():
        raise CheckpointError(f"{path}: is a device or a pipe, not a weights file.")
    if len(path.parts) > 1 or path.suffix:
        near = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise CheckpointError(f"{path}: there is no such weights file.{suggest_nearest(path.name, near)}")
    return None


def load_tower(model: nn.Module, tower: nn.Module, path: str | Path, prefix: str) -> None:
    """Load what a file has for one tower of a model, non-strict; names may carry the tower's ``prefix`` or not.

    Raises:
        CheckpointError: the file cannot be read, a shape differs, or nothing in it belongs to the tower.
    """
    weights: dict[str, Tensor] = read_state_dict(path)
    try:
        weights = convert_state_dict(model, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if any(key.startswith(prefix) for key in weights):
        weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    expected = tower.state_dict()
    if not any(key in expected for key in weights):
        raise CheckpointError(f"{path}: nothing in it belongs to the tower {prefix.rstrip('.')!r}; check the file.")
    try:
        result: Any = load_weights(tower, weights, strict=False)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if result.missing_keys:
        _logger.warning("%s leaves %d entries of the tower as they were.", path, len(result.missing_keys))
