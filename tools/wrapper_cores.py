"""Share the cores of this machine among the processes of a run: near each other, and none twice while there are enough.

It reads where cores are and pins nothing.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from open_clip.errors import ConfigError

# The hardware threads of one physical core; the cores of one NUMA node.
Core = tuple[int, ...]
Node = list[Core]


def read_nodes(sys_dir: Path = Path("/sys/devices/system"), usable: Iterable[int] | None = None) -> list[Node]:
    """Return the cores of each NUMA node, of those that this process may use.

    Args:
        sys_dir: where the kernel describes the machine; without it all cores are one node.
        usable: numbers of the cores that may be used; those of this process when None.
    """
    allowed = set(os.sched_getaffinity(0) if usable is None else usable)
    node_of = {
        cpu: int(path.parent.name.removeprefix("node"))
        for path in sys_dir.glob("node/node[0-9]*/cpulist")
        for cpu in parse_cpu_list(path.read_text(encoding="ascii").strip())
    }
    nodes: dict[int, dict[int, list[int]]] = {}
    for cpu in sorted(allowed):
        threads = sys_dir / f"cpu/cpu{cpu}/topology/thread_siblings_list"
        siblings = parse_cpu_list(threads.read_text(encoding="ascii").strip()) if threads.is_file() else [cpu]
        nodes.setdefault(node_of.get(cpu, 0), {}).setdefault(min(siblings), []).append(cpu)
    return [[tuple(threads) for _, threads in sorted(cores.items())] for _, cores in sorted(nodes.items())]


def share_cores(nodes: Sequence[Node], ranks: int) -> list[list[int]]:
    """Return the cores of each process, in their order; shared ones only where there are fewer cores than processes.

    No process gets cores of two nodes where the processes can be dealt evenly to the nodes.
    """
    each, over = divmod(ranks, len(nodes))
    if over == 0 and all(len(node) >= each for node in nodes):
        parts = [part for node in nodes for part in _split(node, each)]
    else:
        cores = [core for node in nodes for core in node]
        if len(cores) < ranks:
            cores = [(cpu,) for core in cores for cpu in core]
        parts = _split(cores, ranks)
    return [sorted(cpu for core in part for cpu in core) for part in parts]


def read_shares(text: str, ranks: int, usable: Iterable[int] | None = None) -> list[list[int]]:
    """Read the cores of each process from ``LIST;LIST;...``.

    Raises:
        ConfigError: a list is none, there is not one a process, or it names cores that this process may not use.
    """
    allowed = set(os.sched_getaffinity(0) if usable is None else usable)
    lists = text.split(";")
    if len(lists) != ranks:
        raise ConfigError(f"--cpu_lists has {len(lists)} lists for {ranks} processes; give one each, with ; between.")
    shares = []
    for part in lists:
        try:
            share = parse_cpu_list(part)
        except ValueError:
            raise ConfigError(f'--cpu_lists holds "{part}"; write a list of cores such as 0-5,12-17.') from None
        if not allowed.issuperset(share):
            beyond = format_cpu_list(set(share) - allowed)
            raise ConfigError(
                f"--cpu_lists names {beyond}; the cores that may be used here are {format_cpu_list(allowed)}."
            )
        shares.append(share)
    return shares


def parse_cpu_list(text: str) -> list[int]:
    """Return the numbers of a list such as ``0-3,8,16-30:2``.

    Raises:
        ValueError: it is none.
    """
    found: set[int] = set()
    for part in text.split(","):
        span, _, stride = part.partition(":")
        first, dash, last = span.partition("-")
        numbers = range(int(first), int(last if dash else first) + 1, int(stride or "1"))
        if not numbers or numbers[-1] > 1 << 20:
            raise ValueError(text)
        found.update(numbers)
    return sorted(found)


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Write numbers as a list such as ``0-3,8``."""
    spans: list[list[int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _split(cores: Sequence[Core], parts: int) -> list[Sequence[Core]]:
    """Cut a list into even parts; with fewer cores than parts, neighbours get the same one."""
    if len(cores) < parts:
        return [[cores[part * len(cores) // parts]] for part in range(parts)]
    return [cores[part * len(cores) // parts : (part + 1) * len(cores) // parts] for part in range(parts)]
