"""One rank of a run in which every byte handed to the collective library is counted."""

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


def _make_model(world: World, **model: Any) -> torch.nn.Module:
    return wrap_model(open_clip.create_model(MODEL, **model), torch.device("cpu"), world)


def count_forward(world: World, model: dict[str, Any]) -> dict[str, int]:
    """Take two forward passes; give the bytes that the second sent."""
    wrapped = _make_model(world, **model)
    images, texts = torch.randn(BATCH, 3, 32, 32), torch.ones(BATCH, 16, dtype=torch.int64)
    wrapped(images, texts)
    with CollectiveBytes() as traffic:
        wrapped(images, texts)
    return traffic.counted


def count_step(world: World) -> dict[str, int]:
    """Take one step of a small model; give the bytes of features, their gradients and the parameters' gradients."""
    wrapped = _make_model(world)
    sizes: list[int] = []

    def count_bucket(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        sizes.append(bucket.buffer().numel() * bucket.buffer().element_size())
        return allreduce_hook(state, bucket)

    wrapped.register_comm_hook(None, count_bucket)
    images, texts, scale = wrapped(torch.randn(BATCH, 3, 32, 32), torch.ones(BATCH, 16, dtype=torch.int64))[:3]
    leaves = [F.normalize(side.detach(), dim=-1).requires_grad_() for side in (images, texts)]
    loss = ClipLoss(gather_with_grad=True, rank=world.rank, world_size=world.world_size, tile_rows=2)
    with CollectiveBytes() as traffic:
        loss(*leaves, scale.detach().requires_grad_()).backward()
    features = dict(traffic.counted)
    (images.sum() + texts.sum() + scale).backward()
    return {**features, "gradients": sum(sizes)}
