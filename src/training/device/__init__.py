"""The only room that knows hardware: pick a device, ask it questions, run in its precisions.

Names load when first used, so that ``training.device.startup`` can be imported before torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.device.base import Device as Device
    from training.device.base import DeviceInfo as DeviceInfo
    from training.device.make_precision import make_mixed_precision as make_mixed_precision
    from training.device.mixed import MixedPrecision as MixedPrecision
    from training.device.precision import Precision as Precision
    from training.device.precision import resolve_precision as resolve_precision
    from training.device.rng import remember_rng as remember_rng
    from training.device.rng import restore_rng as restore_rng
    from training.device.rng import rng_snapshot as rng_snapshot
    from training.device.rng import seed_all as seed_all
    from training.device.select import DEVICES as DEVICES
    from training.device.select import device_report as device_report
    from training.device.select import select_device as select_device
    from training.device.startup import import_torch as import_torch

_HOMES = {
    "Device": "base",
    "DeviceInfo": "base",
    "MixedPrecision": "mixed",
    "make_mixed_precision": "make_precision",
    "Precision": "precision",
    "resolve_precision": "precision",
    "remember_rng": "rng",
    "restore_rng": "rng",
    "rng_snapshot": "rng",
    "seed_all": "rng",
    "DEVICES": "select",
    "device_report": "select",
    "select_device": "select",
    "import_torch": "startup",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from the file that has it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
