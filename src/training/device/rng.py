"""Seed every random generator of a process, and save and restore them all; draws nothing itself."""

import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from training.device.base import Device

_logger = logging.getLogger(__name__)


def seed_all(seed: int, device: Device) -> None:
    """Seed Python, NumPy, torch and the device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # Reaches the generators of every visible device too.
    torch.manual_seed(seed)


def remember_rng(device: Device) -> Callable[[], None]:
    """Note where the generators that layers draw from stand: torch's own, of the host and of the device.

    Python's and NumPy's are left out: their states are large, and no layer here draws from them.

    Returns:
        What puts the generators back, for something that is to be drawn a second time.
    """
    host, own = torch.get_rng_state(), device.rng_state()

    def put_back() -> None:
        torch.set_rng_state(host)
        device.set_rng_state(own)

    return put_back


def rng_snapshot(device: Device) -> dict[str, Any]:
    """Return the state of all generators in plain types and tensors, which a safe ``torch.load`` reads back."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ),
        "torch": torch.get_rng_state(),
        "device_kind": device.kind,
        "device": device.rng_state(),
    }


def restore_rng(snapshot: Mapping[str, Any], device: Device) -> None:
    """Put all generators back where a snapshot found them.

    A snapshot of another kind of device restores the host's generators only: the streams have nothing in common.
    """
    version, internal, gauss = snapshot["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = snapshot["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(snapshot["torch"].cpu())
    if snapshot["device_kind"] == device.kind:
        device.set_rng_state(snapshot["device"])
    else:
        _logger.info(
            "the checkpoint's random state is of %s; that of %s starts anew", snapshot["device_kind"], device.kind
        )
