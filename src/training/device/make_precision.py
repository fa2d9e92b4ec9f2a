"""Choose what runs a precision on a device: torch's autocast with or without a loss scale, or apex."""

import logging

import torch

from open_clip.errors import ConfigError
from training.device.apex import ApexPrecision
from training.device.base import Device
from training.device.mixed import MixedPrecision, ScaledPrecision
from training.device.precision import Precision

_logger = logging.getLogger(__name__)


def make_mixed_precision(
    precision: Precision, device: Device, torch_device: torch.device, loss_scale: str | float | None = None
) -> MixedPrecision:
    """Build what runs a precision on a device.

    Args:
        precision: From ``resolve_precision``.
        device: The device of the run.
        torch_device: The same, as torch names it.
        loss_scale: A number, ``dynamic``, or None for the default: dynamic, and 512 under apex O2.

    Raises:
        ConfigError: The loss scale is not a positive number.
        MissingDependency: apex is asked for and not installed.
    """
    scale = _parse_loss_scale(loss_scale)
    if precision.apex_level is not None:
        fixed = 512.0 if loss_scale is None and precision.apex_level == "O2" else scale
        return ApexPrecision(precision, torch_device, fixed)
    if precision.scaled:
        return ScaledPrecision(precision, torch_device, device.grad_scaler(scale), fixed=scale is not None)
    if loss_scale is not None:
        _logger.warning("--loss-scale %s is ignored: --precision %s scales no loss", loss_scale, precision.effective)
    return MixedPrecision(precision, torch_device)


def _parse_loss_scale(loss_scale: str | float | None) -> float | None:
    """Return a fixed scale, or None for a dynamic one."""
    if loss_scale is None or loss_scale == "dynamic":
        return None
    try:
        scale = float(loss_scale)
    except ValueError:
        scale = 0.0
    if not 0.0 < scale < float("inf"):
        raise ConfigError(f"--loss-scale {loss_scale}: give a positive number such as 512, or `dynamic`.")
    return scale
