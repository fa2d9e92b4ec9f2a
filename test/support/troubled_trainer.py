"""The trainer with a troubled rank: ``TROUBLE=RANK:FIRST:LAST:SECONDS`` makes its forward passes take longer."""

import os
import sys
import time

import torch

from training.main import _leave, main


class Trouble:
    """Sleeps in some of the training forward passes of one rank, before the image tower starts."""

    def __init__(self, rank, first, last, seconds):
        self.rank, self.first, self.last, self.seconds = int(rank), int(first), int(last), float(seconds)
        self.count = 0

    def __call__(self, module, _inputs):
        """Hear of a module's forward pass."""
        if type(module).__name__ != "VisionTransformer" or not module.training:
            return
        self.count += 1
        if int(os.environ["RANK"]) == self.rank and self.first <= self.count <= self.last:
            time.sleep(self.seconds)


if __name__ == "__main__":
    torch.nn.modules.module.register_module_forward_pre_hook(Trouble(*os.environ["TROUBLE"].split(":")))
    _leave(main(sys.argv[1:]))
