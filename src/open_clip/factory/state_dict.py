"""Weights of a file under upstream's name and signature; ``open_clip.checkpoint`` reads them."""

from pathlib import Path

import torch
from torch import Tensor

from open_clip.checkpoint import read_state_dict


def load_state_dict(
    checkpoint_path: str | Path, device: str | torch.device = "cpu", weights_only: bool = True
) -> dict[str, Tensor]:
    """Read a weights file of any supported layout to a device; its code is never run, whatever ``weights_only`` is.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return {name: tensor.to(device) for name, tensor in read_state_dict(checkpoint_path).items()}
