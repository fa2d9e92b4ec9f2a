"""What a saved tensor must be before an optimizer takes it, and where it lies in memory.

A fused step reads and writes as many values as the parameter has, in the parameter's order, whatever the tensor is.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from open_clip.errors import printable
from training.distributed import local_part

# Variances: of a negative one the square root is no number.
_NEVER_NEGATIVE = ("exp_avg_sq", "max_exp_avg_sq")


def tensor_misfit(key: object, value: object, shape: tuple[int, ...], parameter: Tensor) -> str | None:
    """Say what is wrong with a value that should be a tensor of a shape, laid out as its parameter, or None."""
    if not isinstance(value, Tensor):
        return f"is {show(value)} and should be a tensor"
    if tuple(value.shape) != shape:
        return f"is {tuple(value.shape)} in the file and {shape} in the model"
    if not value.is_floating_point() or value.dtype.itemsize < 2:
        return f"is of {value.dtype}, which is no floating type that moments are kept in"
    local = local_part(value)
    if not _is_dense(local, local_part(parameter)):
        return "is not laid out as an optimizer writes it (transposed, or one value seen many times)"
    if not local.numel():
        return None
    least, most = (float(bound) for bound in torch.aminmax(local.detach()))
    if not (math.isfinite(least) and math.isfinite(most)):
        return "is not finite"
    if least < 0 and (key == "step" or key in _NEVER_NEGATIVE):
        return f"has values below 0 ({least:g})"
    return None


def _is_dense(value: Tensor, parameter: Tensor) -> bool:
    if value.layout != torch.strided:
        return False
    is_like_its_parameter = value.shape == parameter.shape and value.stride() == parameter.stride()
    is_channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return value.is_contiguous() or is_like_its_parameter or is_channels_last


def own_tensors(value: object, parameter: Tensor) -> object:
    """Lay a tensor, or those of a list, out as the parameter, each alone in its storage; what is so is not copied."""
    if isinstance(value, list | tuple):
        return type(value)(own_tensors(item, parameter) for item in value)
    if not isinstance(value, Tensor) or local_part(value) is not value or local_part(parameter) is not parameter:
        return value
    value = value.detach()
    is_like = value.shape == parameter.shape
    is_alone = value.untyped_storage().nbytes() == value.numel() * value.itemsize
    if is_alone and (not is_like or value.stride() == parameter.stride()):
        return value
    layout = torch.empty_like(parameter, dtype=value.dtype, device=value.device) if is_like else torch.empty_like(value)
    return layout.detach().copy_(value)


def find_shared(states: Mapping[int, Mapping[str, object]]) -> list[str]:
    """List states that lie in the memory of another: a step would count one's update into both."""
    spans = []
    for number, state in states.items():
        for key, value in state.items():
            for tensor in _tensors_in(value):
                local = local_part(tensor)
                if local.numel():
                    start = local.data_ptr()
                    spans.append((str(local.device), start, start + local.numel() * local.itemsize, number, str(key)))
    spans.sort()
    return [
        f"{printable(after[4], 60)} of parameter {after[3]} lies in the memory of another state"
        for before, after in zip(spans, spans[1:], strict=False)
        if before[0] == after[0] and after[1] < before[2]
    ]


def _tensors_in(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors_in(item)


def show(value: object) -> str:
    """Write a value for a message."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    return f"a {type(value).__name__}" if isinstance(value, dict | list | set) else printable(repr(value), 60)
