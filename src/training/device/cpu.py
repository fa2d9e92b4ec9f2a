"""The host's own processor as a training device; always there."""

import os
import platform
import resource
import sys

import torch

from open_clip.errors import DeviceError
from training.device.base import Device, DeviceInfo, out_of_memory_error


class CpuDevice(Device):
    """The CPU: one device, host memory, no generator of its own."""

    kind = "cpu"
    collective_backend = "gloo"
    text_shapes = "packed"

    def missing(self) -> str | None:
        """Return None: a CPU is always there."""
        return None

    def count(self) -> int:
        """Return 1: torch sees the host as one device."""
        return 1

    def process_limit(self) -> int | None:
        """Return None: processes share the host."""
        return None

    def torch_device(self, index: int | None = None) -> torch.device:
        """Return the device without an index: every process of a run shares the host."""
        return torch.device(self.kind)

    def activate(self, index: int | None = None) -> torch.device:
        """Return the device; several processes may use it, so any index is accepted.

        Raises:
            DeviceError: A number was asked for by name, as in ``cpu:1``.
        """
        if self.index:
            raise DeviceError(f"--device cpu:{self.index}: the CPU is one device; write --device cpu.")
        return self.torch_device()

    def info(self, index: int | None = None) -> DeviceInfo:
        """Describe the processor and the host's memory."""
        return DeviceInfo(
            kind=self.kind,
            name=_processor_name(),
            count=self.count(),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            versions={"cpu_capability": torch.backends.cpu.get_cpu_capability()},
        )

    def supports_bf16(self) -> bool:
        """Return True: torch emulates bfloat16 where the processor lacks it."""
        return True

    def synchronize(self) -> None:
        """Do nothing: work on the host is done when the call returns."""

    def rng_state(self) -> torch.Tensor | None:
        """Return None: the host's generator is saved with the process, not with the device."""

    def set_rng_state(self, state: torch.Tensor | None) -> None:
        """Do nothing: there is no generator beside the host's."""

    def peak_memory_bytes(self) -> int:
        """Return the process's peak resident size."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def reset_peak_memory(self) -> None:
        """Do nothing: the system keeps one peak for the life of a process."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether the host could not give memory."""
        return out_of_memory_error(error, "can't allocate memory", "not enough memory", "cannot allocate memory")


def _processor_name() -> str:
    """Return the processor's trade name where the system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(("model name", "Hardware")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
