"""Copy a run's state to host memory, so that it can be written while training goes on in place."""

from typing import Any

import torch

from training.checkpoint.schema import Payload
from training.device import Device

_Place = tuple[object, ...]


class Snapshot:
    """Host memory that holds one state at a time; it is allocated once and used for every save.

    Args:
        device: Where the state lives; its copies travel together and are waited for once.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: dict[_Place, torch.Tensor] = {}

    def take(self, payload: Payload) -> Payload:
        """Copy a state; what was returned before is overwritten.

        Tensors that are one stay one, so the file written from the copy is that of the original.
        """
        seen: dict[_Place, torch.Tensor] = {}
        buffers: dict[_Place, torch.Tensor] = {}
        copied: Payload = self._copy(payload, (), seen, buffers)
        self._buffers = buffers
        self._device.synchronize()
        return copied

    def _copy(
        self, value: object, place: _Place, seen: dict[_Place, torch.Tensor], buffers: dict[_Place, torch.Tensor]
    ) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(value.detach(), place, seen, buffers)
        if isinstance(value, dict):
            return {key: self._copy(item, (*place, key), seen, buffers) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._copy(item, (*place, i), seen, buffers) for i, item in enumerate(value))
        return value

    def _copy_tensor(
        self,
        tensor: torch.Tensor,
        place: _Place,
        seen: dict[_Place, torch.Tensor],
        buffers: dict[_Place, torch.Tensor],
    ) -> torch.Tensor:
        identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and identity in seen:
            return seen[identity]
        host = self._buffers.get(place)
        if host is None or host.dtype != tensor.dtype or host.shape != tensor.shape or host.stride() != tensor.stride():
            pinned = self._device.pin_memory and tensor.device.type != "cpu"
            host = torch.empty_like(tensor, device="cpu", pin_memory=pinned)
        host.copy_(tensor, non_blocking=True)
        seen[identity] = buffers[place] = host
        return host
