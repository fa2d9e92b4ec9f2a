"""What Slurm's variables say beyond ranks: tasks of a node, the first node's name, a port; asks no program."""

import re
from collections.abc import Mapping

_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")
_PORTS = (20000, 10000)


def expand_counts(text: str) -> list[int]:
    """Read Slurm's short form of a number for each node: ``4(x2),3`` is 4, 4, 3; empty when it is another thing."""
    counts: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = _COUNT.fullmatch(part)
        if match is None:
            return []
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def tasks_on_this_node(environ: Mapping[str, str]) -> int | None:
    """Count this node's tasks of the step; None when Slurm does not say."""
    node = environ.get("SLURM_NODEID", "")
    for name in ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"):
        counts = expand_counts(environ.get(name, ""))
        if len(counts) == 1 and (name == "SLURM_NTASKS_PER_NODE" or node in ("", "0")):
            return counts[0]
        if node.isdigit() and int(node) < len(counts):
            return counts[int(node)]
    return None


def first_host(node_list: str) -> str:
    """Name the first host of Slurm's short form: ``gpu[07-09,12],login`` starts with gpu07."""
    name, depth = "", 0
    for char in node_list:
        if char == "," and depth == 0:
            break
        depth += {"[": 1, "]": -1}.get(char, 0)
        name += char
    # In each bracket the first number of the first range; there may be several brackets.
    return re.sub(r"\[([^\]]*)\]", lambda match: re.split(r"[,-]", match[1])[0], name)


def job_port(environ: Mapping[str, str]) -> int:
    """Choose the same port in all tasks of a job, another one for another job."""
    first, count = _PORTS
    job = environ.get("SLURM_JOB_ID", "0")
    return first + (int(job) if job.isdigit() else 0) % count
