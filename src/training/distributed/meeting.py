"""Where the processes of a run meet when the launcher does not say: MASTER_ADDR and MASTER_PORT."""

import os
from collections.abc import Mapping

from open_clip.errors import ConfigError
from training.distributed.env import World
from training.distributed.rank_table import read_rank_table
from training.distributed.slurm import first_host, job_port

_DEFAULT_PORT = 29500


def meeting_variables(world: World, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the variables that torch's ``env://`` needs and the launcher left out.

    Raises:
        ConfigError: The processes stand on several machines and nothing names the first.
    """
    found = {"RANK": str(world.rank), "WORLD_SIZE": str(world.world_size)}
    found["MASTER_ADDR"] = environ.get("MASTER_ADDR") or _master_address(world, environ)
    found["MASTER_PORT"] = environ.get("MASTER_PORT") or str(
        job_port(environ) if "SLURM_JOB_ID" in environ else _DEFAULT_PORT
    )
    return {name: value for name, value in found.items() if environ.get(name) != value}


def _master_address(world: World, environ: Mapping[str, str]) -> str:
    if world.local_world_size == world.world_size:
        return "127.0.0.1"
    for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
        if environ.get(name):
            return first_host(environ[name])
    if world.launcher == "ascend" and os.path.isfile(environ.get("RANK_TABLE_FILE", "")):
        return read_rank_table(environ["RANK_TABLE_FILE"]).devices[0].server
    raise ConfigError(
        f"{world.world_size} processes were started and MASTER_ADDR does not say where they meet. Set it to the host "
        "name of rank 0 in all of them (`mpirun -x MASTER_ADDR=HOST` with Open MPI, `-genv MASTER_ADDR HOST` with "
        "Intel MPI), or give --dist-url tcp://HOST:PORT."
    )
