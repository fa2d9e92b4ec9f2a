import logging
import random

import numpy as np
import torch

from device_under_test import device_under_test
from training.device import restore_rng, rng_snapshot, seed_all

DEVICE, TORCH_DEVICE = device_under_test()


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
        torch.rand(3, device=TORCH_DEVICE).tolist(),
        torch.randperm(5, device=TORCH_DEVICE).tolist(),
    )


def test_a_seed_repeats_every_generator():
    seed_all(7, DEVICE)
    first = draw()
    seed_all(7, DEVICE)
    assert draw() == first
    seed_all(8, DEVICE)
    assert draw() != first


def test_a_snapshot_written_to_disk_repeats_the_draws(tmp_path):
    seed_all(3, DEVICE)
    draw()
    torch.save(rng_snapshot(DEVICE), tmp_path / "rng.pt")
    expected = draw()
    seed_all(99, DEVICE)
    restore_rng(torch.load(tmp_path / "rng.pt", weights_only=True), DEVICE)
    assert draw() == expected


def test_a_snapshot_of_another_device_restores_the_host_and_says_so(caplog):
    snapshot = {**rng_snapshot(DEVICE), "device_kind": "abacus", "device": torch.zeros(4, dtype=torch.uint8)}
    expected = float(torch.rand(()))
    with caplog.at_level(logging.INFO):
        restore_rng(snapshot, DEVICE)
    assert float(torch.rand(())) == expected
    assert "of abacus" in caplog.text
