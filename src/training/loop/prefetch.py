"""Bring the batches of the next step to the device while it computes the present one; reads no data by itself."""

from collections.abc import Iterator

import torch

from training.data import Batch
from training.data.walk import tensors_in
from training.device import Device


class Prefetcher:
    """Copies one step's batches ahead of the loop, on a stream of their own.

    A batch that was copied and not handed out counts for nothing: position and unusable rows are counted where it is
    handed out, so a run that stops before then reads it again. On a device without such streams nothing is done.
    """

    def __init__(self, device: Device, torch_device: torch.device) -> None:
        self._torch_device = torch_device
        self._copies = device.copy_stream()

    def __call__(self, steps: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
        """Hand the batches of each step out once the device is to work with them."""
        if self._copies is None:
            yield from steps
            return
        ahead = self._take(steps)
        while ahead is not None:
            if isinstance(ahead, Exception):
                raise ahead
            batches, arrived = ahead
            # Before these are handed out: the next copies run while the device works on them.
            ahead = self._take(steps)
            copied = [tensor for tensor in tensors_in(batches) if tensor.device.type != "cpu"]
            self._copies.hand_over(copied, arrived)
            yield batches

    def _take(self, steps: Iterator[list[Batch]]) -> tuple[list[Batch], object] | Exception | None:
        """Begin to copy the next step's batches; an error of the loader is kept until it is their turn."""
        assert self._copies is not None
        try:
            batches = next(steps, None)
        except Exception as error:
            return error
        if batches is None:
            return None
        with self._copies.copying() as arrived:
            copied = [batch.to(self._torch_device) for batch in batches]
        return copied, arrived
