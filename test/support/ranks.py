"""Processes that meet over a collective backend, do one function each and hand back what it returned."""

import datetime
import os
import pickle
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from runs import trainer_environment
from training.distributed import World
from warm_python import run_warm

_PATIENCE = datetime.timedelta(seconds=120)


def on_ranks(work, world_size, folder, *args, backend="gloo", begin=None, environ=None):
    """Run ``work(world, *args)`` on so many processes and give what each returned, in the order of ranks.

    Args:
        work: A function of a module, so that a new process finds it.
        world_size: Number of processes.
        folder: Where they meet and leave what they return; anything that torch saves, read back to the CPU.
        args: Further arguments.
        backend: What they meet over.
        begin: Called with the rank before they meet; a function of a module, too.
        environ: Their environment, this process's where it is left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "work", "wb") as file:
        pickle.dump(sys.path, file)
        pickle.dump((work, args, backend, begin), file)
    environ = trainer_environment() if environ is None else environ
    statuses, output = run_warm((__file__, folder), environ, processes=world_size, timeout_s=300)
    assert statuses == [0] * world_size, output
    return [torch.load(folder / f"{rank}.pt", map_location="cpu", weights_only=False) for rank in range(world_size)]


def _be_rank(folder):
    rank, size = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    with open(folder / "work", "rb") as file:
        sys.path[:] = pickle.load(file)
        work, args, backend, begin = pickle.load(file)
    torch.set_num_threads(1)
    if begin is not None:
        begin(rank)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=size, timeout=_PATIENCE)
    torch.save(work(World(rank, rank, size, size), *args), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _be_rank(Path(sys.argv[1]))
