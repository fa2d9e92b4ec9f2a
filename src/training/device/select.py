"""Choose the device of a run by name; the registry of all kinds. Describes no hardware itself."""

import logging

from open_clip.errors import DeviceError, suggest_nearest
from training.device.base import Device
from training.device.cpu import CpuDevice
from training.device.cuda import CudaDevice
from training.device.npu import NpuDevice
from training.device.startup import installed_backends

#: Every kind, the one ``auto`` prefers first. A new device is one file and one row here.
DEVICES: dict[str, type[Device]] = {"npu": NpuDevice, "cuda": CudaDevice, "cpu": CpuDevice}
_logger = logging.getLogger(__name__)


def select_device(name: str = "auto") -> Device:
    """Return the device of this name, ready to be activated.

    Args:
        name: ``auto`` (the first usable of npu, cuda, cpu), a kind, or a kind with an index such as ``cuda:1``.

    Raises:
        DeviceError: The name is unknown, or the device cannot be used here; the message says why.
    """
    if name == "auto":
        return _best_device()
    kind, index = _parse(name)
    device = DEVICES[kind](index)
    reason = device.missing()
    if reason is not None:
        raise DeviceError(f"--device {name}: {reason}.\nTo run without it, ask for the CPU: --device cpu")
    if index is not None and index >= device.count():
        raise DeviceError(
            f"--device {name}: only {device.count()} of them are visible, {kind}:0 to {kind}:{device.count() - 1}."
        )
    return device


def device_report() -> list[tuple[Device, str | None]]:
    """List every kind of device with why it cannot be used here; None when it can."""
    return [(device, device.missing()) for device in (device_class() for device_class in DEVICES.values())]


def _best_device() -> Device:
    """Return the first usable kind, loudly when an installed accelerator plug-in is passed over."""
    for device, reason in device_report():
        if reason is None:
            return device
        if f"torch_{device.kind}" in installed_backends():
            _logger.warning("--device auto passes over %s: %s", device.kind, reason)
    raise AssertionError("the CPU is always usable")


def _parse(name: str) -> tuple[str, int | None]:
    """Split ``kind`` or ``kind:index``."""
    kind, colon, digits = name.partition(":")
    if kind not in DEVICES:
        raise DeviceError(
            f"--device {name}: there is no such device.{suggest_nearest(kind, [*DEVICES, 'auto'])}"
            f" The known ones are auto, {', '.join(DEVICES)}, with an index if wanted (cuda:1)."
        )
    if colon and not digits.isascii() or colon and not digits.isdigit():
        raise DeviceError(f"--device {name}: what follows the colon must be a number, as in {kind}:0.")
    return kind, int(digits) if colon else None
