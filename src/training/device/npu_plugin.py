"""The plug-in torch_npu itself: loaded, started, asked for its versions, and its scaler."""

import contextlib
import importlib
import importlib.util
from typing import Any

import torch

from open_clip.errors import first_line
from training.device.startup import backend_fault, describe_fault


def load_plugin() -> str | None:
    """Load torch_npu if torch has not; return why it cannot be, in one line."""
    if hasattr(torch, "npu"):
        return None
    fault = backend_fault("torch_npu")
    if fault is not None:
        return describe_fault("torch_npu", fault)
    if importlib.util.find_spec("torch_npu") is None:
        series = ".".join(torch.__version__.split("+")[0].split(".")[:2])
        return f"torch_npu is not installed; the one for this torch is `pip install 'torch_npu=={series}.*'`, with CANN"
    # Any error may come out: a missing CANN library, a wrong path, or the wheel's own refusal.
    try:
        importlib.import_module("torch_npu")
    except Exception as error:
        return describe_fault("torch_npu", first_line(error))
    return None if hasattr(torch, "npu") else "torch_npu was imported but brought no torch.npu; reinstall it"


def npu_module() -> Any:
    """Return the ``torch.npu`` module; :func:`load_plugin` has made sure of it."""
    return torch.npu  # type: ignore[attr-defined]


def start_card(index: int) -> None:
    """Start an NPU with prebuilt kernels, plain memory layouts and full fp32 precision."""
    npu = npu_module()
    npu.set_device(index)
    npu.set_compile_mode(jit_compile=False)
    npu.config.allow_internal_format = False
    # HF32 drops mantissa bits; convolutions have it on unless told otherwise.
    npu.matmul.allow_hf32 = False
    npu.conv.allow_hf32 = False


def installed_versions() -> dict[str, str]:
    """Return the versions of torch_npu, CANN and the driver, as far as they are told."""
    versions = {"torch_npu": str(importlib.import_module("torch_npu").__version__)}
    for module in ("CANN", "DRIVER"):
        # An image without the version files is common, and no reason to stop a run; torch_npu then gives an empty text.
        with contextlib.suppress(RuntimeError, OSError, ValueError):
            versions[module.lower()] = str(npu_module().utils.get_cann_version(module))
    return {name: version for name, version in versions.items() if version}


def scaler_class() -> Any:
    """Return torch_npu's scaler, made to work with torch's fused optimizers.

    Those say that they scale by themselves, and torch_npu 2.14 believes it by passing itself to their ``step``, which
    takes no such argument.
    """

    class Scaler(npu_module().amp.GradScaler):  # type: ignore[misc]
        def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
            return super().step(optimizer, *args, **kwargs)

    return Scaler
