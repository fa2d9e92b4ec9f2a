"""How many processor cores this process may use, and the loader processes that makes sense; pins nothing."""

import contextlib
import math
import os
from pathlib import Path


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Count the cores that affinity and the container's quota leave to this process; 1 at least.

    Args:
        cgroups: where the kernel shows quotas, of version 2 or 1.
        own: file that says where in there this process is.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(cgroups, own))))


def usable_workers(asked: int) -> int:
    """Give the loader processes to start of those asked for: no more than cores, as more only wait for each other."""
    return min(asked, usable_cores())


def _quota(cgroups: Path, own: Path) -> float:
    """Give the smallest quota from this process's group up, in cores; infinity where there is none."""
    group = ""
    with contextlib.suppress(OSError):
        # Version 2's line; in a container the path may lie outside of what it sees, and the root is its own then.
        lines = own.read_text(encoding="utf-8").splitlines()
        group = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder, quotas = cgroups / group, [math.inf]
    for place in (folder, *folder.parents):
        quotas.append(_ratio(place / "cpu.max"))
        if place == cgroups:
            break
    quotas.append(_ratio(cgroups / "cpu" / "cpu.cfs_quota_us", cgroups / "cpu" / "cpu.cfs_period_us"))
    return min(quotas)


def _ratio(*paths: Path) -> float:
    """Read a quota and its period, both in microseconds, from one file or two; infinity where nothing is limited."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (float(word) for path in paths for word in path.read_text(encoding="ascii").split())
        if quota > 0 and period > 0:
            return quota / period
    return math.inf
