"""What every process must agree on each step, in one tiny tensor: are the numbers sound, has somebody asked to stop.

The tensor is summed over the processes on the device before the update, so all of them skip the same steps. The host
reads it one step late, so the check adds no host sync where the device can skip an update by itself. What follows from
the verdict is in ``recovery``.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from training.device import Device
from training.distributed import StopRequest, World, sum_over_processes
from training.loop.spikes import SpikeWindow
from training.params import GuardParams


@dataclass(frozen=True)
class Verdict:
    """What the flags of a step say, on all processes alike.

    Attributes:
        bad_losses: Processes whose loss was not finite.
        bad_gradients: Processes whose gradient was not finite.
        stops: Processes that were asked to stop.
        bad_rows: Unusable rows all processes have met, as each counts them.
        spike: Whether the loss was far above those before it.
        skipped: Whether the update was left out.
        loss: Mean loss over the processes.
    """

    bad_losses: int
    bad_gradients: int
    stops: int
    bad_rows: int
    spike: bool
    skipped: bool
    loss: float

    @property
    def is_nonfinite(self) -> bool:
        """Whether the loss or the gradient was not finite in any process."""
        return self.bad_losses > 0 or self.bad_gradients > 0


class StepGuard:
    """Judges each step before its update and hands out the verdicts."""

    def __init__(
        self,
        params: GuardParams,
        stop: StopRequest,
        world: World,
        device: Device,
        torch_device: torch.device,
        bad_rows: Callable[[], int] = lambda: 0,
    ) -> None:
        self._params = params
        self._stop = stop
        self._world = world
        self._device = device
        self._bad_rows = bad_rows
        self._device_skips: bool | None = None
        self._verdicts: deque[Callable[[], list[float]]] = deque()
        self.window = SpikeWindow(torch_device)

    def judge(
        self, loss: torch.Tensor, gradient_fault: torch.Tensor, optimizer: torch.optim.Optimizer
    ) -> torch.Tensor | bool:
        """Judge a step whose gradients are there and whose update is not.

        Args:
            loss: The step's loss, a scalar on the device.
            gradient_fault: Whether this process's gradient is not finite, a bool scalar on the device.
            optimizer: What is about to make the update.

        Returns:
            Whether to skip the update: a bool scalar on the device, or a bool where the host must decide.
        """
        loss = loss.detach().float()
        # Filled on the device: a copy from the host would wait for it.
        asked = [loss.new_full((), float(number)) for number in (self._stop.requested, self._bad_rows())]
        flags = torch.stack([(~torch.isfinite(loss)).float(), gradient_fault.float(), loss, *asked])
        # One sum for all questions: a message between processes costs its latency, whatever stands in it.
        flags = sum_over_processes(flags, self._world)
        mean_loss = flags[2] / self._world.world_size
        skip = torch.zeros_like(flags[0], dtype=torch.bool)
        if self._params.on_nonfinite == "skip":
            # The sum may overflow where no process's own loss does.
            skip = (flags[0] + flags[1] > 0) | ~torch.isfinite(mean_loss)
        spike = torch.zeros_like(skip)
        if self._params.on_loss_spike != "off":
            spike = self.window.add(mean_loss)
            if self._params.on_loss_spike != "warn":
                skip = skip | spike
        whole = torch.cat([flags, torch.stack([spike, skip]).float()])
        # Asked at the first step: the guard is made without the optimizer.
        if self._device_skips is None:
            self._device_skips = self._device.can_skip_update(optimizer)
        if not self._params.skips_updates or self._device_skips:
            self._verdicts.append(self._device.read_later(whole))
            return skip if self._params.skips_updates else False
        # This optimizer cannot leave an update out on the device: the host decides, and waits for the numbers.
        values: list[float] = whole.tolist()
        self._verdicts.append(lambda: values)
        return bool(values[-1])

    def read(self) -> Verdict:
        """Read the oldest verdict that was not read yet."""
        bad_losses, bad_gradients, loss, stops, bad_rows, spike, skipped = self._verdicts.popleft()()
        return Verdict(
            bad_losses=int(bad_losses),
            bad_gradients=int(bad_gradients),
            stops=int(stops),
            bad_rows=int(bad_rows),
            spike=bool(spike),
            skipped=bool(skipped),
            loss=loss / self._world.world_size,
        )

    def forget(self) -> None:
        """Drop verdicts that nobody has read."""
        self._verdicts.clear()
