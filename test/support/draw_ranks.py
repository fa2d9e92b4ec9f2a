"""One rank of a step of random models on the device that ``OPENCLIP_TEST_DEVICE`` names, a process a card."""

import os

import torch

from draws import make_random
from recipes import make_task, random_step, rank_batches
from training.device import select_device
from training.distributed import wrap_model

DEVICE = select_device(os.environ.get("OPENCLIP_TEST_DEVICE", "cpu"))


def activate(rank):
    """Begin to use a card."""
    DEVICE.activate(rank)


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
