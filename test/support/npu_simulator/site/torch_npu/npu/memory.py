"""Memory counters; the simulator counts what tensors hold."""

import npusim_native as _native

from torch_npu.npu.utils import device_index


def memory_allocated(device=None) -> int:
    """Return the bytes tensors hold now."""
    return _native.memory_allocated(device_index(device))


def max_memory_allocated(device=None) -> int:
    """Return the most bytes tensors held at once."""
    return _native.memory_peak(device_index(device))


def memory_reserved(device=None) -> int:
    """Return the same as ``memory_allocated``: nothing is cached."""
    return memory_allocated(device)


def reset_peak_memory_stats(device=None) -> None:
    """Start the peak anew."""
    _native.reset_peak(device_index(device))


def mem_get_info(device=None) -> tuple[int, int]:
    """Return the free and the total bytes; NPUSIM_MEMORY_MB sets the total."""
    _native.check_usable()
    total = _native.total_memory()
    return total - memory_allocated(device), total


def empty_cache() -> None:
    """Do nothing: nothing is cached."""
