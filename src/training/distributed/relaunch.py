"""Spell how the processes of a run are started again, as the launcher that started them is used."""

import os
import shlex
import sys
from collections.abc import Mapping

from training.distributed.env import World


def launch_words(world: World, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Give the words before the trainer's flags, and where or how often to type them.

    Returns:
        (command up to and with ``-m training.main``, a note in brackets that starts with a space or is empty)
    """
    program = f"{shlex.quote(sys.executable)} -m training.main"
    if not world.is_distributed:
        return program, ""
    size, local = world.world_size, world.local_world_size
    if world.launcher == "slurm":
        nodes = environ.get("SLURM_STEP_NUM_NODES") or environ.get("SLURM_NNODES") or "1"
        return f"srun --nodes {nodes} --ntasks {size} {program}", " (in a job of the same nodes)"
    if world.launcher == "openmpi":
        note = "" if local == size else f" (on the same hosts, -x MASTER_ADDR={environ.get('MASTER_ADDR', 'HOST')})"
        return f"mpirun -n {size} {program}", note
    if world.launcher == "intelmpi":
        return f"mpirun -n {size} -ppn {local} {program}", "" if local == size else " (on the same hosts)"
    if world.launcher == "torchrun":
        return _torchrun_words(world, environ)
    return program, f" (in each of the {size} processes, with the variables of this start)"


def _torchrun_words(world: World, environ: Mapping[str, str]) -> tuple[str, str]:
    words = [shlex.quote(sys.executable), "-m", "torch.distributed.run"]
    restarts = environ.get("TORCHELASTIC_MAX_RESTARTS", "0")
    if restarts != "0":
        words += ["--max_restarts", restarts]
    nodes, note = environ.get("GROUP_WORLD_SIZE", "1"), ""
    if nodes != "1":
        meeting = f"{environ.get('MASTER_ADDR', 'HOST')}:{environ.get('MASTER_PORT', '29500')}"
        words += ["--nnodes", nodes, "--rdzv_backend", "c10d", "--rdzv_endpoint", meeting]
        note = f" (on each of the {nodes} nodes; --nproc_per_node is the node's own number)"
    words += ["--nproc_per_node", str(world.local_world_size), "-m", "training.main"]
    return " ".join(words), note
