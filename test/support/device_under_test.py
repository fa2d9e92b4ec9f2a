"""The device that device tests run on: ``OPENCLIP_TEST_DEVICE`` (default cpu), as timm's tests take theirs."""

import os

import torch

from training.device import Device, select_device


def device_under_test() -> tuple[Device, torch.device]:
    """Select and activate the device the environment names."""
    device = select_device(os.environ.get("OPENCLIP_TEST_DEVICE", "cpu"))
    return device, device.activate()
