"""What a ``--precision`` name means on a device; a pure table, builds nothing."""

from dataclasses import dataclass, replace

import torch

from open_clip.errors import ConfigError, DeviceError, suggest_nearest
from training.device.base import Device


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


_TABLE = {
    precision.effective: precision
    for precision in (
        Precision("amp", "amp", autocast_dtype=torch.float16, scaled=True),
        Precision("amp_bf16", "amp_bf16", autocast_dtype=torch.bfloat16),
        Precision("fp16", "fp16", model="fp16", input_dtype=torch.float16),
        Precision("bf16", "bf16", model="bf16", input_dtype=torch.bfloat16),
        Precision("fp32", "fp32"),
        Precision("pure_fp16", "pure_fp16", model="pure_fp16", input_dtype=torch.float16),
        Precision("pure_bf16", "pure_bf16", model="pure_bf16", input_dtype=torch.bfloat16),
        Precision("apex_o1", "apex_o1", apex_level="O1"),
        # Evaluation calls the towers, not the forward that apex patches, so their input must come in fp16.
        Precision("apex_o2", "apex_o2", input_dtype=torch.float16, apex_level="O2"),
    )
}
_ALIASES = {"amp_bfloat16": "amp_bf16", "npu_amp": "apex_o2"}
# apex converts a model together with its optimizer.
_WITHOUT_TRAINING = {"apex_o1": "amp", "apex_o2": "pure_fp16"}
PRECISIONS: tuple[str, ...] = (*_TABLE, *_ALIASES)


def resolve_precision(name: str, device: Device, trains: bool = True) -> Precision:
    """Say how a run of this precision computes on a device.

    Args:
        name: One of ``PRECISIONS``.
        device: The device of the run.
        trains: Whether the run trains; one that only evaluates computes as torch can without apex.

    Raises:
        ConfigError: There is no such precision.
        DeviceError: The device has no bfloat16 and the precision needs it.
    """
    effective = _ALIASES.get(name, name)
    if effective not in _TABLE:
        raise ConfigError(
            f"--precision {name}: unknown.{suggest_nearest(name, PRECISIONS)}"
            f" The known ones are {', '.join(PRECISIONS)}."
        )
    if not trains:
        effective = _WITHOUT_TRAINING.get(effective, effective)
    precision = replace(_TABLE[effective], requested=name)
    if torch.bfloat16 in (precision.autocast_dtype, precision.input_dtype) and not device.supports_bf16():
        raise DeviceError(
            f"--precision {name}: {device.info().name} has no bfloat16. Use --precision amp (fp16 with a loss scale)"
            " or --precision fp32."
        )
    if effective == "amp" and device.kind == "cpu":
        return replace(
            _TABLE["fp32"],
            requested=name,
            note="amp computes in fp32 on a CPU, where fp16 gains nothing; --precision amp_bf16 computes in bfloat16",
        )
    return precision
