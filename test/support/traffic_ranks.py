"""One rank of a run in which every byte handed to the collective library is counted."""

import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils._python_dispatch import TorchDispatchMode

import open_clip
from open_clip.loss import ClipLoss
from training.distributed import World, wrap_model

MODEL, BATCH, WIDTH = "ViT-micro-8-32", 3, 32


class CollectiveBytes(TorchDispatchMode):
    """Counts the bytes of each kind of collective that this rank gives away."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = {"allgather": 0, "allreduce": 0, "reduce_scatter": 0, "broadcast": 0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        for kind, place in (("allgather", 1), ("allreduce", 0), ("reduce_scatter", 1), ("broadcast", 0)):
            # Those of a single tensor are named _allgather_base_.
            if name.removeprefix("c10d::").lstrip("_").startswith(f"{kind}_"):
                given = args[place] if isinstance(args[place], list | tuple) else [args[place]]
                self.counted[kind] += sum(tensor.numel() * tensor.element_size() for tensor in given)
        return func(*args, **(kwargs or {}))


def _start(rank: int, world_size: int, folder: str, **model: Any) -> torch.nn.Module:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    return wrap_model(
        open_clip.create_model(MODEL, **model), torch.device("cpu"), World(rank, rank, world_size, world_size)
    )


def _end(rank: int, folder: str, counted: dict[str, int]) -> None:
    Path(folder, f"{rank}.json").write_text(json.dumps(counted), encoding="utf-8")
    dist.destroy_process_group()
    # Without the interpreter's teardown, in which one of torch's threads now and then aborts the process.
    os._exit(0)


def count_forward(rank: int, world_size: int, folder: str, model: dict[str, Any]) -> None:
    """Take two forward passes; write the bytes that the second sent."""
    wrapped = _start(rank, world_size, folder, **model)
    images, texts = torch.randn(BATCH, 3, 32, 32), torch.ones(BATCH, 16, dtype=torch.int64)
    wrapped(images, texts)
    with CollectiveBytes() as traffic:
        wrapped(images, texts)
    _end(rank, folder, traffic.counted)


def run_rank(rank: int, world_size: int, folder: str) -> None:
    """Take one step of a small model; write the bytes of features, their gradients and the parameters' gradients."""
    wrapped = _start(rank, world_size, folder)
    sizes: list[int] = []

    def count_bucket(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        sizes.append(bucket.buffer().numel() * bucket.buffer().element_size())
        return allreduce_hook(state, bucket)

    wrapped.register_comm_hook(None, count_bucket)
    images, texts, scale = wrapped(torch.randn(BATCH, 3, 32, 32), torch.ones(BATCH, 16, dtype=torch.int64))[:3]
    leaves = [F.normalize(side.detach(), dim=-1).requires_grad_() for side in (images, texts)]
    loss = ClipLoss(gather_with_grad=True, rank=rank, world_size=world_size, tile_rows=2)
    with CollectiveBytes() as traffic:
        loss(*leaves, scale.detach().requires_grad_()).backward()
    features = dict(traffic.counted)
    (images.sum() + texts.sum() + scale).backward()
    _end(rank, folder, {**features, "gradients": sum(sizes)})
