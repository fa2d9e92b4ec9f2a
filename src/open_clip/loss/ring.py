"""Passing tensors between neighbouring ranks, with gradients that travel back. What to do with them is the loss's job.

Every rank must make the same exchanges in the same order, in the backward pass too.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

#: (rank to send to, rank to receive from) for each tensor.
Hops = tuple[tuple[int, int], ...]


def exchange(hops: Hops, tensors: tuple[Tensor, ...], group: dist.ProcessGroup | None = None) -> tuple[Tensor, ...]:
    """Send tensor i to the first rank of hop i and receive one of the same shape from the second."""
    sent = [tensor.contiguous() for tensor in tensors]
    received = [torch.empty_like(tensor) for tensor in sent]
    operations = [dist.P2POp(dist.isend, tensor, to, group) for (to, _), tensor in zip(hops, sent, strict=True)]
    operations += [
        dist.P2POp(dist.irecv, tensor, source, group) for (_, source), tensor in zip(hops, received, strict=True)
    ]
    for request in dist.batch_isend_irecv(operations):
        request.wait()
    return tuple(received)


class _RingExchange(torch.autograd.Function):
    """A batch of hops in one go; gradients take them backwards."""

    @staticmethod
    def forward(ctx: Any, hops: Hops, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.hops = hops
        return exchange(hops, tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        back = tuple((source, to) for to, source in ctx.hops)
        return (None, *exchange(back, gradients))


def pass_on(tensor: Tensor, rank: int, world_size: int) -> Tensor:
    """Hand a tensor to the next rank of the ring and return what the rank before handed over."""
    hops = (((rank + 1) % world_size, (rank - 1) % world_size),)
    (received,) = _RingExchange.apply(hops, tensor)
    result: Tensor = received
    return result


def pass_both_ways(to_next: Tensor, to_previous: Tensor, rank: int, world_size: int) -> tuple[Tensor, Tensor]:
    """Hand one tensor to each neighbour; return what came from the rank before and from the rank after."""
    after, before = (rank + 1) % world_size, (rank - 1) % world_size
    received = _RingExchange.apply(((after, before), (before, after)), to_next, to_previous)
    from_previous, from_next = received
    return from_previous, from_next
