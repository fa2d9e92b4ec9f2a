"""Ascend NPUs, through the torch_npu plug-in, as a training device.

Every name used here that torch_npu brings is listed in ``test/unit/training/device/torch_npu_names.txt`` with the place
in the published wheels that defines it, and a test holds the list. torch_npu is never imported before
:meth:`NpuDevice.missing` is asked, and never needed to read this file.
"""

import importlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch

from open_clip.errors import DeviceError
from open_clip.transformer.kernels import register_attention
from training.device.base import Device, DeviceInfo, StepProfiler, out_of_memory_error
from training.device.copies import CopyStream
from training.device.npu_attention import FusedAttention
from training.device.npu_faults import explain_compiler, explain_start
from training.device.npu_plugin import installed_versions, load_plugin, npu_module, scaler_class, start_card
from training.device.npu_profiler import NpuStepProfiler


class NpuDevice(Device):
    """One NPU per process."""

    kind = "npu"
    # Object collectives and barriers on host tensors go over gloo; with hccl alone they would cross the device.
    collective_backend = "cpu:gloo,npu:hccl"
    pin_memory = True
    # Every new shape may be compiled on line for seconds, so text keeps to a few lengths.
    text_shapes = "bucketed"

    def missing(self) -> str | None:
        """Say why no NPU can be used: no plug-in, a plug-in without CANN under it, or no card visible."""
        fault = load_plugin()
        if fault is not None:
            return fault
        if os.environ.get("ASCEND_RT_VISIBLE_DEVICES") == "":
            return "ASCEND_RT_VISIBLE_DEVICES is empty, which hides every NPU; unset it or name one"
        if not npu_module().is_available():
            return (
                "no NPU answers (driver not loaded, card held by another container, or none visible); see npu-smi info"
            )
        return None

    def count(self) -> int:
        """Count the visible NPUs."""
        return int(npu_module().device_count())

    def activate(self, index: int | None = None) -> torch.device:
        """Make an NPU the current one, with prebuilt kernels, plain memory layouts and full fp32 precision.

        Towers attend with torch_npu's fused kernel where the chip has it.

        Raises:
            DeviceError: There is no NPU of this index, or it does not start; the message says why and what to do.
        """
        wanted = self._resolve(index)
        if wanted >= self.count():
            raise DeviceError(
                f"npu:{wanted} was asked for but {self.count()} NPU(s) are visible (0 to {self.count() - 1}); "
                "start fewer processes per machine or check ASCEND_RT_VISIBLE_DEVICES."
            )
        # The first call starts driver and compiler: a half-installed machine answers `count` and fails here.
        try:
            start_card(wanted)
            fuses = self._has_fused_kernels()
        except RuntimeError as error:
            raise DeviceError(explain_start(f"{self.kind}:{wanted}", error, installed_versions())) from error
        kernel = FusedAttention(importlib.import_module("torch_npu").npu_fusion_attention) if fuses else None
        register_attention(self.kind, kernel)
        return super().activate(wanted)

    def info(self, index: int | None = None) -> DeviceInfo:
        """Describe one NPU, with the versions of torch_npu, CANN and the driver."""
        npu, wanted = npu_module(), self._resolve(index)
        _, total = npu.mem_get_info(wanted)
        return DeviceInfo(self.kind, str(npu.get_device_name(wanted)), self.count(), int(total), installed_versions())

    def supports_bf16(self) -> bool:
        """Tell whether the chip computes in bfloat16 (910B and later)."""
        return bool(npu_module().is_bf16_supported())

    def software(self) -> dict[str, str]:
        """Return the versions of torch_npu, CANN and the driver."""
        return installed_versions()

    def compiler_fault(self) -> str | None:
        """Say that triton-ascend is missing, without which torch has no compiler for NPUs."""
        return explain_compiler()

    def synchronize(self) -> None:
        """Wait for the NPU."""
        npu_module().synchronize(self._current)

    def grad_scaler(self, loss_scale: float | None) -> torch.amp.GradScaler:
        """Build torch_npu's scaler: it reads the overflow flag of chips without infinities and stays in fp32."""
        scale = 2.0**16 if loss_scale is None else loss_scale
        scaler: torch.amp.GradScaler = scaler_class()(init_scale=scale, dynamic=loss_scale is None)
        return scaler

    def rng_state(self) -> torch.Tensor | None:
        """Return the NPU generator's state as a byte tensor on the host."""
        state: torch.Tensor = npu_module().get_rng_state(self._current)
        return state

    def set_rng_state(self, state: torch.Tensor | None) -> None:
        """Put an NPU generator's state back."""
        if state is not None:
            npu_module().set_rng_state(state.cpu(), self._current)

    def set_deterministic(self, on: bool) -> None:
        """Ask for kernels and collectives that repeat their bits; hccl reads its part when a group starts."""
        if on:
            os.environ.setdefault("HCCL_DETERMINISTIC", "true")
        torch.use_deterministic_algorithms(on)

    def peak_memory_bytes(self) -> int:
        """Return the most bytes held by tensors at once."""
        return int(npu_module().max_memory_allocated(self._current))

    def reset_peak_memory(self) -> None:
        """Start the peak anew."""
        npu_module().reset_peak_memory_stats(self._current)

    def hang_environment(self, timeout_s: float = 1800.0) -> dict[str, str]:
        """Return hccl's limits: long enough to meet at the first step, and its own limit under torch's.

        The default of 120 s to connect is short of what a first, compiling step takes on the slowest rank. Ending a
        failed collective (``HCCL_ASYNC_ERROR_HANDLING``) is the default of every torch_npu.
        """
        return {
            "HCCL_CONNECT_TIMEOUT": str(int(min(max(300.0, timeout_s / 3), 7200.0))),
            # Older CANN rounds this down to multiples of 68.
            "HCCL_EXEC_TIMEOUT": str(max(68, int(timeout_s * 0.9) // 68 * 68)),
            # The flight recorder: the last calls of each rank, for collective_trace. torch_npu's own dump of it
            # (TORCH_HCCL_DUMP_ON_TIMEOUT) needs its monitor thread, without which a failed collective waits 600 s.
            "TORCH_HCCL_TRACE_BUFFER_SIZE": "2000",
        }

    def collective_trace(self) -> str | None:
        """Return hccl's flight recorder; None where torch_npu has none."""
        # Source: Ascend/pytorch, torch_npu/csrc/distributed/Init.cpp; it waits for no collective.
        try:
            dump = importlib.import_module("torch_npu")._C._distributed_c10d._dump_hccl_trace_json
        except AttributeError:
            return None
        return bytes(dump()).decode("utf-8", "replace")

    def step_profiler(self, folder: Path, name: str, steps: int) -> StepProfiler | None:
        """Make torch_npu's profiler."""
        return NpuStepProfiler(folder, name, steps)

    def optimizer_options(self, parameters: Iterable[torch.Tensor]) -> dict[str, bool]:
        """Choose the fused kernel on chips that have it (910B and later), else what torch_npu has torch choose.

        Grouped or plain is torch_npu's to say: by the chip, and before 2.14 by the version of CANN too.
        Source: torch_npu 2.6.0 and 2.14.0, utils/_optim.py.
        """
        return {"fused": True} if self._can_fuse(parameters) and self._has_fused_kernels() else {}

    def can_skip_update(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return False: the NPU's fused AdamW takes ``found_inf`` and does not look at it.

        Source: op-plugin's ``_fused_adamw_`` passes only gradient, moments, step and settings to its kernel.
        """
        return False

    def copy_stream(self) -> CopyStream | None:
        """Make a stream for copies from pinned memory."""
        npu = npu_module()
        return CopyStream(
            npu.Stream(device=self._current), make_event=npu.Event, use=npu.stream, current=npu.current_stream
        )

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether the NPU ran out of memory."""
        return out_of_memory_error(error, "npu out of memory", "pin memory failed")

    def _has_fused_kernels(self) -> bool:
        """Tell whether the chip has the fused kernels of attention and AdamW, which came with bfloat16.

        torch_npu counts the inference chip 310B among those with bfloat16; the kernels it has not.
        Source: torch_npu's NpuVariables.h; CANN's pages on FlashAttentionScore and ApplyAdamWV2.
        """
        return self.supports_bf16() and not str(npu_module().get_device_name(self._current)).startswith("Ascend310")
