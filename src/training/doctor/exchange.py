"""What each process of an all-reduce does: ``torchrun -m training.doctor.exchange``. Rank 0 writes what it saw."""

import argparse
import json
import sys
import time
from typing import Any

from open_clip.errors import first_line
from open_clip.files import write_whole
from training.device.startup import import_torch

#: Bytes a process gives to the timed all-reduce: a gradient bucket of DDP, and the gradients of ViT-B-32 in fp32.
SIZES = (25 << 20, 576 << 20)
_TIMEOUT_S = 120.0


def main() -> int:
    """Join the other processes, add up tensors over all of them, and write figures; errors go to the standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=0.0, help="time to measure each size for; 0 measures none")
    asked = parser.parse_args()
    import_torch()
    # One line is read by the process that started this one; a traceback of a library would bury it.
    try:
        _exchange(asked.device, asked.out, asked.seconds)
    except Exception as error:
        sys.stderr.write(f"all-reduce failed: {type(error).__name__}: {first_line(error)}\n")
        return 1
    return 0


def _exchange(kind: str, path: str, seconds: float) -> None:
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import HashStore

    from training.device import select_device
    from training.distributed import start_process_group, stop_process_group, world_from_environment
    from training.doctor.findings import compare

    world, device = world_from_environment(), select_device(kind)
    place = device.activate(None if device.process_limit() is None or not world.is_distributed else world.local_rank)
    start_process_group(device, world, timeout_s=_TIMEOUT_S)
    if not world.is_distributed:
        dist.init_process_group(device.collective_backend, store=HashStore(), rank=0, world_size=1)
    shares = [torch.randn(1 << 16, generator=torch.Generator().manual_seed(rank)) for rank in range(world.world_size)]
    expected, total = torch.stack(shares).sum(0), shares[world.rank].to(place)
    dist.all_reduce(total)
    device.synchronize()
    difference = compare(total, expected)
    answer: dict[str, Any] = {"backend": device.collective_backend, "processes": world.world_size}
    answer["difference"] = vars(difference)
    answer["speeds"] = [_time_size(device, place, size, seconds) for size in SIZES] if seconds else []
    answer["trace"] = device.collective_trace()
    if world.is_master:
        write_whole(path, json.dumps(answer))
    # One that left before the others had their answer would take it from them.
    dist.barrier()
    stop_process_group()


def _time_size(device: Any, place: Any, size: int, seconds: float) -> dict[str, float]:
    """Time all-reduces of ``size`` bytes for about ``seconds``; the count is agreed on, so that none waits for ever."""
    import torch
    import torch.distributed as dist

    values = torch.ones(size // 4, device=place)

    def one() -> float:
        started = time.perf_counter()
        dist.all_reduce(values)
        device.synchronize()
        return time.perf_counter() - started

    one()
    slowest = torch.tensor([one()], device=place)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    taken = [one() for _ in range(max(3, min(100, int(seconds / max(float(slowest), 1e-6)))))]
    mean = sum(taken) / len(taken)
    processes = dist.get_world_size()
    # What crosses each process's link under the ring algorithm. Source: NVIDIA/nccl-tests, doc/PERFORMANCE.md.
    return {"bytes": size, "seconds": mean, "bus_bytes_per_s": size / mean * 2 * (processes - 1) / processes}


if __name__ == "__main__":
    sys.exit(main())
