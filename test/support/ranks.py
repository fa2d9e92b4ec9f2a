"""Processes that meet over a collective backend, do one function each and hand back what it returned."""

import datetime
import os
from pathlib import Path

import torch
import torch.distributed as dist

from training.distributed import World

_PATIENCE = datetime.timedelta(seconds=120)


def on_ranks(work, world_size, folder, *args, backend="gloo", begin=None):
    """Run ``work(world, *args)`` on so many processes and give what each returned, in the order of ranks.

    Args:
        work: A function of a module, so that a new process finds it.
        world_size: Number of processes.
        folder: Where they meet and leave what they return; anything that torch saves.
        args: Further arguments.
        backend: What they meet over.
        begin: Called with the rank before they meet.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(_run, (work, world_size, str(folder), args, backend, begin), nprocs=world_size)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _run(rank, work, world_size, folder, args, backend, begin):
    torch.set_num_threads(1)
    if begin is not None:
        begin(rank)
    dist.init_process_group(
        backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size, timeout=_PATIENCE
    )
    found = work(World(rank, rank, world_size, world_size), *args)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    # Without the interpreter's teardown, in which one of torch's threads now and then aborts the process.
    os._exit(0)
