"""Where a process computes."""

from dataclasses import dataclass

import torch

from training.device import Device
from training.distributed import World
from training.run_folder import RunFolder


@dataclass(frozen=True)
class Place:
    """Where a process computes: its device, its world, its run folder."""

    device: Device
    torch_device: torch.device
    world: World
    folder: RunFolder
