"""NVIDIA GPUs (and AMD's, through torch's HIP build) as a training device."""

import os
from collections.abc import Iterable
from typing import Any

import torch

from open_clip.errors import DeviceError
from training.device.base import Device, DeviceInfo, out_of_memory_error
from training.device.copies import CopyStream


class CudaDevice(Device):
    """One CUDA device per process."""

    kind = "cuda"
    collective_backend = "nccl"
    pin_memory = True
    text_shapes = "packed"

    def missing(self) -> str | None:
        """Say why no GPU can be used: a torch without CUDA, no driver, or none visible."""
        if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
            return f"torch {torch.__version__} is built without CUDA; install a CUDA build of torch"
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            return "CUDA_VISIBLE_DEVICES is empty, which hides every GPU; unset it or name one"
        if not torch.cuda.is_available():
            return "no CUDA GPU answers (no driver, a driver older than torch needs, or no card); see nvidia-smi"
        return None

    def count(self) -> int:
        """Count the visible GPUs."""
        return torch.cuda.device_count()

    def activate(self, index: int | None = None) -> torch.device:
        """Make a GPU the current one and state how fp32 products are computed: in TF32, as upstream's trainer does.

        Source: open_clip 3.3.0, ``open_clip_train/main.py``.

        Raises:
            DeviceError: There is no GPU of this index.
        """
        wanted = self._resolve(index)
        if wanted >= self.count():
            raise DeviceError(
                f"cuda:{wanted} was asked for but {self.count()} GPU(s) are visible (0 to {self.count() - 1}); "
                "start fewer processes per machine or check CUDA_VISIBLE_DEVICES."
            )
        torch.cuda.set_device(wanted)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        # Convolutions see one shape in training; trying their kernels out once pays.
        torch.backends.cudnn.benchmark = True
        return super().activate(wanted)

    def info(self, index: int | None = None) -> DeviceInfo:
        """Describe one GPU, with the versions of CUDA, cuDNN and NCCL."""
        properties = torch.cuda.get_device_properties(self._resolve(index))
        versions = {"cuda": str(torch.version.cuda or torch.version.hip), "cudnn": _cudnn_version()}
        if torch.distributed.is_available() and torch.distributed.is_nccl_available():
            versions["nccl"] = ".".join(str(part) for part in torch.cuda.nccl.version())  # type: ignore[no-untyped-call]
        versions["capability"] = f"{properties.major}.{properties.minor}"
        return DeviceInfo(self.kind, properties.name, self.count(), int(properties.total_memory), versions)

    def supports_bf16(self) -> bool:
        """Tell whether the GPU computes in bfloat16 itself (compute capability 8 and later)."""
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    def synchronize(self) -> None:
        """Wait for the GPU."""
        torch.cuda.synchronize(self._current)

    def rng_state(self) -> torch.Tensor | None:
        """Return the GPU generator's state as a byte tensor on the host."""
        return torch.cuda.get_rng_state(self._current)

    def set_rng_state(self, state: torch.Tensor | None) -> None:
        """Put a GPU generator's state back."""
        if state is not None:
            torch.cuda.set_rng_state(state.cpu(), self._current)

    def set_deterministic(self, on: bool) -> None:
        """Ask for kernels that repeat their bits; cuBLAS reads its part when the first product is computed."""
        if on:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = not on
        super().set_deterministic(on)

    def peak_memory_bytes(self) -> int:
        """Return the most bytes held by tensors at once."""
        return int(torch.cuda.max_memory_allocated(self._current))

    def reset_peak_memory(self) -> None:
        """Start the peak anew."""
        torch.cuda.reset_peak_memory_stats(self._current)

    def hang_environment(self, timeout_s: float = 1800.0) -> dict[str, str]:
        """Return NCCL's switches that end a hung collective and write what each rank was doing."""
        return {
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
            "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
            "TORCH_FR_BUFFER_SIZE": "2000",
        }

    def collective_trace(self) -> str | None:
        """Return NCCL's flight recorder; torch writes it by itself only at its own, longer limit."""
        from torch._C import _distributed_c10d

        dump = getattr(_distributed_c10d, "_dump_nccl_trace_json", None)
        return None if dump is None else bytes(dump()).decode("utf-8", "replace")

    def profiler_activities(self) -> list[Any]:
        """Record the host and the GPU."""
        return [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]

    def optimizer_options(self, parameters: Iterable[torch.Tensor]) -> dict[str, bool]:
        """Choose the fused kernel, else the grouped one."""
        return {"fused": True} if self._can_fuse(parameters) else {"foreach": True}

    def can_skip_update(self, optimizer: torch.optim.Optimizer) -> bool:
        """Tell whether the optimizer is one fused kernel, which reads its ``found_inf`` on the device.

        Spread parameters (DTensor) do not go into one kernel with a flag that is not spread.
        """
        is_fused = all(group.get("fused") for group in optimizer.param_groups)
        return is_fused and not any(hasattr(p, "to_local") for group in optimizer.param_groups for p in group["params"])

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether the GPU or one of its libraries ran out of memory."""
        return out_of_memory_error(error, "cuda out of memory", "cublas_status_alloc_failed", "out of memory")

    def copy_stream(self) -> CopyStream | None:
        """Make a stream for copies from pinned memory."""
        return CopyStream(
            torch.cuda.Stream(device=self._current),  # type: ignore[no-untyped-call]
            make_event=self._make_event,
            use=torch.cuda.stream,
            current=torch.cuda.current_stream,
        )

    def begin_step(self) -> None:
        """Let captured graphs (``--torchcompile-mode``) reuse the memory of the step before."""
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def _make_event(self) -> Any:
        """Make a CUDA event."""
        return torch.cuda.Event()  # type: ignore[no-untyped-call]


def _cudnn_version() -> str:
    """Return cuDNN's version number as torch knows it."""
    return str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
