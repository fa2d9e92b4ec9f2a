"""One rank of a small training loop, to be run in its own process: its own batch is bad, the other ranks' are not."""

import math
from typing import Any

import torch

from loop_runs import SkippingCpu, SmallRun, make_batches
from training.device.cpu import CpuDevice
from training.distributed import World


def guard_rank(world: World) -> dict[str, Any]:
    """Train three steps on batches of this rank alone, the second bad on rank 1 only; no gradient is exchanged."""
    rank, answers = world.rank, {}
    for name, device in (("host", CpuDevice()), ("device", SkippingCpu())):
        batches = make_batches(3, seed=rank)
        if rank == 1:
            batches[1] = batches[1]._replace(images=batches[1].images * math.nan)
        run = SmallRun(batches, device=device, world=world, bad_rows=lambda: rank + 1)
        weights = []
        for batch in batches:
            run.stepper.step([batch], 1e-3)
            weights.append(run.task.model.visual.proj.detach().clone())
        verdicts = [vars(run.guard.read()) for _ in batches]
        answers[name] = {
            "verdicts": verdicts,
            "moved": [not torch.equal(a, b) for a, b in zip(weights, weights[1:], strict=False)],
            "steps": int(next(iter(run.optimizer.state.values()))["step"]),
        }
    return answers
