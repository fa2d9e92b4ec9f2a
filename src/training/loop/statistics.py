"""Lets a step move the running statistics of batch norms once a batch, and not at all when it is skipped."""

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.modules.batchnorm import _BatchNorm


class RunningStatistics:
    """The running statistics of a model, with a copy from before the step; most models have none."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._live = [buffer for layer in self._layers for buffer in layer.buffers(recurse=False)]
        self._kept = [torch.empty_like(buffer) for buffer in self._live]

    @torch.no_grad()
    def remember(self) -> None:
        """Copy the statistics before a forward pass."""
        for kept, live in zip(self._kept, self._live, strict=True):
            kept.copy_(live)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let forward passes normalise as ever and leave the statistics alone.

        Putting a copy back after the pass would not do: autograd refuses buffers that were written since the forward.
        The backward pass belongs inside too, where activations are recomputed in it.
        """
        tracking = [layer for layer in self._layers if layer.track_running_stats]
        for layer in tracking:
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer in tracking:
                layer.track_running_stats = True

    @torch.no_grad()
    def undo(self, skip: torch.Tensor | bool) -> None:
        """Put the copy back where the step was skipped.

        Args:
            skip: A bool, or a bool scalar on the device, which is not read.
        """
        if skip is False:
            return
        for kept, live in zip(self._kept, self._live, strict=True):
            live.copy_(kept if skip is True else torch.where(skip, kept, live))
