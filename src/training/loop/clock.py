"""Wall seconds of steps and of their waits for data."""

import time


class Clock:
    """Measures waits and steps of one epoch after another."""

    def start(self) -> None:
        """Begin with the wait for the first batch."""
        self._mark = time.monotonic()
        self._waits = self._steps = 0.0
        self._count = 0

    def data_arrived(self) -> None:
        """Close the wait for data."""
        self._waits += time.monotonic() - self._mark

    def step_done(self) -> float:
        """Close the step and give its wall seconds, the wait included."""
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        self._steps += seconds
        self._count += 1
        return seconds

    def skip(self) -> None:
        """Begin the next wait; what went before it belongs to no step."""
        self._mark = time.monotonic()

    def take_means(self) -> tuple[float, float]:
        """Give the mean wait and the mean step since the last call, in seconds."""
        means = self._waits / self._count, self._steps / self._count
        self._waits = self._steps = 0.0
        self._count = 0
        return means
