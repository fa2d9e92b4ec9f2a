"""Choose the device of a run by name; the registry of all kinds. Describes no hardware itself."""

import logging

from open_clip.errors import ConfigError, DeviceError, suggest_nearest
from training.device.base import Device
from training.device.cpu import CpuDevice
from training.device.cuda import CudaDevice
from training.device.npu import NpuDevice
from training.device.startup import installed_backends

#: Every kind, the one ``auto`` prefers first. A new device is one file and one row here.
DEVICES: dict[str, type[Device]] = {"npu": NpuDevice, "cuda": CudaDevice, "cpu": CpuDevice}
_logger = logging.getLogger(__name__)


def select_device(name: str = "auto", processes: int = 1) -> Device:
    """Return the device of this name, ready to be activated.

    Args:
        name: ``auto`` (the first usable of npu, cuda, cpu), a kind, or a kind with an index such as ``cuda:1``.
        processes: how many the run has; ``auto`` puts several on cards only.

    Raises:
        ConfigError: The name is unknown.
        DeviceError: The device cannot be used here; the message says why.
    """
    if name == "auto":
        return _best_device(processes)
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


def _best_device(processes: int) -> Device:
    """Return the first usable kind, with a word on what was passed over: loudly for an installed plug-in."""
    level, passed_over = logging.INFO, []
    for device, reason in device_report():
        if reason is None:
            break
        passed_over.append(f"{device.kind}: {reason}")
        if f"torch_{device.kind}" in installed_backends():
            level = logging.WARNING
    else:
        raise AssertionError("the CPU is always usable")
    why = "; ".join(passed_over)
    if device.kind == "cpu" and processes > 1:
        # A cluster whose cards are not seen would train for days what was meant to take an hour.
        raise DeviceError(
            f"{processes} processes were started with --device auto and no card was found ({why}). "
            "To share the cores of the CPU among them, say so: --device=cpu"
        )
    if passed_over and (device.kind == "cpu" or level == logging.WARNING):
        _logger.log(level, "--device auto takes %s and passes over %s", device.kind, why)
    return device


def _parse(name: str) -> tuple[str, int | None]:
    """Split ``kind`` or ``kind:index``."""
    kind, colon, digits = name.partition(":")
    if kind not in DEVICES:
        raise ConfigError(
            f"--device {name}: there is no such device.{suggest_nearest(kind, [*DEVICES, 'auto'])}"
            f" The known ones are auto, {', '.join(DEVICES)}, with an index if wanted (cuda:1)."
        )
    if colon and not digits.isascii() or colon and not digits.isdigit():
        raise ConfigError(f"--device {name}: what follows the colon must be a number, as in {kind}:0.")
    return kind, int(digits) if colon else None
