"""Name processes that are slower than their fellows, before the first wait of a step hides it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from training.distributed.collectives import gather_rows
from training.distributed.env import World

_FACTOR = 1.3
_STEPS = 20
# A lag of less than this share of a step is not worth a word.
_LEAST_SHARE = 0.05


@dataclass
class Standings:
    """Decides from each process's own seconds a step who is slow; knows no clock and no process group.

    Attributes:
        named: The slow ones that were told of and have not caught up.
    """

    _late_for: dict[int, int] = field(default_factory=dict)
    _fine_for: dict[int, int] = field(default_factory=dict)
    named: set[int] = field(default_factory=set)

    def update(self, own_s: Sequence[float], steps: int, step_s: float) -> tuple[dict[int, float], list[int]]:
        """Take in the means of some steps.

        Args:
            own_s: Seconds a step that each rank spent on its own: waiting for data and in the forward pass.
            steps: Steps the means are over.
            step_s: Seconds a whole step took.

        Returns:
            (ranks to be named now with their factor to the median, ranks that have caught up)
        """
        # The lower median: of two ranks the faster one is the measure.
        median = statistics.median_low(own_s)
        slow, recovered = {}, []
        for rank, seconds in enumerate(own_s):
            is_late = seconds > _FACTOR * median and seconds - median > _LEAST_SHARE * step_s
            self._late_for[rank] = self._late_for.get(rank, 0) + steps if is_late else 0
            self._fine_for[rank] = 0 if is_late else self._fine_for.get(rank, 0) + steps
            if self._late_for[rank] >= _STEPS and rank not in self.named:
                self.named.add(rank)
                slow[rank] = seconds / median if median else float("inf")
            elif self._fine_for[rank] >= _STEPS and rank in self.named:
                self.named.remove(rank)
                recovered.append(rank)
        return slow, recovered


class Stragglers:
    """Measures this process's own part of each step and compares it with the others' now and then."""

    def __init__(
        self, world: World, torch_device: torch.device, every: int, tell: Callable[[bool, list[int], str], None]
    ) -> None:
        """Prepare; nothing is measured before :meth:`watch`.

        Args:
            world: Place of this process.
            torch_device: Where the model is and the process group works.
            every: Steps between two comparisons.
            tell: Called with (is slow, ranks, message) when that changes; on every process alike.
        """
        self._world = world
        self._device = torch_device
        self._every = every
        self._tell = tell
        self._standings = Standings()
        self._own_s = 0.0
        self._marks: list[tuple[Any, Any]] = []
        self._start: Any = None
        self._steps = 0
        self._since = time.monotonic()
        self._step_start: float | None = self._since

    def watch(self, model: torch.nn.Module) -> None:
        """Time the forward passes of the model inside any wrapper."""
        if not self._world.is_distributed:
            return
        model.register_forward_pre_hook(self._forward_starts, prepend=True)
        model.register_forward_hook(self._forward_ends)

    def batch_arrived(self) -> None:
        """Close this step's wait for data; what follows until the forward pass is not counted."""
        if self._step_start is not None:
            self._own_s += time.monotonic() - self._step_start
            self._step_start = None

    def step_done(self, step: int) -> None:
        """Count a step and compare, when that is due; every process calls it for every step."""
        if not self._world.is_distributed:
            return
        self._steps += 1
        if step % self._every == 0:
            self._compare()
        self._step_start = time.monotonic()

    def _forward_starts(self, module: torch.nn.Module, _inputs: Any) -> None:
        if module.training:
            self._start = self._mark()

    def _forward_ends(self, module: torch.nn.Module, _inputs: Any, _outputs: Any) -> None:
        if module.training and self._start is not None:
            self._marks.append((self._start, self._mark()))
            self._start = None

    def _mark(self) -> Any:
        """Take a mark in the device's own time, in which a launched kernel is not yet a finished one."""
        if self._device.type == "cpu":
            return time.monotonic()
        event = torch.Event(self._device, enable_timing=True)
        event.record()
        return event

    def _forward_s(self) -> float:
        marks, self._marks = self._marks, []
        if self._device.type == "cpu":
            return float(sum(end - start for start, end in marks))
        if marks:
            marks[-1][1].synchronize()
        return float(sum(start.elapsed_time(end) for start, end in marks)) / 1000

    def _compare(self) -> None:
        now = time.monotonic()
        steps, step_s = self._steps, (now - self._since) / self._steps
        own = torch.tensor([[(self._own_s + self._forward_s()) / steps]], device=self._device)
        self._own_s, self._steps, self._since = 0.0, 0, now
        means = gather_rows(own, self._world).flatten().tolist()
        slow, recovered = self._standings.update(means, steps, step_s)
        if slow:
            listed = ", ".join(f"rank {rank} ({factor:.2f} x the median)" for rank, factor in slow.items())
            self._tell(True, list(slow), f"slow for {_STEPS} steps and more: {listed}; all others wait for it")
        if recovered:
            self._tell(False, recovered, f"no longer slow: {', '.join(f'rank {rank}' for rank in recovered)}")
