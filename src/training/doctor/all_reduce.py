"""Add up tensors over all cards: the trial, and what each of its processes does.

Under torchrun this file is the program of each process, and rank 0 writes what it saw.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_clip.errors import first_line
from open_clip.files import write_whole
from training.device.startup import import_torch
from training.doctor.findings import Answer, Deviation, Finding, compare, judge
from training.doctor.parts import Conditions
from training.doctor.processes import run_program

if TYPE_CHECKING:
    from training.device import Device

_WHAT = "all-reduce"
# Sums of two fp32 numbers; a sum of more, in whatever order, stays under it too.
_BOUND = 1e-6
# Bytes a process gives to the timed all-reduce: a gradient bucket of DDP, and the gradients of ViT-B-32 in fp32.
_SIZES = (25 << 20, 576 << 20)
_TIMEOUT_S = 120.0


def between_cards(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    """Try the cards of a report's device, with the bandwidth where there are two."""
    from training.device import select_device

    return all_reduce_findings(select_device(conditions.device), conditions.row_seconds / 2, limit_s)


def all_reduce_findings(device: "Device", seconds: float, limit_s: float) -> Iterator[Finding]:
    """Add up tensors over two processes, or one where there is one card, with a bandwidth for each size.

    Args:
        device: Whose collective library is tried; it need not be activated.
        seconds: How long each size is timed; 0 looks at the sum alone.
        limit_s: When to give up.
    """
    processes = 2 if device.process_limit() is None else min(2, device.count())
    if processes == 1 and seconds:
        yield Finding("all-reduce between two cards", state="not tried", why=f"one {device.kind} card is visible")
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        answer = Path(folder) / "answer.json"
        words = ["-m", "training.doctor.all_reduce", "--device", device.kind, "--out", str(answer)]
        words += ["--seconds", str(seconds if processes > 1 else 0)]
        if processes > 1:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
            words = [*launcher, "--nproc-per-node", str(processes), *words]
        ended = run_program(words, limit_s)
        if answer.is_file():
            yield from _read(json.loads(answer.read_text(encoding="utf-8")))
        if ended.status != 0:
            what = f"{_WHAT}, ending" if answer.is_file() else _WHAT
            yield Finding(what, state="failed", why=ended.describe("all-reduce failed: "))


def _read(answer: Answer) -> Iterator[Finding]:
    who = f"{answer['processes']} process{'es' if answer['processes'] > 1 else ''}, {answer['backend']}"
    yield judge(f"{_WHAT}, {who}", Deviation(**answer["difference"]), _BOUND)
    if answer["trace"] is not None:
        yield Finding("record of collectives", {"answer": f"{len(answer['trace']):,} characters"})
    for speed in answer["speeds"]:
        cells = {
            "avg ms": f"{speed['seconds'] * 1e3:.2f}",
            "bus GB/s": f"{speed['bus_bytes_per_s'] / 1e9:.2f}",
        }
        yield Finding(f"{_WHAT} of {speed['bytes'] >> 20} MiB, {who}", cells)


def main() -> int:
    """Join the other processes, add up tensors over all of them, and write figures; errors go to the standard error."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=0.0, help="time to measure each size for; 0 measures none")
    asked = parser.parse_args()
    import_torch()
    # One line is read by the process that started this one; a traceback of a library would bury it.
    try:
        _add_up(asked.device, asked.out, asked.seconds)
    except Exception as error:
        sys.stderr.write(f"all-reduce failed: {type(error).__name__}: {first_line(error)}\n")
        return 1
    return 0


def _add_up(kind: str, path: str, seconds: float) -> None:
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import HashStore

    from training.device import select_device
    from training.distributed import start_process_group, stop_process_group, world_from_environment

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
    answer: Answer = {"backend": device.collective_backend, "processes": world.world_size}
    answer["difference"] = vars(difference)
    answer["speeds"] = [_time_size(device, place, size, seconds) for size in _SIZES] if seconds else []
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
    # What crosses each process's link under the ring algorithm. Source: NVIDIA's tests of collectives.
    return {"bytes": size, "seconds": mean, "bus_bytes_per_s": size / mean * 2 * (processes - 1) / processes}


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # As the trainer ends: in the interpreter's own teardown a thread of torch now and then aborts the process.
    os._exit(status)
