"""Seconds and bytes as the operating system and the device count them, for this process and its workers."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_STATUS = Path("/proc/self/status")


def cpu_seconds() -> float:
    """Return the processor seconds of this process, of its living workers and of those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    living = sum(_ticks(pid) for pid in _descendants(os.getpid())) * _TICK_S
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + living


def synchronize(device: str) -> None:
    """Wait for the device; the host needs no waiting."""
    if device != "cpu":
        torch.get_device_module(device).synchronize()


def measure(work: Callable[[], int], device: str) -> dict[str, float]:
    """Run a block of work once.

    Returns:
        Wall, processor and, on a device, event seconds, and how many units were done.
    """
    events: list[Any] = []
    synchronize(device)
    cpu, wall = cpu_seconds(), time.perf_counter()
    if device != "cpu":
        events = [torch.get_device_module(device).Event(enable_timing=True) for _ in range(2)]
        events[0].record()
    units = work()
    if events:
        events[1].record()
    synchronize(device)
    figures = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_seconds() - cpu, "units": units}
    if events:
        figures["device_s"] = events[0].elapsed_time(events[1]) / 1e3
    return figures


def measure_memory(work: Callable[[], object], device: str) -> dict[str, int]:
    """Run work once in a process that has made its inputs and nothing else.

    Returns:
        Bytes in use before, and the most in use at once while it ran: VmRSS and VmHWM on a host.
    """
    if device != "cpu":
        # By the device's own module: not every plug-in answers torch.accelerator.
        module = torch.get_device_module(device)
        module.reset_peak_memory_stats()
        before = int(module.memory_allocated())
        work()
        synchronize(device)
        return {"before_bytes": before, "peak_bytes": int(module.max_memory_allocated())}
    _forget_peak()
    before = _status_bytes("VmRSS")
    work()
    return {"before_bytes": before, "peak_bytes": max(_status_bytes("VmHWM"), before)}


def _forget_peak() -> None:
    """Start VmHWM anew at VmRSS, where the kernel allows it: making inputs may have taken more for a moment."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _status_bytes(name: str) -> int:
    line = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = [int(word) for word in (task / "children").read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)] if Path(f"/proc/{child}").exists() else []
    return found


def _ticks(pid: int) -> int:
    """Return the clock ticks of a process and of its ended children; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(word) for word in fields[11:15])
