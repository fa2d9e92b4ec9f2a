"""Takes one step of random models on the device under test, a process a card, and writes what it gave to a folder.

python test/support/draw_ranks.py FOLDER WORLD_SIZE ROWS RECIPE...
"""

import os
import sys

import torch

from draws import make_random
from ranks import on_ranks
from recipes import make_task, random_step, rank_batches
from training.device import select_device
from training.distributed import wrap_model

DEVICE = select_device(os.environ["OPENCLIP_TEST_DEVICE"])


def draw_on_rank(world, rows, names):
    """Take the steps of one process."""
    device, torch_device, answers = DEVICE, DEVICE.activate(world.rank), {}
    for name in names:
        # In fp32: an NPU has no other arithmetic for float64.
        task = make_task(
            name, world, lambda model: wrap_model(make_random(model).float().to(torch_device), torch_device, world)
        )
        torch.manual_seed(world.rank)
        batches = [
            batch._replace(images=batch.images.float()).to(torch_device)
            for batch in rank_batches(name, world.rank, world.world_size, rows, 2)
        ]
        answers[name] = random_step(task, batches, device)
    return answers


if __name__ == "__main__":
    folder, world_size, rows, *names = sys.argv[1:]
    backend = DEVICE.collective_backend
    on_ranks(draw_on_rank, int(world_size), folder, int(rows), names, backend=backend, begin=DEVICE.activate)
