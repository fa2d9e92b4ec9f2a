"""Door: checkpoint files under upstream's names; safe reading is ``open_clip.checkpoint``'s, writing ``checkpoint``'s.

Files lie on this machine: remote addresses are not read or written.
"""

from pathlib import Path
from typing import Any

import torch

from open_clip.checkpoint import read_checkpoint
from training.checkpoint.schema import Payload
from training.checkpoint.write import write_checkpoint


def pt_save(pt_obj: Payload, file_path: str | Path) -> None:
    """Write a checkpoint whole or not at all."""
    write_checkpoint(pt_obj, Path(file_path))


def pt_load(file_path: str | Path, map_location: str | torch.device | None = None) -> Payload:
    """Read a checkpoint without running code from it; its tensors go to ``map_location``, the host when left out."""
    return {key: _to(value, map_location) for key, value in read_checkpoint(file_path).items()}


def check_exists(file_path: str | Path) -> bool:
    """Tell whether a file is there."""
    return Path(file_path).exists()


def _to(value: Any, place: str | torch.device | None) -> Any:
    if place is None:
        return value
    if isinstance(value, torch.Tensor):
        return value.to(place)
    if isinstance(value, dict):
        return {key: _to(item, place) for key, item in value.items()}
    return [_to(item, place) for item in value] if isinstance(value, list) else value
