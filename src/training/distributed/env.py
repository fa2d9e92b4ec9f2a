"""Who this process is among its fellows, read from the launcher's environment variables; starts nothing."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from open_clip.errors import ConfigError

# (local rank, rank, world size, processes on this machine) as each launcher names them; the first complete row wins.
_LAUNCHERS = (
    ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    ("SLURM_LOCALID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"),
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPI_LOCALRANKID", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
)


@dataclass(frozen=True)
class World:
    """This process's place: rank of world_size, local_rank on its machine."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def is_master(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are fellows to talk to."""
        return self.world_size > 1


def world_from_environment(environ: Mapping[str, str] = os.environ) -> World:
    """Read torchrun's, Slurm's, Open MPI's or Intel MPI's variables.

    Raises:
        ConfigError: When a launcher's variables are incomplete in value: not numbers, or a rank outside its world.
    """
    for local_rank, rank, world_size, local_world_size in _LAUNCHERS:
        if rank not in environ or world_size not in environ:
            continue
        if world_size == "SLURM_NTASKS" and environ[world_size] == "1":
            continue
        try:
            world = World(
                rank=int(environ[rank]),
                local_rank=int(environ.get(local_rank, "0")),
                world_size=int(environ[world_size]),
                local_world_size=int(environ.get(local_world_size, environ[world_size])),
            )
        except ValueError as error:
            raise ConfigError(
                f"{rank}, {world_size} or {local_rank} in the environment is no number: {error}."
            ) from error
        if not 0 <= world.rank < world.world_size:
            raise ConfigError(
                f"{rank}={world.rank} is outside 0..{world.world_size - 1} ({world_size}). Fix the launcher."
            )
        return world
    return World()
