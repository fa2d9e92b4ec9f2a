"""Takes one step of random models on the device under test, a process a card, and writes what it gave to a folder.

python test/support/draw_ranks.py FOLDER WORLD_SIZE ROWS RECIPE...
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from draws import make_random
from recipes import make_task, random_step, rank_batches
from training.device import select_device
from training.distributed import World, wrap_model


def run_rank(rank, world_size, folder, rows, names):
    """Take the steps of one process."""
    torch.set_num_threads(1)
    device = select_device(os.environ["OPENCLIP_TEST_DEVICE"])
    torch_device = device.activate(rank)
    dist.init_process_group(
        device.collective_backend, init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    world, answers = World(rank, rank, world_size, world_size), {}
    for name in names:
        # In fp32: an NPU has no other arithmetic for float64.
        task = make_task(
            name, world, lambda model: wrap_model(make_random(model).float().to(torch_device), torch_device, world)
        )
        torch.manual_seed(rank)
        batches = [
            batch._replace(images=batch.images.float()).to(torch_device)
            for batch in rank_batches(name, rank, world_size, rows, 2)
        ]
        answers[name] = random_step(task, batches, device)
    torch.save(answers, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
    # Without the interpreter's teardown, in which one of torch's threads now and then aborts the process.
    os._exit(0)


if __name__ == "__main__":
    folder, world_size, rows, *names = sys.argv[1:]
    torch.multiprocessing.spawn(run_rank, (int(world_size), folder, int(rows), names), nprocs=int(world_size))
