"""One rank's part of the contrastive losses, to be run in its own process and compared with one rank's whole."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from open_clip.loss import ClipLoss, DistillClipLoss

ROWS, WIDTH = 12, 8
# (local_loss, gather_with_grad): those that upstream gives the gradients of one rank for.
MODES = [(False, False), (False, True), (True, True)]
KINDS = {"clip": ClipLoss, "distill": DistillClipLoss}


def _features(seed: int, rows: slice) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64), dim=-1)[rows].clone()


def loss_and_gradients(loss: ClipLoss, rows: slice) -> list[Tensor]:
    """The loss of some rows, and its gradients for images, texts and scale."""
    leaves = [_features(0, rows), _features(1, rows), torch.tensor(14.0, dtype=torch.float64)]
    for leaf in leaves:
        leaf.requires_grad_()
    if isinstance(loss, DistillClipLoss):
        teacher = (_features(2, rows), _features(3, rows), torch.tensor(9.0, dtype=torch.float64))
        value = sum(loss(*leaves, *teacher))
    else:
        value = loss(*leaves)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


def run_rank(rank: int, world_size: int, folder: str) -> None:
    """Score this rank's rows in every mode with every loss and write the answers to ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    rows = slice(rank * ROWS // world_size, (rank + 1) * ROWS // world_size)
    answers = {}
    for name, kind in KINDS.items():
        for mode in MODES:
            loss = kind(*mode, cache_labels=True, rank=rank, world_size=world_size)
            answers[name, mode] = loss_and_gradients(loss, rows)
    torch.save(answers, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
    # Without the interpreter's teardown, in which one of torch's threads now and then aborts the process.
    os._exit(0)
