"""One rank of two that take a step of several batches under apex, to be run in its own process."""

import sys
from typing import Any

import torch

from loop_runs import make_batches, make_task
from open_clip.loss import ClipLoss
from training.device import make_mixed_precision, resolve_precision
from training.device.cpu import CpuDevice
from training.distributed import World, wrap_model
from training.loop import Stepper

BATCHES, ROWS, LR = 4, 2, 1.0


def take_step(precision, world):
    """Take one step of plain gradient descent on this rank's share of the batches; give how far each weight went."""
    cpu = torch.device("cpu")
    task = make_task()
    task.loss = ClipLoss(rank=world.rank, world_size=world.world_size, gather_with_grad=True)
    optimizer = torch.optim.SGD(task.model.parameters(), lr=LR)
    device = CpuDevice()
    mixed = make_mixed_precision(resolve_precision(precision, device), device, cpu, 128.0)
    task.model, optimizer = mixed.prepare(task.model, optimizer)
    before = [p.detach().clone() for p in mixed.parameters_to_clip(task.model, optimizer)]
    task.model = wrap_model(task.model, cpu, world)
    batches = make_batches(BATCHES, ROWS)
    if precision == "apex_o2":
        batches = [batch._replace(images=batch.images.half()) for batch in batches]
    Stepper(task, optimizer, mixed, device).step(batches[world.rank :: world.world_size], LR)
    return [b - p.detach() for p, b in zip(mixed.parameters_to_clip(task.model, optimizer), before, strict=True)]


def step_of_rank(world: World, apex: str) -> dict[str, Any]:
    """Take the step at each level and give what it did."""
    sys.path.insert(0, apex)
    # O1 last: it patches torch for good.
    return {precision: take_step(precision, world) for precision in ("apex_o2", "apex_o1")}
