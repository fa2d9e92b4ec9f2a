"""A moving average of a model's weights (EMA), kept beside them on the device; saves nothing itself."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from open_clip.errors import CheckpointError, cut_list


class WeightAverage:
    """Keeps ``average += (1 - d) * (weight - average)`` for every weight that changes, in fp32.

    After ``t`` updates the next one uses ``d = min(decay, (1 + t) / (10 + t))``: the first steps follow the weights
    closely, so that the average does not remember the random start. Trainable parameters and the running statistics of
    norms are averaged; frozen parameters and counters are the model's own. Several tensors are updated by one call and
    nothing is read back to the host.

    Args:
        model: The bare model, on its device and with its starting weights.
        decay: Share of the old average that a step keeps in the long run, 0 to 1; about 1 / (1 - decay) steps weigh in.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self._model = model
        # The values themselves: a hook of the state dict may show copies, as apex's does.
        own: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        own.update(model.named_buffers(remove_duplicate=False))
        live = {name: own.get(name, value) for name, value in model.state_dict(keep_vars=True).items()}
        self._live = {name: value for name, value in live.items() if _is_averaged(value)}
        self._average = [value.detach().to(torch.float32, copy=True) for value in self._live.values()]

    def decay_of_next_update(self) -> float:
        """Give the share of the old average that the next update keeps."""
        return min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights after a step into the average."""
        live = [value.detach().float() for value in self._live.values()]
        torch._foreach_lerp_(self._average, live, 1 - self.decay_of_next_update())
        self.num_updates += 1

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew from the model's present weights."""
        for average, live in zip(self._average, self._live.values(), strict=True):
            average.copy_(live)
        self.num_updates = 0

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the averaged weights for a while; its own come back to the bit."""
        kept = [value.detach().clone() for value in self._live.values()]
        self._put(self._average)
        try:
            yield
        finally:
            self._put(kept)

    def state_dict(self) -> dict[str, Tensor]:
        """Give a whole state dict of the model with the averages in it, not copied."""
        averaged = dict(zip(self._live, self._average, strict=True))
        return {name: averaged.get(name, value) for name, value in self._model.state_dict().items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor], num_updates: int) -> None:
        """Go on from a saved average; the model's own weights stay as they are.

        Raises:
            CheckpointError: a tensor is missing, has another shape or type, or is not finite.
        """
        unfit = [name for name, live in self._live.items() if not _is_average_of(state.get(name), live)]
        if unfit:
            raise CheckpointError(
                f"the averaged weights (state_dict_ema) do not fit the model or are not finite: {cut_list(unfit)}. "
                "Resume with the flags it was saved with, or without --ema-decay."
            )
        for name, average in zip(self._live, self._average, strict=True):
            average.copy_(state[name])
        self.num_updates = num_updates

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for live, value in zip(self._live.values(), values, strict=True):
            live.copy_(value)


def _is_average_of(saved: object, live: Tensor) -> bool:
    is_like = isinstance(saved, Tensor) and saved.is_floating_point() and saved.shape == live.shape
    return is_like and bool(saved.isfinite().all())  # type: ignore[attr-defined]


def _is_averaged(value: Tensor) -> bool:
    """Tell whether training changes a floating-point entry of a state dict: no frozen parameter, any buffer."""
    return value.is_floating_point() and (value.requires_grad or not isinstance(value, torch.nn.Parameter))
