"""Where a process computes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from training.device import Device
from training.distributed import World
from training.run_folder import RunFolder


@dataclass(frozen=True)
class Place:
    """Where a process computes: its device, its world, its run folder.

    Attributes:
        headway: Told of each batch that arrives, so that a long evaluation is not taken for a hang.
    """

    device: Device
    torch_device: torch.device
    world: World
    folder: RunFolder
    headway: Callable[[], None] = lambda: None
