"""Passing tensors between neighbouring ranks, with gradients that travel back. What to do with them is the loss's job.

Every rank must make the same exchanges in the same order, in the backward pass too.

Source: open_clip.loss (3.3.0): names and argument orders.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

#: (rank to send to, rank to receive from) for each tensor.
Hops = tuple[tuple[int, int], ...]


def _exchange(hops: Hops, tensors: tuple[Tensor, ...], group: dist.ProcessGroup | None = None) -> tuple[Tensor, ...]:
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


def _both_hops(left_rank: int, right_rank: int) -> Hops:
    return ((left_rank, right_rank), (right_rank, left_rank))


def neighbour_exchange(from_rank: int, to_rank: int, tensor: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Send a tensor to one rank and return what another sent, of the same shape; without gradient."""
    return _exchange(((to_rank, from_rank),), (tensor,), group)[0]


def neighbour_exchange_bidir(
    left_rank: int,
    right_rank: int,
    tensor_to_left: Tensor,
    tensor_to_right: Tensor,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Tensor]:
    """Send a tensor each way and return (what came from the right, what came from the left); without gradient."""
    from_right, from_left = _exchange(_both_hops(left_rank, right_rank), (tensor_to_left, tensor_to_right), group)
    return from_right, from_left


class NeighbourExchange(torch.autograd.Function):
    """``neighbour_exchange`` whose gradients travel back; ``apply(from_rank, to_rank, group, tensor)``."""

    @staticmethod
    def forward(ctx: Any, from_rank: int, to_rank: int, group: dist.ProcessGroup | None, tensor: Tensor) -> Tensor:
        """Send and receive; see ``neighbour_exchange``."""
        ctx.ranks, ctx.group = (from_rank, to_rank), group
        return neighbour_exchange(from_rank, to_rank, tensor, group)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        """Send the gradient to where the tensor came from."""
        from_rank, to_rank = ctx.ranks
        return None, None, None, NeighbourExchange.apply(to_rank, from_rank, ctx.group, grad_output)


class NeighbourExchangeBidir(torch.autograd.Function):
    """``neighbour_exchange_bidir`` whose gradients travel back; ``apply(left, right, group, to_left, to_right)``."""

    @staticmethod
    def forward(
        ctx: Any,
        left_rank: int,
        right_rank: int,
        group: dist.ProcessGroup | None,
        tensor_to_left: Tensor,
        tensor_to_right: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Send and receive both ways; see ``neighbour_exchange_bidir``."""
        ctx.ranks, ctx.group = (left_rank, right_rank), group
        return neighbour_exchange_bidir(left_rank, right_rank, tensor_to_left, tensor_to_right, group)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        """Send each gradient to where its tensor came from."""
        left_rank, right_rank = ctx.ranks
        of_right, of_left = grad_outputs
        back = neighbour_exchange_bidir(left_rank, right_rank, of_left, of_right, ctx.group)
        return None, None, None, back[1], back[0]


def neighbour_exchange_with_grad(
    from_rank: int, to_rank: int, tensor: Tensor, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Send a tensor to one rank and return what another sent; gradients travel back."""
    received: Tensor = NeighbourExchange.apply(from_rank, to_rank, group, tensor)
    return received


def neighbour_exchange_bidir_with_grad(
    left_rank: int,
    right_rank: int,
    tensor_to_left: Tensor,
    tensor_to_right: Tensor,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Tensor]:
    """Send a tensor each way and return (from the right, from the left); gradients travel back."""
    from_right, from_left = NeighbourExchangeBidir.apply(left_rank, right_rank, group, tensor_to_left, tensor_to_right)
    return from_right, from_left
