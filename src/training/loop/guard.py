"""Two things every process must agree on each step: is the loss finite, has somebody asked to stop.

Both travel in one tiny tensor that is reduced on the device and read one step late, so the check adds no host sync.
"""

import torch

from training.distributed import StopRequest, World, reduce_flags


class StepGuard:
    """Collects and reads the flags of each step."""

    def __init__(self, stop: StopRequest, world: World) -> None:
        self._stop = stop
        self._world = world
        self._flags: torch.Tensor | None = None

    def post(self, loss: torch.Tensor) -> None:
        """Send this step's flags on their way.

        Args:
            loss: The step's loss, a scalar on the device.
        """
        nonfinite = (~torch.isfinite(loss)).float()
        flags = torch.stack([nonfinite, nonfinite.new_full((), float(self._stop.requested))])
        self._flags = reduce_flags(flags, self._world)

    def read(self) -> tuple[bool, bool]:
        """Read the last posted flags, on all processes alike: (loss was not finite, stop was asked for)."""
        if self._flags is None:
            return False, False
        nonfinite, stopped = self._flags.tolist()
        self._flags = None
        return bool(nonfinite), bool(stopped)
