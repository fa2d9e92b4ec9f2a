"""What a ``--precision`` means on a device: a row of ``params.precisions`` with torch's types; builds nothing."""

from dataclasses import dataclass, replace

import torch

from open_clip.errors import ConfigError, DeviceError, suggest_nearest
from training.device.base import Device
from training.params.precisions import PRECISIONS, PrecisionRow


@dataclass(frozen=True)
class Precision:
    """How a run computes.

    Attributes:
        requested: The name that was asked for.
        effective: The name of what is done.
        model: The precision ``open_clip.create_model`` is given.
        autocast_dtype: The dtype of autocast; None without autocast.
        input_dtype: What images are cast to before the model; None leaves them.
        scaled: Whether the loss goes through a gradient scaler.
        apex_level: apex's optimisation level; None without apex.
        note: What was changed against the request, and why; worth a warning.
    """

    requested: str
    effective: str
    model: str = "fp32"
    autocast_dtype: torch.dtype | None = None
    input_dtype: torch.dtype | None = None
    scaled: bool = False
    apex_level: str | None = None
    note: str | None = None

    def describe(self) -> dict[str, str | bool | None]:
        """Return the plain values a log line or a report can hold."""
        dtype = None if self.autocast_dtype is None else str(self.autocast_dtype).removeprefix("torch.")
        return {
            "requested": self.requested,
            "effective": self.effective,
            "model": self.model,
            "autocast": dtype,
            "scaled": self.scaled,
            "apex": self.apex_level,
            "note": self.note,
        }


def resolve_precision(name: str, device: Device, trains: bool = True) -> Precision:
    """Say how a run of this precision computes on a device.

    Args:
        name: A name of the table ``params.precisions``.
        device: The device of the run.
        trains: Whether the run trains; one that only evaluates computes as torch can without apex.

    Raises:
        ConfigError: There is no such precision.
        DeviceError: The device has no bfloat16 and the precision needs it.
    """
    if name not in PRECISIONS:
        raise ConfigError(
            f"--precision {name}: unknown.{suggest_nearest(name, PRECISIONS)}"
            f" The known ones are {', '.join(PRECISIONS)}."
        )
    row = PRECISIONS[name]
    if not trains and row.to_evaluate is not None:
        row = PRECISIONS[row.to_evaluate]
    precision = _of_row(row, name)
    if torch.bfloat16 in (precision.autocast_dtype, precision.input_dtype) and not device.supports_bf16():
        raise DeviceError(
            f"--precision {name}: {device.info().name} has no bfloat16. Use --precision amp (fp16 with a loss scale)"
            " or --precision fp32."
        )
    if precision.scaled and device.kind == "cpu":
        note = "amp computes in fp32 on a CPU, where fp16 gains nothing; --precision amp_bf16 computes in bfloat16"
        return replace(_of_row(PRECISIONS["fp32"], name), note=note)
    return precision


def _of_row(row: PrecisionRow, requested: str) -> Precision:
    autocast, inputs = (None if name is None else getattr(torch, name) for name in (row.autocast, row.inputs))
    return Precision(requested, row.name, row.model, autocast, inputs, row.is_scaled, row.apex_level)
