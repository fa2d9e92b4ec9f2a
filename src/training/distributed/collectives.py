"""The few collective operations the trainer needs; each does nothing in a single process."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist

from training.distributed.env import World


def broadcast_object(value: Any, world: World) -> Any:
    """Give every process the master's value (any picklable one)."""
    if not world.is_distributed:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def gather_objects(value: Any, world: World) -> list[Any]:
    """Give every process the list of all processes' values, by rank."""
    if not world.is_distributed:
        return [value]
    values: list[Any] = [None] * world.world_size
    dist.all_gather_object(values, value)
    return values


def gather_rows(rows: torch.Tensor, world: World) -> torch.Tensor:
    """Concatenate all processes' rows by rank; counts may differ.

    Args:
        rows: [N_rank, ...] on the device the process group works on.
        world: Place of this process.

    Returns:
        [sum of N_rank, ...] on every process, without gradient.
    """
    if not world.is_distributed:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world.world_size)]
    dist.all_gather(counts, torch.tensor([rows.shape[0]], dtype=torch.int64, device=rows.device))
    sizes = [int(count.item()) for count in counts]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: rows.shape[0]] = rows
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])


def sum_over_processes(values: torch.Tensor, world: World) -> torch.Tensor:
    """Add up a small float tensor over all processes, in place on the device, without a host sync."""
    if world.is_distributed:
        dist.all_reduce(values)
    return values


def mean_over_processes(values: torch.Tensor, world: World) -> torch.Tensor:
    """Average a small float tensor over all processes, in place on the device."""
    if world.is_distributed:
        # Sum and divide: not every backend has an average.
        dist.all_reduce(values)
        values /= world.world_size
    return values


def average_gradients(parameters: Iterable[torch.nn.Parameter], world: World) -> None:
    """Average the gradients of parameters that no wrapper averages, all in one message; every process calls it."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not world.is_distributed or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    # Half precision has no room for a sum.
    flat = mean_over_processes(flat.float() if flat.element_size() < 4 else flat, world)
    for gradient, part in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def barrier(world: World) -> None:
    """Wait until every process is here."""
    if world.is_distributed:
        dist.barrier()
