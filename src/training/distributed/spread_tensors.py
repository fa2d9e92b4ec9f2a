"""Tensors that are spread over all processes (FSDP2): gather one, take a part of one, clip the gradients of all."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from training.distributed.sharding import local_part


def whole_tensor(tensor: Tensor) -> Tensor:
    """Gather a spread tensor; every process must call it. A whole one is given back."""
    if not isinstance(tensor, DTensor):
        return tensor
    name = tensor.device_mesh.device_type
    # Shards kept in host memory travel over the device's own network.
    reachable = (
        tensor
        if tensor.device.type == name
        else DTensor.from_local(
            tensor.to_local().to(name),
            tensor.device_mesh,
            tensor.placements,
            shape=tensor.shape,
            stride=tensor.stride(),
        )
    )
    whole: Tensor = reachable.full_tensor()
    return whole


def shard_like(whole: Tensor, like: Tensor) -> Tensor:
    """Take this process's part of a whole tensor, spread as another of the same shape is; nothing is sent."""
    if not isinstance(like, DTensor) or isinstance(whole, DTensor):
        return whole
    mesh, (placement,) = like.device_mesh, like.placements
    part = whole
    if placement.is_shard():
        dim = placement.dim  # type: ignore[attr-defined]
        parts = whole.chunk(mesh.size(), dim)
        rank = mesh.get_local_rank()
        part = parts[rank] if rank < len(parts) else whole.narrow(dim, 0, 0)
    local = part.to(like.to_local().device, copy=True).contiguous()
    return DTensor.from_local(
        local, mesh, like.placements, run_check=False, shape=whole.shape, stride=whole.contiguous().stride()
    )


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
    """Scale gradients, spread and whole ones, down to a norm over all of them.

    Args:
        parameters: A spread model's; every process must call with its own.
        max_norm: The greatest norm; None only measures.

    Returns:
        The norm before, a scalar that is the same in every process; nothing waits for it.
    """
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in with_gradient if parameter.grad is not None]
    spread = [gradient for gradient in gradients if isinstance(gradient, DTensor)]
    whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    norm = torch.zeros(())
    if spread:
        # A small parameter leaves some processes nothing, and not every device has a norm of nothing.
        parts = [part for part in map(local_part, spread) if part.numel()]
        # One message for all of them, where torch's own clipping sends one for each; of one type, even of no part.
        square = torch.nn.utils.get_total_norm(parts).float().square()
        norm = square.to(spread[0].device_mesh.device_type)
        dist.all_reduce(norm)
    if whole:
        norm = norm.to(whole[0].device) + torch.nn.utils.get_total_norm(whole).square()
    norm = norm.sqrt()
    if max_norm is not None:
        own = [p for p, gradient in zip(with_gradient, gradients, strict=True) if local_part(gradient).numel()]
        torch.nn.utils.clip_grads_with_norm_(own, max_norm, norm)
    return norm
