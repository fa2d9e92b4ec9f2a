"""Device indices, the chip's name and the versions a run reports."""

import os

import npusim_native as _native
import torch


def device_index(device) -> int:
    """Turn a device, a string, an index or None (the current one) into an index."""
    if isinstance(device, int):
        return device
    named = torch.device("npu" if device is None else device)
    if named.type != "npu":
        raise ValueError(f"Expected a npu device, but got: {named}")
    if named.index is None:
        # Which one is current is known to an initialised device only.
        _native.check_usable()
        return _native.current_device()
    return named.index


def chip_name() -> str:
    """Return NPUSIM_NAME; tests set it to walk the branches of other chips."""
    return os.environ.get("NPUSIM_NAME", "Ascend910B1")


def get_cann_version(module="CANN") -> str:
    """Return a version that no CANN has, so that nobody takes a report of the simulator for one of a card."""
    return "0.0.simulated"


def is_support_inf_nan() -> bool:
    """Tell whether the chip overflows to infinity; the first 910 saturates."""
    _native.check_usable()
    return chip_name() >= "Ascend910B"
