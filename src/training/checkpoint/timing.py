"""When a save is due by the clock: one clock, the master's, decides for all processes."""

import time

from training.distributed import World, broadcast_object


class SaveTimer:
    """Tells all processes alike whether so many minutes have passed since the last save.

    Args:
        minutes: Between two saves; 0 for never, which costs nothing.
        every_n_steps: The clock is looked at in every such step, where the processes meet anyway to record figures.
        world: Place of this process.
    """

    def __init__(self, minutes: float, every_n_steps: int, world: World) -> None:
        self._seconds = 60 * minutes
        self._every = every_n_steps
        self._world = world
        self._last = time.monotonic()

    def restart(self) -> None:
        """Count from now."""
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Tell whether the step's end is to be saved; every process must ask in the same steps."""
        if not self._seconds or step % self._every:
            return False
        return bool(broadcast_object(time.monotonic() - self._last >= self._seconds, self._world))
