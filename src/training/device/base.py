"""The questions the trainer asks of a device; one subclass answers them for each kind of hardware.

Knows no hardware by name. Choosing a device is in ``select``, mixed precision in ``precision`` and ``mixed``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from open_clip.transformer.layout import TextShapes

if TYPE_CHECKING:
    from training.device.copies import CopyStream


@dataclass(frozen=True)
class DeviceInfo:
    """What a log or a report says about a device; plain values only."""

    kind: str
    name: str
    count: int
    memory_bytes: int | None
    versions: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Describe the device in one line: name, memory and versions."""
        versions = "".join(f", {name} {number}" for name, number in self.versions.items())
        memory = "" if self.memory_bytes is None else f", {self.memory_bytes / 2**30:.1f} GiB"
        return f"{self.name}{memory}{versions}"


class StepProfiler(Protocol):
    """What records a few steps; its files are its own."""

    def start(self) -> None:
        """Begin with the step that comes."""

    def step(self) -> None:
        """Hear that a step is done."""

    def stop(self) -> str:
        """End the record and say where it lies and what opens it.

        Raises:
            OSError: It could not be written.
        """


class Device(ABC):
    """One kind of hardware, and the index that was asked for by name.

    Building one touches no hardware: ask :meth:`missing` first, then :meth:`activate` once per process.
    """

    kind: str
    collective_backend: str
    pin_memory: bool = False
    #: Which text shapes suit this device: ``packed`` (no padding), ``bucketed`` (a few lengths) or ``padded`` (one).
    text_shapes: TextShapes = "padded"

    def __init__(self, index: int | None = None) -> None:
        self.index = index
        self._current = index or 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(index={self.index})"

    @abstractmethod
    def missing(self) -> str | None:
        """Say in one line why this device cannot be used here; None when it can."""

    @abstractmethod
    def count(self) -> int:
        """Count the devices of this kind that are visible."""

    def process_limit(self) -> int | None:
        """Return how many processes of one machine can train here, one a device; None for any number."""
        return self.count()

    @abstractmethod
    def info(self, index: int | None = None) -> DeviceInfo:
        """Describe one device: name, memory and the versions of its software."""

    @abstractmethod
    def supports_bf16(self) -> bool:
        """Tell whether bfloat16 arithmetic works on the current device."""

    def software(self) -> dict[str, str]:
        """Return the versions of the device's software as far as it tells them without being started, by name."""
        return {}

    def compiler_fault(self) -> str | None:
        """Say in one line why no kernels can be compiled for this device (``--torchcompile``); None when they can."""
        return None

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all work given to the device is done."""

    @abstractmethod
    def peak_memory_bytes(self) -> int:
        """Return the most memory in use at once since the last reset."""

    @abstractmethod
    def reset_peak_memory(self) -> None:
        """Start the peak anew, where the device can."""

    @abstractmethod
    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether an error means that memory ran out."""

    def torch_device(self, index: int | None = None) -> torch.device:
        """Return the device as torch names it; ``None`` is the index asked for by name, else 0."""
        return torch.device(self.kind, self._resolve(index))

    def activate(self, index: int | None = None) -> torch.device:
        """Make a device the current one of this process and set what must be set once.

        Raises:
            DeviceError: There is no device of this index.
        """
        self._current = self._resolve(index)
        return self.torch_device(self._current)

    def grad_scaler(self, loss_scale: float | None) -> torch.amp.GradScaler:
        """Build the scaler of fp16 losses.

        Args:
            loss_scale: A fixed scale, or None for one that follows overflows.
        """
        scaler = torch.amp.GradScaler(self.kind, init_scale=2.0**16 if loss_scale is None else loss_scale)
        if loss_scale is not None:
            # Overflowing steps are still skipped; only the scale stays as it was asked for.
            scaler.set_growth_factor(1.0)
            scaler.set_backoff_factor(1.0)
        return scaler

    @abstractmethod
    def rng_state(self) -> torch.Tensor | None:
        """Return the state of the device's own random generator; None when it has none beside the host's."""

    @abstractmethod
    def set_rng_state(self, state: torch.Tensor | None) -> None:
        """Put back what :meth:`rng_state` returned."""

    def set_deterministic(self, on: bool) -> None:
        """Ask for kernels that give the same bits every time, or stop asking."""
        # torch.use_deterministic_algorithms says the same and tells the compiler, whose import costs seconds at each
        # start; what compiles a model tells it.
        torch.set_deterministic_debug_mode("error" if on else "default")

    def hang_environment(self, timeout_s: float = 1800.0) -> dict[str, str]:
        """Return environment variables to set before the process group starts, unless the user has set them.

        Args:
            timeout_s: Seconds a collective may wait; the libraries' own limits are kept under it.
        """
        return {}

    def collective_trace(self) -> str | None:
        """Return the collective library's record of its last calls, as JSON; None where it keeps none."""
        return None

    def profiler_activities(self) -> list[Any]:
        """List what torch's profiler should record here."""
        return [torch.profiler.ProfilerActivity.CPU]

    def step_profiler(self, folder: Path, name: str, steps: int) -> StepProfiler | None:
        """Make the device's own profiler of the next steps; None where torch's is the one to use.

        Args:
            folder: Where it writes; it is there.
            name: How the names of what it writes begin.
            steps: How many steps it records.
        """
        return None

    def optimizer_options(self, parameters: Iterable[torch.Tensor]) -> dict[str, bool]:
        """Choose the implementation of torch's Adam family for these parameters: fused, foreach or plain."""
        return {"fused": True} if self._can_fuse(parameters) else {}

    def can_skip_update(self, optimizer: torch.optim.Optimizer) -> bool:
        """Tell whether this optimizer's step, where its ``found_inf`` holds 1, changes nothing without asking the host.

        torch's fused kernels do, where the device has torch's own; anything else needs the host to decide.
        """
        return False

    def read_later(self, values: torch.Tensor) -> Callable[[], list[float]]:
        """Start bringing a small float tensor to the host.

        Returns:
            What gives the values; called a step later it waits for this copy alone, not for the work given since.
        """
        if not self.pin_memory or values.device.type == "cpu":
            return values.tolist
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = self._make_event()
        arrived.record()

        def read() -> list[float]:
            arrived.synchronize()
            numbers: list[float] = host.tolist()
            return numbers

        return read

    def move(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy a tensor to the current device, without waiting when it comes from pinned memory."""
        target = self.torch_device(self._current)
        # Asking a tensor whether it is pinned costs a driver call; only host tensors can be.
        return tensor.to(target, non_blocking=tensor.device != target and self.pin_memory and tensor.is_pinned())

    def copy_stream(self) -> "CopyStream | None":
        """Make a stream for copies that run beside the computing; None where a copy is done when its call returns."""
        return None

    def begin_step(self) -> None:  # noqa: B027 (most devices replay no graphs)
        """Hear that an optimizer step begins, whose graphs may write over what those of the step before gave."""

    def _make_event(self) -> Any:
        """Make an event of the device's current stream."""
        return torch.Event(self.kind)

    def _can_fuse(self, parameters: Iterable[torch.Tensor]) -> bool:
        """Tell whether one fused kernel may update all of these."""
        return all(p.is_floating_point() and p.device.type == self.kind and not p.is_sparse for p in parameters)

    def _resolve(self, index: int | None) -> int:
        """Turn an optional index into a number: the one given, the one asked for by name, or 0."""
        return index if index is not None else self.index or 0


def out_of_memory_error(error: BaseException, *phrases: str) -> bool:
    """Tell whether an error is torch's out-of-memory error or speaks one of these phrases."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in message for phrase in phrases)
