"""Tell a loss far above those before it, on the device; decides nothing."""

from collections.abc import Sequence

import torch

WINDOW = 128
SIGMAS = 6.0
# Where losses hardly differ, as before the warm-up takes hold, six sigmas are nothing: a spike is 6 % at least.
_LEAST_SIGMA = 0.01


class SpikeWindow:
    """The last losses, and whether the next one is a spike among them.

    A loss is a spike when it lies more than 6 standard deviations above the mean of the last 128, and its logarithm
    too: the noise of small batches is lopsided, and many sigmas up is then nothing rare. Losses are positive. Nothing
    is said until so many were seen. A spike enters the window cut down to that limit, so that one outlier hides no
    other and a loss that stays at a new level is accepted after a while. A loss that is not finite does not enter.
    """

    def __init__(self, device: torch.device) -> None:
        self._losses = torch.zeros(WINDOW, device=device)
        self._count = torch.zeros((), device=device)

    def add(self, loss: torch.Tensor) -> torch.Tensor:
        """Judge a loss by those before it and take it in, without a host sync.

        Args:
            loss: float32 scalar on the device.

        Returns:
            A bool scalar on the device.
        """
        mean = self._losses.mean()
        sigma = torch.maximum(self._losses.std(correction=0), _LEAST_SIGMA * mean.abs())
        logs = self._losses.clamp(min=1e-30).log()
        limit = torch.maximum(mean + SIGMAS * sigma, (logs.mean() + SIGMAS * logs.std(correction=0)).exp())
        is_finite = torch.isfinite(loss)
        spike = (self._count >= WINDOW) & (loss > limit) & is_finite
        entry = torch.where(spike, limit, loss).reshape(1)
        self._losses = torch.where(is_finite, torch.cat([self._losses[1:], entry]), self._losses)
        self._count = self._count + is_finite
        return spike

    def losses(self) -> list[float]:
        """Read the losses seen, oldest first; waits for the device."""
        seen = min(int(self._count.item()), WINDOW)
        return self._losses.tolist()[WINDOW - seen :]

    def restore(self, losses: Sequence[float]) -> None:
        """Go on from what :meth:`losses` gave."""
        kept = list(losses)[-WINDOW:]
        self._losses = self._losses.new_tensor([0.0] * (WINDOW - len(kept)) + kept)
        self._count = self._count.new_tensor(float(len(kept)))
